"""Choice of families that cover the classes, against a search through all choices."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from mask_lightning.data.class_cover import class_members, divide, first_with_all_classes, swap_to_cover
from mask_lightning.labels import FACE


def draw(trial: int) -> np.ndarray:
    """Draw class members of 4 to 8 families and 2 to 4 classes, of which each has two families or more."""
    rng = np.random.default_rng(trial)
    members = rng.random((rng.integers(4, 9), rng.integers(2, 5))) < 0.35
    return members[:, members.sum(0) > 1]


def covers(sides: np.ndarray, members: np.ndarray) -> bool:
    return bool((members[sides].any(0) & members[~sides].any(0)).all())


@pytest.mark.parametrize("trial", range(40))
def test_a_division_is_found_exactly_if_there_is_one(trial: int) -> None:
    members = draw(trial)
    preferred = np.random.default_rng(trial).random(len(members)) < 0.5
    every = [np.array(sides, bool) for sides in product((False, True), repeat=len(members))]
    possible = {int(sides.sum()) for sides in every if covers(sides, members)}
    for count in (None, *range(1, len(members))):
        found = divide(members, preferred, count)
        assert (found is not None) == (bool(possible) if count is None else count in possible)
        if found is not None:
            assert covers(found, members)
            assert count is None or found.sum() == count


@pytest.mark.parametrize("trial", range(40))
def test_swaps_keep_the_number_and_never_lose_a_class(trial: int) -> None:
    members = draw(trial)
    chosen = np.arange(len(members)) < len(members) // 2

    def misses(sides: np.ndarray) -> int:
        return int((~members[sides].any(0)).sum() + (~members[~sides].any(0)).sum())

    swapped = swap_to_cover(chosen, members)
    assert swapped.sum() == chosen.sum()
    assert misses(swapped) <= misses(chosen)
    if misses(chosen) == 0:
        assert (swapped == chosen).all()


@pytest.mark.parametrize("trial", range(40))
def test_the_first_families_stay_unless_a_class_is_missing(trial: int) -> None:
    members = draw(trial)
    for count in range(members.shape[1], len(members) + 1):
        chosen = first_with_all_classes(members, count)
        assert len(set(chosen)) == count
        assert members[chosen].any(0).all()
        if members[:count].any(0).all():
            assert chosen == list(range(count))


def test_members_of_classes() -> None:
    table = pd.DataFrame({"family": ["b", "a", "b"], "gender": [0, -1, 1]})
    found = class_members(table, FACE.only(["gender"]))
    assert found.loc["b"].tolist() == [True, True]
    assert found.loc["a"].tolist() == [False, False]
