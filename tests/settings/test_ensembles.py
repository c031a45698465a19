"""The members' names."""

from __future__ import annotations

import pytest

from mask_lightning.errors import ConfigError
from mask_lightning.labels import AGE, GENDER, MASK, Task
from mask_lightning.settings.ensembles import ENSEMBLES, find_member


def test_there_are_as_many_members_as_the_original_entry_had() -> None:
    assert {name: ensemble.size for name, ensemble in ENSEMBLES.items()} == {"age": 9, "mask": 10, "gender": 3}


@pytest.mark.parametrize(
    ("name", "task", "number"), [("age0", AGE, 0), ("age8", AGE, 8), ("mask9", MASK, 9), ("gender2", GENDER, 2)]
)
def test_a_member_is_found_by_its_name(name: str, task: Task, number: int) -> None:
    ensemble, found = find_member(name)
    assert ensemble is not None
    assert (ensemble.task, found) == (task, number)


def test_a_balanced_member_is_for_any_task() -> None:
    assert find_member("balanced12") == (None, 12)


@pytest.mark.parametrize("name", ["age9", "mask10", "gender3", "race0", "age", "balanced", ""])
def test_an_unknown_member_is_answered_with_near_ones(name: str) -> None:
    with pytest.raises(ConfigError, match=r"no member .*(age|mask|gender|balanced)\d"):
        find_member(name)
