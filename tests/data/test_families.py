"""Families: siblings by their ids, and families that share a person."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest

from mask_lightning.data.families import join_families, join_families_of_people, sibling_families
from mask_lightning.data.index import read_index


@pytest.mark.parametrize(
    ("ids", "want"),
    [
        (["000012", "000012-1", "000012-2"], ["000012"] * 3),
        (["000012-1", "000012"], ["000012"] * 2),
        (["000012-1", "000012-2"], ["000012-1", "000012-2"]),  # nobody is called 000012
        (["2021-000", "2021-001"], ["2021-000", "2021-001"]),
        (["site1-007", "site1-008", "site2-007"], ["site1-007", "site1-008", "site2-007"]),
        (["a", "a-1", "a-1-2"], ["a"] * 3),
        (["a-1", "a-1-2"], ["a-1"] * 2),
        (["a", "a-b", "b-"], ["a", "a-b", "b-"]),
        (["x", "x"], ["x", "x"]),
        ([], []),
    ],
)
def test_a_number_marks_a_sibling_only_of_an_id(ids: list[str], want: list[str]) -> None:
    families = sibling_families(ids)
    assert [families[person_id] for person_id in ids] == want


@pytest.mark.field_cases
def test_ids_with_dashes_are_people_of_their_own(field_cases: Path) -> None:
    table = read_index(field_cases / "dashed_ids")
    assert table["person_id"].nunique() == table["family"].nunique() == 30


@pytest.mark.parametrize(
    ("people", "families", "want"),
    [
        ("1122", "abcd", "aacc"),
        ("1212", "abba", "aaaa"),
        ("1234", "abba", "abba"),
        ("12233", "abccd", "abbbb"),  # through others
        ("11", "ba", "aa"),
    ],
)
def test_families_that_share_a_person_are_joined(
    people: str, families: str, want: str, caplog: pytest.LogCaptureFixture
) -> None:
    table = pd.DataFrame({"person_id": list(people), "family": list(families)})
    with caplog.at_level(logging.WARNING):
        joined = join_families_of_people(table, source="faces.csv")
    assert "".join(joined["family"]) == want
    assert ("people in faces.csv have photos of several families" in caplog.text) == (want != families)


def test_families_are_joined_by_any_group() -> None:
    families, one, other = (pd.Series(list(text)) for text in ("abcde", "xxyzw", "12233"))
    assert "".join(join_families(families, one, other)) == "aaadd"
