"""The re-balanced training rows of one ensemble member: by person, and the same whenever the seed is the same."""

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

AGE_PARTS = 3  # of the people in each of the two larger age bands

People = npt.NDArray[np.integer[Any]]  # numbers of people, see `_people`


@dataclass(frozen=True)
class Draw:
    """Which member, of which shuffle; `match_minority` as in `member_rows`."""

    number: int
    seed: int
    match_minority: bool


def member_rows(
    rows: pd.DataFrame, name: str, *, seed: int, task: Task | None = None, match_minority: bool = True
) -> pd.DataFrame:
    """The rows of the sample table that the member `name` is trained on; a doubled photo stands there twice.

    The members of one ensemble are parts of one and the same shuffle, so all must be given the same rows and seed.

    Args:
        rows: the training side of a split.
        name: age0..age8, mask0..mask9, gender0..gender2, or balanced0, balanced1, ...
        seed: of the shuffle.
        task: what a `balanced` member learns; the others know.
        match_minority: whether age members have as many people below 30 and of 30-59 as there are of 60 and over (the
            original entry's way), or whole thirds of them, so that everyone is in some member.

    Raises:
        SplitError: no such member, a class without people, fewer people than parts, too few worn masks.
    """
    ensemble, number = find_member(name)
    if ensemble is None:
        assert task is not None
        return balanced_rows(rows, task, number, seed=seed).reset_index(drop=True)
    return _TAKE[ensemble.task.name](rows, Draw(number, seed, match_minority)).reset_index(drop=True)


def balanced_rows(rows: pd.DataFrame, task: Task, number: int, *, seed: int) -> pd.DataFrame:
    """Member `number` of any task: as many units of every class as the rarest class has, drawn anew for each member.

    EasyEnsemble's undersampling (Liu, Wu and Zhou 2009, "Exploratory undersampling for class-imbalance learning"). A
    unit is a person with all their photos where no person has two classes of the task, else a photo.

    Raises:
        SplitError: a class without photos.
    """
    of_people = rows.groupby(["family", "person_id"])[task.name].nunique().max() == 1
    unit = _people(rows) if of_people else np.arange(len(rows))
    by_class = _by_class(rows, unit, task)
    size = min(map(len, by_class))
    generator = np.random.default_rng((seed, number))
    return rows[np.isin(unit, np.concatenate([generator.choice(units, size, replace=False) for units in by_class]))]


def _age_rows(rows: pd.DataFrame, draw: Draw) -> pd.DataFrame:
    """Everyone of 60 and over, one of three parts of the people below 30, and one of those of 30-59."""
    person = _people(rows)
    young, middle, old = (_shuffled(people, draw.seed) for people in _by_class(rows, person, AGE))
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
    """Of every person two of the five photos of a worn mask, and twice those of a wrong one and of none."""
    _by_class(rows, _people(rows), MASK)
    worn = rows[rows[MASK.name] == MASK.target("wear")].sort_values(["family", "person_id", "path"])
    shots = worn.groupby(["family", "person_id"])
    place, count = shots.cumcount(), shots["path"].transform("size")
    few = int((shots.size() < 2).sum())
    if few == shots.ngroups:
        raise SplitError(
            "expected people with two or more photos of a worn mask, found none; add photos, or train without member"
        )
    if few:
        log.warning("%d of %d people have one photo of a worn mask only: it is not doubled", few, shots.ngroups)
    pairs = {size: list(combinations(range(size), 2)) or [(0, 0)] for size in count.unique()}
    chosen = [at in pairs[size][draw.number % len(pairs[size])] for at, size in zip(place, count, strict=True)]
    rare = rows[rows[MASK.name].isin([MASK.target("incorrect"), MASK.target("normal")])]
    return pd.concat([worn[chosen], rare, rare]).sort_values(["family", "person_id", "path"])


def _gender_rows(rows: pd.DataFrame, draw: Draw) -> pd.DataFrame:
    """The smaller gender with the first or the last people of the shuffled larger one, or everyone."""
    if draw.number == 2:
        return rows
    person = _people(rows)
    smaller, larger = sorted((_shuffled(people, draw.seed) for people in _by_class(rows, person, GENDER)), key=len)
    part = larger[: len(smaller)] if draw.number == 0 else larger[len(larger) - len(smaller) :]
    return rows[np.isin(person, np.concatenate([smaller, part]))]


_TAKE: dict[str, Callable[[pd.DataFrame, Draw], pd.DataFrame]] = {
    "age": _age_rows,
    "mask": _mask_rows,
    "gender": _gender_rows,
}


def _people(rows: pd.DataFrame) -> People:
    """Each row's person, numbered in the order of their names, so that the order of the rows does not matter."""
    return rows.groupby(["family", "person_id"]).ngroup().to_numpy(np.int64)


def _by_class(rows: pd.DataFrame, unit: People, task: Task) -> list[People]:
    """Per class of the task its units, ascending; unlabelled rows are in none."""
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
