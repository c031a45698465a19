"""Which photos, classes and people the network gets wrong: row numbers and counts, for pictures to be drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.inference.predictions import Predictions
from mask_lightning.labels import UNLABELLED
from mask_lightning.metrics.scores import people_of

Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ConfusedPair:
    """One class taken for another.

    Attributes:
        tasks: whose answers these are; several: their combined class.
        truth, said: names of the classes.
        photos, people: how many were confused.
        share: of all photos that truly are of that class.
        rows: those photos, the surest mistake first.
    """

    tasks: tuple[str, ...]
    truth: str
    said: str
    photos: int
    people: int
    share: float
    rows: Rows


@dataclass(frozen=True)
class Disagreement:
    """A person of whom different photos got different answers to what is the person's own.

    Attributes:
        person: the id.
        tasks: those in which the answers differ.
        rows: the person's photos.
        minority: share of answers, over all of the person's tasks, that differ from the most frequent one.
    """

    person: str
    tasks: tuple[str, ...]
    rows: Rows
    minority: float


@dataclass(frozen=True)
class Mistakes:
    """What is confused with what, and on whom.

    Attributes:
        pairs: confused classes of one task each, over all tasks, the most frequent first; `joint_pairs`: of the
            combined class of the labelled tasks, empty where there is only one.
        divided: people whose photos got different answers.
    """

    pairs: tuple[ConfusedPair, ...]
    joint_pairs: tuple[ConfusedPair, ...]
    divided: tuple[Disagreement, ...]


def find_mistakes(predictions: Predictions) -> Mistakes:
    """All confused pairs and divided people."""
    tasks = labelled_tasks(predictions)
    pairs = [pair for task in tasks for pair in confused_pairs(predictions, [task])]
    return Mistakes(
        pairs=tuple(sorted(pairs, key=lambda pair: (-pair.photos, -pair.share))),
        joint_pairs=tuple(confused_pairs(predictions, tasks)) if len(tasks) > 1 else (),
        divided=tuple(disagreements(predictions)),
    )


def labelled_tasks(predictions: Predictions) -> tuple[str, ...]:
    """Tasks whose truth is known on a photo or more."""
    return tuple(task for task in predictions.space.names if (predictions.targets[task] != UNLABELLED).any())


def total_losses(predictions: Predictions) -> npt.NDArray[np.float64]:
    """Sum of each photo's losses (N,) over the tasks whose truth is known; NaN where none is."""
    losses = np.stack([predictions.losses[task] for task in predictions.space.names]).astype(np.float64)
    return np.where(np.isnan(losses).all(axis=0), np.nan, np.nansum(losses, axis=0))


def are_right(predictions: Predictions, task: str) -> Flags:
    """Whether the answer is the truth (N,); False where the truth is not known."""
    right: Flags = np.equal(predictions.preds[task], predictions.targets[task])
    return right


def are_wrong(predictions: Predictions, task: str) -> Flags:
    """Whether the answer is known not to be the truth (N,)."""
    wrong: Flags = (predictions.targets[task] != UNLABELLED) & ~are_right(predictions, task)
    return wrong


def top_losses(predictions: Predictions, count: int, *, per_person: int = 1) -> Rows:
    """Rows of the `count` largest losses, the largest first, at most `per_person` of one person."""
    losses = total_losses(predictions)
    return _first(predictions, np.argsort(-losses, kind="stable"), ~np.isnan(losses), count, per_person)


def surest_wrong(predictions: Predictions, task: str, count: int, *, per_person: int = 1) -> Rows:
    """Rows that are wrong in `task`, the most probable answer first."""
    sure = predictions.probs[task].max(axis=1)
    return _first(predictions, np.argsort(-sure, kind="stable"), are_wrong(predictions, task), count, per_person)


def surest_right(predictions: Predictions, count: int, *, per_person: int = 1) -> Rows:
    """Rows that are right in every task that is labelled at all, the smallest loss first."""
    tasks = labelled_tasks(predictions) or predictions.space.names
    right = np.all([are_right(predictions, task) for task in tasks], axis=0)
    order = np.argsort(total_losses(predictions), kind="stable")
    return _first(predictions, order, right, count, per_person)


def confused_pairs(predictions: Predictions, tasks: Sequence[str]) -> list[ConfusedPair]:
    """Every pair of classes of `tasks` (combined, if several) that were confused, the most frequent first."""
    space = predictions.space.only(tasks)
    targets = {task: predictions.targets[task] for task in space.names}
    known = np.all([values != UNLABELLED for values in targets.values()], axis=0)
    truth = np.where(known, space.encode(targets), UNLABELLED)
    said = space.encode({task: predictions.preds[task] for task in space.names})
    probs = np.prod([predictions.probs[task].max(axis=1) for task in space.names], axis=0)
    people, names = people_of(predictions), space.code_names
    pairs = []
    for true, other in np.unique(np.stack([truth, said])[:, known & (truth != said)], axis=1).T:
        rows = np.flatnonzero((truth == true) & (said == other))
        pairs.append(
            ConfusedPair(
                tasks=space.names,
                truth=names[true],
                said=names[other],
                photos=len(rows),
                people=len(np.unique(people[rows])),
                share=float(len(rows) / (truth == true).sum()),
                rows=rows[np.argsort(-probs[rows], kind="stable")],
            )
        )
    return sorted(pairs, key=lambda pair: (-pair.photos, -pair.share))


def one_each(predictions: Predictions, rows: Rows, count: int) -> Rows:
    """The first `count` of `rows`, one of every person."""
    return _first(predictions, rows, np.ones(len(predictions), np.bool_), count, 1)


def person_tasks(predictions: Predictions) -> tuple[str, ...]:
    """Tasks whose truth is the same on all photos of a person, as gender is; none where nobody has two photos."""
    people = pd.Series(people_of(predictions))
    if not people.duplicated().any():
        return ()
    known = {task: pd.Series(values).where(values != UNLABELLED) for task, values in predictions.targets.items()}
    return tuple(task for task in predictions.space.names if known[task].groupby(people).nunique().max() == 1)


def disagreements(predictions: Predictions) -> list[Disagreement]:
    """People whose photos got different answers in a task of `person_tasks`, the most divided first."""
    tasks = person_tasks(predictions)
    said = predictions.preds
    found = []
    for person, rows in pd.Series(np.arange(len(predictions))).groupby(people_of(predictions)):
        chosen = rows.to_numpy()
        minorities = {task: 1 - np.bincount(said[task][chosen]).max() / len(chosen) for task in tasks}
        divided = tuple(task for task in tasks if minorities[task])
        if divided:
            found.append(Disagreement(str(person), divided, chosen, float(np.mean(list(minorities.values())))))
    return sorted(found, key=lambda each: -each.minority)


def _first(predictions: Predictions, order: Rows, wanted: Flags, count: int, per_person: int) -> Rows:
    """The first `count` of `order` that are `wanted`, at most `per_person` of one person."""
    rows = order[wanted[order]]
    turn = pd.Series(people_of(predictions)[rows]).groupby(people_of(predictions)[rows]).cumcount().to_numpy()
    return rows[turn < per_person][:count]
