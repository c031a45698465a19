"""Scores of subgroups (women, a race, people without a mask), and the subgroup with the lowest accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mask_lightning.labels import UNLABELLED
from mask_lightning.metrics.bootstrap import Interval, metric_intervals
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.metrics.scores import (
    JOINT,
    LabelledPreds,
    TaskScores,
    headline,
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
        accuracy: share of photos that are right in every task (in the first task if there is no combined class).
        f1: macro F1 over the classes that occur in the slice. It cannot be compared with the F1 of all photos, or of a
            slice with other classes.
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

    Only photos that are labelled for every task with labels are scored; `seed` is that of the intervals.
    """
    labelled, people = labelled_preds(predictions), people_of(predictions)
    return [
        _score_slice(column, value, labelled, people, values == value, seed=seed)
        for column, values in slice_columns(predictions).items()
        for value in _values_in_order(predictions, column, values)
        if (values[labelled[headline(labelled)].rows] == value).any()
    ]


def worst_slice(slices: Iterable[Slice], *, min_people: int = MIN_PEOPLE) -> Slice | None:
    """Find the slice with the lowest accuracy among those with enough people; None if there is none."""
    large = [each for each in slices if each.people >= min_people]
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
    main = inside[headline(labelled)]
    scores = score_confusion(main.classes, main.confusion)
    return Slice(
        column=column,
        value=value,
        people=len(np.unique(people[main.rows])),
        photos=scores.photos,
        accuracy=metric_intervals(main, people, seed=seed)["accuracy"],
        f1=float(scores.f1_per_class[scores.support > 0].mean()),
        task_accuracy={
            name: float((each.targets == each.preds).mean())
            for name, each in inside.items()
            if name != JOINT and len(each.rows)
        },
    )
