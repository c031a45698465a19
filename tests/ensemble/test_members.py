"""Run folders written by hand -> the members of ensembles."""

from __future__ import annotations

from typing import Any

import pytest

from mask_lightning.ensemble.members import missing_members, read_members
from mask_lightning.errors import MaskLightningError

AGES = [f"age{i}" for i in range(9)]


def test_members_stand_in_the_order_of_their_ensembles(make_run) -> None:
    names = [None, "mask1", "age3", "gender2", "age0", "mask9"]
    folders = [make_run(str(i), name) for i, name in enumerate(names)]
    assert [member.name for member in read_members(folders)] == ["age0", "age3", "mask1", "mask9", "gender2", "0"]


def test_balanced_members_of_several_tasks(make_run) -> None:
    folders = [
        make_run(f"{task}{name}", name, task=task) for task in ("mask", "age") for name in ("balanced10", "balanced2")
    ]
    names = ["age balanced2", "age balanced10", "mask balanced2", "mask balanced10"]
    members = read_members(folders)
    assert [member.name for member in members] == names
    assert missing_members(members) == []


def test_runs_of_one_name_are_told_apart(make_run) -> None:
    folders = [make_run("monday/0"), make_run("tuesday/0"), make_run("other")]
    assert [member.name for member in read_members(folders)] == ["monday/0", "other", "tuesday/0"]


@pytest.mark.parametrize(
    ("present", "want"),
    [
        (AGES, []),
        (["age0", "age2", *AGES[4:]], ["age1", "age3"]),
        (["gender1", None], ["gender0", "gender2"]),
        ([None, None], []),
    ],
)
def test_missing_members_are_named(make_run, present: list[str | None], want: list[str]) -> None:
    members = read_members([make_run(str(i), name) for i, name in enumerate(present)])
    assert missing_members(members) == want


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"split_seed": 1}, r"data\.split_seed 0 in age0 and 1 in age1"),
        ({"val_fraction": 0.3}, r"data\.val_fraction 0\.2 in age0 and 0\.3 in age1"),
        ({"folds": 5, "fold": 2}, r"data\.folds None in age0 and 5 in age1"),
        ({"photos": "xyz"}, "fingerprint abc in age0 and xyz in age1"),
        ({"member": "age0"}, r"every member once, found age0 in .*0 and in .*1"),
        ({"member": "age12"}, r"no member 'age12'; did you mean age"),
    ],
)
def test_members_that_do_not_belong_together(make_run, other: dict[str, Any], message: str) -> None:
    folders = [make_run("0", "age0"), make_run("1", **{"member": "age1", **other})]
    with pytest.raises(MaskLightningError, match=message):
        read_members(folders)
