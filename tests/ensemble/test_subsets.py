"""The training rows of ensemble members: balanced, by person, the same for the same seed."""

from __future__ import annotations

from itertools import combinations
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mask_lightning.ensemble.subsets import balanced_rows, member_rows
from mask_lightning.errors import SplitError
from mask_lightning.labels import GENDER, MASK, UNLABELLED, Task

SHOTS = (("incorrect_mask", 1), *((f"mask{i}", 0) for i in range(1, 6)), ("normal", 2))


def table(people: dict[tuple[int, int], int], shots: tuple[tuple[str, int], ...] = SHOTS) -> pd.DataFrame:
    """`people[gender, age]` people with seven photos each."""
    rows = []
    for (gender, age), size in people.items():
        for _ in range(size):
            name = f"{len(rows) // len(shots):04d}"
            person = {"person_id": name, "family": name, "gender": gender, "age": age}
            rows += [{**person, "path": f"{name}/{shot}.jpg", "mask": mask} for shot, mask in shots]
    return pd.DataFrame(rows)


# 4 men and 11 women; 7 below 30, 6 of 30-59, 2 of 60 and over
FEW = table({(0, 0): 2, (1, 0): 5, (0, 1): 1, (1, 1): 5, (0, 2): 1, (1, 2): 1})


def people_of(rows: pd.DataFrame, column: str, target: int) -> set[str]:
    return set(rows.loc[rows[column] == target, "person_id"])


class TestAge:
    MEMBERS: ClassVar = [member_rows(FEW, f"age{i}", seed=0) for i in range(9)]
    WHOLE: ClassVar = [member_rows(FEW, f"age{i}", seed=0, match_minority=False) for i in range(9)]

    def test_a_member_has_everyone_of_sixty_and_as_many_of_each_other_band(self) -> None:
        for rows in self.MEMBERS:
            assert people_of(rows, "age", 2) == people_of(FEW, "age", 2)
            assert [len(people_of(rows, "age", band)) for band in range(3)] == [2, 2, 2]
            assert len(rows) == 6 * 7  # all photos of them, once

    @pytest.mark.parametrize("band", [0, 1])
    def test_whole_thirds_divide_each_band_into_three(self, band: int) -> None:
        thirds = {frozenset(people_of(rows, "age", band)) for rows in self.WHOLE}
        assert len(thirds) == 3
        assert sum(map(len, thirds)) == len(frozenset.union(*thirds)) == len(people_of(FEW, "age", band))

    def test_every_pair_of_parts_is_one_member(self) -> None:
        pairs = {(frozenset(people_of(r, "age", 0)), frozenset(people_of(r, "age", 1))) for r in self.MEMBERS}
        assert len(pairs) == 9

    def test_a_third_smaller_than_the_minority_is_kept_whole(self) -> None:
        rows = member_rows(table({(0, 0): 3, (0, 1): 30, (0, 2): 5}), "age4", seed=0)
        assert [len(people_of(rows, "age", band)) for band in range(3)] == [1, 5, 5]

    @pytest.mark.parametrize(
        ("people", "message"),
        [
            ({(0, 0): 9, (0, 1): 9}, "age >=60"),
            ({(0, 0): 9, (0, 2): 2}, "age 30-59"),
            ({(0, 0): 2, (0, 1): 9, (0, 2): 2}, "at least 3 people of age <30.*found 2"),
        ],
    )
    def test_a_band_without_enough_people_is_named(self, people: dict[tuple[int, int], int], message: str) -> None:
        with pytest.raises(SplitError, match=message):
            member_rows(table(people), "age0", seed=0)


class TestMask:
    MEMBERS: ClassVar = [member_rows(FEW, f"mask{i}", seed=0) for i in range(10)]

    def test_every_person_has_two_photos_of_each_state(self) -> None:
        for rows in self.MEMBERS:
            counts = rows.groupby(["person_id", "mask"]).size()
            assert set(counts) == {2}
            assert rows["person_id"].nunique() == FEW["person_id"].nunique()

    def test_each_member_has_another_two_of_the_five_worn_masks(self) -> None:
        worn = [rows[(rows["mask"] == 0) & (rows["person_id"] == "0003")] for rows in self.MEMBERS]
        pairs = {tuple(sorted(rows["path"])) for rows in worn}
        assert pairs == set(combinations([f"0003/mask{i}.jpg" for i in range(1, 6)], 2))

    def test_people_with_three_worn_masks_give_each_pair_of_them(self) -> None:
        rows = table({(0, 0): 2}, shots=SHOTS[:4] + SHOTS[-1:])
        pairs = {
            tuple(r.loc[r["mask"] == 0, "path"]) for r in (member_rows(rows, f"mask{i}", seed=0) for i in range(10))
        }
        assert len(pairs) == 3

    def test_a_single_worn_mask_is_used_once_and_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        rows = pd.concat([FEW, table({(0, 0): 1}, shots=SHOTS[:2] + SHOTS[-1:]).assign(person_id="9", family="9")])
        member = member_rows(rows, "mask3", seed=0)
        assert member[member["person_id"] == "9"]["mask"].value_counts().to_dict() == {0: 1, 1: 2, 2: 2}
        assert "1 of 16 people" in caplog.text

    def test_two_worn_masks_of_someone_are_required(self) -> None:
        with pytest.raises(SplitError, match="two or more photos of a worn mask, found none"):
            member_rows(table({(0, 0): 3}, shots=SHOTS[:2] + SHOTS[-1:]), "mask0", seed=0)

    def test_a_mask_state_without_photos_is_an_error(self) -> None:
        with pytest.raises(SplitError, match="mask normal"):
            member_rows(FEW[FEW["mask"] != 2], "mask0", seed=0)


class TestGender:
    @pytest.mark.parametrize(
        ("men", "women", "together", "shared"), [(4, 11, 8, 0), (4, 8, 8, 0), (4, 6, 6, 2), (4, 4, 4, 4), (1, 9, 2, 0)]
    )
    @pytest.mark.parametrize("more_men", [False, True])
    def test_two_parts_overlap_little_and_hold_many(
        self, men: int, women: int, together: int, shared: int, more_men: bool
    ) -> None:
        smaller, larger = (1, 0) if more_men else (0, 1)
        rows = table({(smaller, 0): men, (larger, 0): women})
        first, second, everyone = (member_rows(rows, f"gender{i}", seed=0) for i in range(3))
        for member in (first, second):
            assert people_of(member, "gender", smaller) == people_of(rows, "gender", smaller)
            assert len(people_of(member, "gender", larger)) == men
        parts = [people_of(member, "gender", larger) for member in (first, second)]
        assert (len(parts[0] | parts[1]), len(parts[0] & parts[1])) == (together, shared)
        pd.testing.assert_frame_equal(everyone, rows)

    def test_one_gender_only_is_an_error(self) -> None:
        with pytest.raises(SplitError, match="gender male"):
            member_rows(table({(1, 0): 5}), "gender0", seed=0)


@pytest.mark.parametrize("name", ["age3", "mask3", "gender1"])
class TestAnyMember:
    def test_the_same_seed_gives_the_same_rows_in_any_order_of_the_table(self, name: str) -> None:
        def paths(rows: pd.DataFrame) -> list[str]:
            return sorted(member_rows(rows, name, seed=5)["path"])

        assert paths(FEW) == paths(FEW.sample(frac=1, random_state=3))

    def test_only_rows_of_the_table_are_taken(self, name: str) -> None:
        assert set(member_rows(FEW, name, seed=1)["path"]) <= set(FEW["path"])


def test_another_seed_shuffles_the_people_anew() -> None:
    members = {frozenset(member_rows(FEW, "age0", seed=seed)["person_id"]) for seed in range(8)}
    assert len(members) > 1


class TestBalancedRows:
    @given(st.lists(st.integers(1, 6), min_size=4, max_size=4), st.integers(0, 3))
    @settings(max_examples=30, deadline=None)
    def test_every_class_has_as_many_people_as_the_rarest(self, sizes: list[int], number: int) -> None:
        races = Task("race", ("a", "b", "c", "d"))
        rows = pd.concat([table({(0, 0): size}).assign(race=i) for i, size in enumerate(sizes)], ignore_index=True)
        rows["person_id"] = rows["race"].astype(str) + rows["person_id"]
        rows["family"] = rows["person_id"]
        member = balanced_rows(rows, races, number, seed=0)
        assert member.groupby("race")["person_id"].nunique().tolist() == [min(sizes)] * 4
        assert set(member.groupby("person_id").size()) == {7}

    def test_a_task_that_varies_within_people_is_balanced_by_photo(self) -> None:
        assert balanced_rows(FEW, MASK, 0, seed=0)["mask"].value_counts().to_dict() == {0: 15, 1: 15, 2: 15}

    def test_a_member_is_chosen_by_name(self) -> None:
        named = member_rows(FEW, "balanced2", task=GENDER, seed=1)
        pd.testing.assert_frame_equal(named, balanced_rows(FEW, GENDER, 2, seed=1).reset_index(drop=True))

    def test_members_differ_and_repeat(self) -> None:
        paths = [frozenset(balanced_rows(FEW, GENDER, number, seed=0)["path"]) for number in (0, 1, 0)]
        assert paths[0] == paths[2] != paths[1]

    def test_unlabelled_photos_are_in_no_class(self) -> None:
        rows = FEW.assign(mask=np.where(FEW["mask"] == 2, UNLABELLED, FEW["mask"]))
        with pytest.raises(SplitError, match="mask normal"):
            balanced_rows(rows, MASK, 0, seed=0)
