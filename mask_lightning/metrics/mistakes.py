"""Mistakes of a model: confused classes, people with contradicting preds, photos with the largest losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.labels import UNLABELLED
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.metrics.scores import people_of

Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ConfusedPair:
    """One class predicted for another.

    Attributes:
        tasks: the task; several tasks for their combined class.
        target, pred: names of the true and of the predicted class.
        photos, people: how many were confused.
        share: confused share of the photos of the true class.
        rows: row numbers of these photos (photos,), the most probable pred first.
    """

    tasks: tuple[str, ...]
    target: str
    pred: str
    photos: int
    people: int
    share: float
    rows: Rows


@dataclass(frozen=True)
class DividedPerson:
    """A person whose photos got different preds in a task such as gender, whose target belongs to the person.

    Attributes:
        person: the id.
        tasks: tasks with different preds.
        rows: row numbers of the person's photos.
        minority: share of preds that differ from the most frequent one, mean over the tasks of `person_tasks`.
    """

    person: str
    tasks: tuple[str, ...]
    rows: Rows
    minority: float


@dataclass(frozen=True)
class Mistakes:
    """Confused classes, and people with contradicting preds.

    Attributes:
        pairs: confused classes of single tasks, over all tasks, the most frequent first.
        joint_pairs: confused combined classes of the labelled tasks; empty with one task.
        divided: people whose photos got different preds, the most divided first.
    """

    pairs: tuple[ConfusedPair, ...]
    joint_pairs: tuple[ConfusedPair, ...]
    divided: tuple[DividedPerson, ...]


def find_mistakes(predictions: Predictions) -> Mistakes:
    """Find all confused pairs and divided people."""
    tasks = labelled_tasks(predictions)
    pairs = [pair for task in tasks for pair in confused_pairs(predictions, [task])]
    return Mistakes(
        pairs=tuple(sorted(pairs, key=lambda pair: (-pair.photos, -pair.share))),
        joint_pairs=tuple(confused_pairs(predictions, tasks)) if len(tasks) > 1 else (),
        divided=tuple(divided_people(predictions)),
    )


def labelled_tasks(predictions: Predictions) -> tuple[str, ...]:
    """Names of the tasks with one or more labelled photos."""
    return tuple(task for task in predictions.space.names if (predictions.targets[task] != UNLABELLED).any())


def total_losses(predictions: Predictions) -> npt.NDArray[np.float64]:
    """Sum each photo's losses over its labelled tasks (N,); NaN for a photo without labels."""
    losses = np.stack([predictions.losses[task] for task in predictions.space.names]).astype(np.float64)
    return np.where(np.isnan(losses).all(axis=0), np.nan, np.nansum(losses, axis=0))


def are_right(predictions: Predictions, task: str) -> Flags:
    """Return True for photos whose pred equals the target (N,); False where the target is not known."""
    right: Flags = np.equal(predictions.preds[task], predictions.targets[task])
    return right


def are_wrong(predictions: Predictions, task: str) -> Flags:
    """Return True for photos whose pred differs from a known target (N,)."""
    wrong: Flags = (predictions.targets[task] != UNLABELLED) & ~are_right(predictions, task)
    return wrong


def top_losses(predictions: Predictions, count: int, *, per_person: int = 1) -> Rows:
    """Rows of the `count` largest losses, the largest first, at most `per_person` of one person."""
    losses = total_losses(predictions)
    return _first(predictions, np.argsort(-losses, kind="stable"), ~np.isnan(losses), count, per_person)


def surest_wrong(predictions: Predictions, task: str, count: int, *, per_person: int = 1) -> Rows:
    """Rows that are wrong in `task`, the most probable pred first."""
    confidences = predictions.probs[task].max(axis=1)
    return _first(predictions, np.argsort(-confidences, kind="stable"), are_wrong(predictions, task), count, per_person)


def surest_right(predictions: Predictions, count: int, *, per_person: int = 1) -> Rows:
    """Rows that are right in every labelled task, the smallest loss first."""
    tasks = labelled_tasks(predictions) or predictions.space.names
    right = np.all([are_right(predictions, task) for task in tasks], axis=0)
    order = np.argsort(total_losses(predictions), kind="stable")
    return _first(predictions, order, right, count, per_person)


def confused_pairs(predictions: Predictions, tasks: Sequence[str]) -> list[ConfusedPair]:
    """Find the confused pairs of classes of `tasks` (of their combined class if several), the most frequent first."""
    space = predictions.space.only(tasks)
    targets = {task: predictions.targets[task] for task in space.names}
    known = np.all([values != UNLABELLED for values in targets.values()], axis=0)
    target_codes = np.where(known, space.encode(targets), UNLABELLED)
    pred_codes = space.encode({task: predictions.preds[task] for task in space.names})
    probs = np.prod([predictions.probs[task].max(axis=1) for task in space.names], axis=0)
    people, names = people_of(predictions), space.code_names
    pairs = []
    confused = known & (target_codes != pred_codes)
    for target, pred in np.unique(np.stack([target_codes, pred_codes])[:, confused], axis=1).T:
        rows = np.flatnonzero((target_codes == target) & (pred_codes == pred))
        pairs.append(
            ConfusedPair(
                tasks=space.names,
                target=names[target],
                pred=names[pred],
                photos=len(rows),
                people=len(np.unique(people[rows])),
                share=float(len(rows) / (target_codes == target).sum()),
                rows=rows[np.argsort(-probs[rows], kind="stable")],
            )
        )
    return sorted(pairs, key=lambda pair: (-pair.photos, -pair.share))


def one_each(predictions: Predictions, rows: Rows, count: int) -> Rows:
    """Keep the first row of each person, at most `count` rows."""
    return _first(predictions, rows, np.ones(len(predictions), np.bool_), count, 1)


def person_tasks(predictions: Predictions) -> tuple[str, ...]:
    """Tasks, such as gender, whose target is the same on all photos of each person; () if nobody has two photos."""
    people = pd.Series(people_of(predictions))
    if not people.duplicated().any():
        return ()
    known = {task: pd.Series(values).where(values != UNLABELLED) for task, values in predictions.targets.items()}
    return tuple(task for task in predictions.space.names if known[task].groupby(people).nunique().max() == 1)


def divided_people(predictions: Predictions) -> list[DividedPerson]:
    """Find people whose photos got different preds in a task of `person_tasks`, the most divided first."""
    tasks = person_tasks(predictions)
    preds = predictions.preds
    found = []
    for person, rows in pd.Series(np.arange(len(predictions))).groupby(people_of(predictions)):
        chosen = rows.to_numpy()
        minorities = {task: 1 - np.bincount(preds[task][chosen]).max() / len(chosen) for task in tasks}
        divided = tuple(task for task in tasks if minorities[task])
        if divided:
            found.append(DividedPerson(str(person), divided, chosen, float(np.mean(list(minorities.values())))))
    return sorted(found, key=lambda each: -each.minority)


def _first(predictions: Predictions, order: Rows, wanted: Flags, count: int, per_person: int) -> Rows:
    """Keep the first `count` rows of `order` that are `wanted`, at most `per_person` rows of one person."""
    rows = order[wanted[order]]
    turn = pd.Series(people_of(predictions)[rows]).groupby(people_of(predictions)[rows]).cumcount().to_numpy()
    return rows[turn < per_person][:count]
