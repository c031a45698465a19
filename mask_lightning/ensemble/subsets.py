"""Re-balanced subsets of the training rows, one for each member of an ensemble.

Subsets are chosen by person and depend on the seed alone, not on the order of the rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.errors import SplitError
from mask_lightning.labels import AGE, GENDER, MASK, Task
from mask_lightning.settings.ensembles import find_member

log = logging.getLogger(__name__)

AGE_PARTS = 3  # parts into which the people of each of the two younger age bands are split

People = npt.NDArray[np.integer[Any]]  # indices of people, see `_person_index`


@dataclass(frozen=True)
class Draw:
    """Number of the member, seed of the shuffle, and `match_minority` of `member_rows`."""

    number: int
    seed: int
    match_minority: bool


def member_rows(
    rows: pd.DataFrame, name: str, *, seed: int, task: Task | None = None, match_minority: bool = True
) -> pd.DataFrame:
    """Choose the training rows of a member; an oversampled photo occurs twice.

    All members of an ensemble need the same rows and seed, because they are parts of one shuffle.

    Args:
        rows: training side of a split.
        name: age0..age8, mask0..mask9, gender0..gender2, or balanced0, balanced1, ...
        seed: of the shuffle.
        task: task of a `balanced` member; other names imply their task.
        match_minority: True limits the younger people in age members to the number of people of 60 and over, as in the
            original entry. False takes whole thirds, so that everyone is in some member.

    Raises:
        SplitError: there is no such member, a class has no people, there are fewer people than parts, or too few photos
            of worn masks.
    """
    ensemble, number = find_member(name)
    if ensemble is None:
        assert task is not None
        return balanced_rows(rows, task, number, seed=seed).reset_index(drop=True)
    return _ROWS[ensemble.task.name](rows, Draw(number, seed, match_minority)).reset_index(drop=True)


def restore_member_rows(used: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the result of `member_rows` from the photos that it chose, each once, in the order of the split."""
    ensemble, _ = find_member(name)
    rows = _oversample(used) if ensemble is not None and ensemble.task == MASK else used
    return rows.reset_index(drop=True)


def balanced_rows(rows: pd.DataFrame, task: Task, number: int, *, seed: int) -> pd.DataFrame:
    """Undersample: draw as many units of every class as the rarest class has.

    EasyEnsemble (Liu, Wu & Zhou 2009, "Exploratory undersampling for class-imbalance learning"). A unit is a person
    with all their photos if nobody has two classes of the task, otherwise a photo.

    Args:
        rows: training side of a split.
        task: to balance.
        number: of the member; each draws independently.
        seed: of the draws.

    Raises:
        SplitError: a class has no photos.
    """
    of_people = rows.groupby(["family", "person_id"])[task.name].nunique().max() == 1
    unit = _person_index(rows) if of_people else np.arange(len(rows))
    by_class = _units_by_class(rows, unit, task)
    size = min(map(len, by_class))
    generator = np.random.default_rng((seed, number))
    return rows[np.isin(unit, np.concatenate([generator.choice(units, size, replace=False) for units in by_class]))]


def _age_rows(rows: pd.DataFrame, draw: Draw) -> pd.DataFrame:
    """Take everyone of 60 and over, one third of the people below 30, and one third of those of 30-59."""
    person = _person_index(rows)
    young, middle, old = (_shuffled(people, draw.seed) for people in _units_by_class(rows, person, AGE))
    for people, name in ((young, AGE.classes[0]), (middle, AGE.classes[1])):
        if len(people) < AGE_PARTS:
            raise SplitError(
                f"expected at least {AGE_PARTS} people of age {name} to make parts of, found {len(people)}; "
                "add such people"
            )
    picked = tuple(product(range(AGE_PARTS), repeat=2))[draw.number]
    parts = [np.array_split(people, AGE_PARTS)[i] for people, i in zip((young, middle), picked, strict=True)]
    limit = len(old) if draw.match_minority else None
    return rows[np.isin(person, np.concatenate([old, *(part[:limit] for part in parts)]))]


def _mask_rows(rows: pd.DataFrame, draw: Draw) -> pd.DataFrame:
    """Take two of the five photos of a worn mask of every person, and the photos of both other classes twice."""
    _units_by_class(rows, _person_index(rows), MASK)
    worn = rows[rows[MASK.name] == MASK.target("wear")].sort_values(["family", "person_id", "path"])
    shots = worn.groupby(["family", "person_id"])
    place, count = shots.cumcount(), shots["path"].transform("size")
    few = int((shots.size() < 2).sum())
    if few == shots.ngroups:
        raise SplitError(
            "expected people with two or more photos of a worn mask, found none; add photos, or train without member"
        )
    if few:
        log.warning("%d of %d people have only one photo of a worn mask, which is used once", few, shots.ngroups)
    pairs = {size: list(combinations(range(size), 2)) or [(0, 0)] for size in count.unique()}
    chosen = [at in pairs[size][draw.number % len(pairs[size])] for at, size in zip(place, count, strict=True)]
    rare = rows[rows[MASK.name].isin([MASK.target("incorrect"), MASK.target("normal")])]
    return _oversample(pd.concat([worn[chosen], rare]))


def _oversample(rows: pd.DataFrame) -> pd.DataFrame:
    """Repeat the photos of the rare mask states, in the order of the people."""
    rare = rows[rows[MASK.name].isin([MASK.target("incorrect"), MASK.target("normal")])]
    return pd.concat([rows, rare]).sort_values(["family", "person_id", "path"])


def _gender_rows(rows: pd.DataFrame, draw: Draw) -> pd.DataFrame:
    """Take the smaller gender and as many people of the larger one, the first or last of a shuffle; or everyone."""
    if draw.number == 2:
        return rows
    person = _person_index(rows)
    smaller, larger = sorted(
        (_shuffled(people, draw.seed) for people in _units_by_class(rows, person, GENDER)), key=len
    )
    part = larger[: len(smaller)] if draw.number == 0 else larger[len(larger) - len(smaller) :]
    return rows[np.isin(person, np.concatenate([smaller, part]))]


_ROWS: dict[str, Callable[[pd.DataFrame, Draw], pd.DataFrame]] = {
    "age": _age_rows,
    "mask": _mask_rows,
    "gender": _gender_rows,
}


def _person_index(rows: pd.DataFrame) -> People:
    """Index of each row's person, in the order of the ids, so that the order of the rows does not matter."""
    return rows.groupby(["family", "person_id"]).ngroup().to_numpy(np.int64)


def _units_by_class(rows: pd.DataFrame, unit: People, task: Task) -> list[People]:
    """Collect the units of each class, in ascending order; unlabelled rows belong to none."""
    target = rows[task.name].to_numpy()
    by_class = [np.unique(unit[target == i]) for i in range(task.num_classes)]
    for name, units in zip(task.classes, by_class, strict=True):
        if not len(units):
            raise SplitError(
                f"expected training photos of {task.name} {name} to balance the others with, found none; "
                "add some, or train without member"
            )
    return by_class


def _shuffled(people: People, seed: int) -> People:
    return np.random.default_rng(seed).permutation(people)
