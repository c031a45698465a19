"""Scores of some of the photos: of women, of a race, of those who wear no mask; and on which of them they are worst."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mask_lightning.engine.epoch_scores import JOINT
from mask_lightning.inference.predictions import Predictions
from mask_lightning.labels import UNLABELLED
from mask_lightning.metrics.bootstrap import Interval, answer_intervals
from mask_lightning.metrics.scores import Answers, TaskScores, headline, known_answers, people_of, score_answers

MIN_PEOPLE = 10  # in a slice that may be called the worst
MAX_SLICES = 20  # different texts in a column; one with more is a remark
NOT_SLICES = ("photo", "path", "person_id", "family", "shot")

Texts = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Slice:
    """The photos that share one value.

    Attributes:
        column, value: what they share, such as gender, female.
        people, photos: how many.
        accuracy: share of photos that are right in every task (in the first, where there is no combined class).
        f1: macro F1 over the classes that truly occur in the slice; others cannot be missed here, so that it does not
            compare with the F1 of all photos, nor with that of a slice with other classes.
        task_accuracy: task -> share of right answers.
    """

    column: str
    value: str
    people: int
    photos: int
    accuracy: Interval
    f1: float
    task_accuracy: Mapping[str, float]


def slice_scores(predictions: Predictions, *, seed: int = 0) -> list[Slice]:
    """A slice for every true class of every task and every value of the photos' other columns of text.

    Scored are the photos that are labelled for every task that has labels; `seed` is that of the intervals.
    """
    answers, people = known_answers(predictions), people_of(predictions)
    return [
        _score_slice(column, value, answers, people, values == value, seed=seed)
        for column, values in slice_columns(predictions).items()
        for value in _in_order(predictions, column, values)
        if (values[answers[headline(answers)].rows] == value).any()
    ]


def worst_slice(slices: Iterable[Slice], *, min_people: int = MIN_PEOPLE) -> Slice | None:
    """The slice with the lowest accuracy of those with enough people, None where there is none."""
    large = [each for each in slices if each.people >= min_people]
    return min(large, key=lambda each: each.accuracy.value, default=None)


def scores_given(predictions: Predictions, task: str, given: str) -> dict[str, TaskScores]:
    """Class of the task `given` -> scores of `task` on the photos that truly are of it, such as age given mask."""
    answers = known_answers(predictions)
    if task not in answers or given not in answers:
        return {}
    condition = predictions.targets[given][answers[task].rows]
    return {
        name: score_answers(_some(answers[task], condition == i))
        for i, name in enumerate(predictions.space[given].classes)
        if (condition == i).any()
    }


def slice_columns(predictions: Predictions) -> dict[str, Texts]:
    """Column -> text of each photo (N,), "" where it is not known: true classes, then the photos' columns of text."""
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


def _in_order(predictions: Predictions, column: str, values: Texts) -> Sequence[str]:
    """Classes in the order of their task, other values in that of the alphabet."""
    if column in predictions.space.names:
        return predictions.space[column].classes
    return sorted(set(values.tolist()) - {""})


def _score_slice(
    column: str,
    value: str,
    answers: Mapping[str, Answers],
    people: Texts,
    chosen: npt.NDArray[np.bool_],
    *,
    seed: int,
) -> Slice:
    all_tasks = headline(answers)
    inside = {name: _some(each, chosen[each.rows]) for name, each in answers.items()}
    scores = score_answers(inside[all_tasks])
    return Slice(
        column=column,
        value=value,
        people=len(np.unique(people[inside[all_tasks].rows])),
        photos=scores.photos,
        accuracy=answer_intervals(inside[all_tasks], people, seed=seed)["accuracy"],
        f1=float(scores.f1_per_class[scores.support > 0].mean()),
        task_accuracy={
            name: float((each.truth == each.said).mean())
            for name, each in inside.items()
            if name != JOINT and len(each.rows)
        },
    )


def _some(answers: Answers, chosen: npt.NDArray[np.bool_]) -> Answers:
    return replace(answers, rows=answers.rows[chosen], truth=answers.truth[chosen], said=answers.said[chosen])
