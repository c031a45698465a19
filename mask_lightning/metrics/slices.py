"""Scores of subgroups (women, a race, people without a mask), and the subgroup with the lowest accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mask_lightning.labels import UNLABELLED
from mask_lightning.metrics.bootstrap import Interval, mean_intervals, metric_intervals
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.metrics.scores import (
    JOINT,
    LabelledPreds,
    TaskScores,
    labelled_preds,
    people_of,
    score_confusion,
)

MIN_PEOPLE = 10  # in a slice that may be called the worst
MAX_SLICES = 20  # different texts in a column; a column with more holds remarks, not groups
NOT_SLICES = ("photo", "path", "person_id", "family", "shot")

Texts = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Slice:
    """Photos that share one value of a column, and their scores.

    Attributes:
        column, value: for example gender, female.
        people, photos: how many there are.
        accuracy: share of photos that are right in every task. If the combined class is not scored, mean over the
            tasks with labels in the slice.
        f1: macro F1 over the classes that occur in the slice, or its mean over the tasks. It cannot be compared with
            the F1 of all photos, or of a slice with other classes.
        task_accuracy: task -> share of right preds.
    """

    column: str
    value: str
    people: int
    photos: int
    accuracy: Interval
    f1: float
    task_accuracy: Mapping[str, float]


def slice_scores(predictions: Predictions, *, seed: int = 0) -> list[Slice]:
    """Score a slice for every true class of every task, and for every value of the other text columns of the photos.

    Only photos that are labelled for every task with labels are scored; if the combined class is not scored, all photos
    with a label are. `seed` is that of the intervals.
    """
    labelled, people = labelled_preds(predictions), people_of(predictions)
    main = [labelled[JOINT]] if JOINT in labelled else list(labelled.values())
    rows = np.unique(np.concatenate([each.rows for each in main]))
    return [
        _score_slice(column, value, labelled, people, values == value, seed=seed)
        for column, values in slice_columns(predictions).items()
        for value in _values_in_order(predictions, column, values)
        if (values[rows] == value).any()
    ]


def worst_slice(slices: Iterable[Slice], *, min_people: int = MIN_PEOPLE) -> Slice | None:
    """Find the slice with the lowest accuracy among those with enough people; None if there is none.

    A slice in which fewer tasks have labels than in others is left out: these may be the difficult tasks.
    """
    slices = list(slices)
    tasks = max((len(each.task_accuracy) for each in slices), default=0)
    large = [each for each in slices if each.people >= min_people and len(each.task_accuracy) == tasks]
    return min(large, key=lambda each: each.accuracy.value, default=None)


def scores_given(predictions: Predictions, task: str, given: str) -> dict[str, TaskScores]:
    """Score `task` separately for each true class of the task `given`, such as age given mask.

    Returns:
        Class of `given` -> scores of `task`; empty unless both tasks have labels.
    """
    labelled = labelled_preds(predictions)
    if task not in labelled or given not in labelled:
        return {}
    condition = predictions.targets[given][labelled[task].rows]
    parts = {
        name: labelled[task].select(condition == i)
        for i, name in enumerate(predictions.space[given].classes)
        if (condition == i).any()
    }
    return {name: score_confusion(part.classes, part.confusion) for name, part in parts.items()}


def slice_columns(predictions: Predictions) -> dict[str, Texts]:
    """Collect the columns to slice by: true classes of the tasks, then text columns of the photos.

    Returns:
        Column -> text of each photo (N,), "" where it is not known.
    """
    columns = {task: _true_names(predictions, task) for task in predictions.space.names}
    photos = predictions.photos
    for name in photos.columns.difference(list(NOT_SLICES), sort=False):
        values = [value if isinstance(value, str) else "" for value in photos[name]]
        if 2 <= len(set(values) - {""}) <= MAX_SLICES:
            columns[name] = np.array(values, dtype=np.str_)
    return columns


def _true_names(predictions: Predictions, task: str) -> Texts:
    names = (*predictions.space[task].classes, "")
    return np.array([names[target if target != UNLABELLED else -1] for target in predictions.targets[task]])


def _values_in_order(predictions: Predictions, column: str, values: Texts) -> Sequence[str]:
    """Classes in the order of their task, other values in alphabetical order."""
    if column in predictions.space.names:
        return predictions.space[column].classes
    return sorted(set(values.tolist()) - {""})


def _score_slice(
    column: str,
    value: str,
    labelled: Mapping[str, LabelledPreds],
    people: Texts,
    chosen: npt.NDArray[np.bool_],
    *,
    seed: int,
) -> Slice:
    inside = {name: each.select(chosen[each.rows]) for name, each in labelled.items()}
    tasks = {name: each for name, each in inside.items() if name != JOINT and len(each.rows)}
    main = [inside[JOINT]] if JOINT in inside else list(tasks.values())
    rows = np.unique(np.concatenate([each.rows for each in main]))
    intervals = (
        metric_intervals(main[0], people, seed=seed) if len(main) == 1 else mean_intervals(main, people, seed=seed)
    )
    scores = [score_confusion(each.classes, each.confusion) for each in main]
    return Slice(
        column=column,
        value=value,
        people=len(np.unique(people[rows])),
        photos=len(rows),
        accuracy=intervals["accuracy"],
        f1=float(np.mean([each.f1_per_class[each.support > 0].mean() for each in scores])),
        task_accuracy={name: float((each.targets == each.preds).mean()) for name, each in tasks.items()},
    )
