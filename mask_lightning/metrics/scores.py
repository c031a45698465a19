"""Metrics of confusion matrices, and the scores of predictions per task and for the combined class.

`METRICS` declares every metric once. Its functions work on NumPy arrays and on torch tensors, so that training,
bootstrap and tables share one definition.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mask_lightning.errors import PredictionsError
from mask_lightning.labels import UNLABELLED, LabelSpace

if TYPE_CHECKING:  # settings read METRICS, and need no pandas for it
    from mask_lightning.metrics.predictions import Predictions

Array: TypeAlias = Any  # a NumPy array or a torch tensor
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

JOINT = "joint"  # key of the combined class of all tasks, beside the names of the tasks
MEAN = "mean of the tasks"  # key of the mean of the tasks' scores, which replaces those of the combined class
MAX_JOINT = 100  # combined classes; with more, the confusion matrix would be huge and nearly empty
MIN_JOINT_SHARE = 0.5  # of each task's labelled photos that must be labelled for all tasks; see `why_no_joint`


def f1_per_class(confusion: Array) -> Array:
    """Compute the F1 score of each class.

    Args:
        confusion: counts (..., C, C), rows are the truth.

    Returns:
        (..., C), in 0..1; 0 for a class that occurs neither among the targets nor among the preds.

    Example:
        >>> f1_per_class(np.array([[3, 1], [0, 0]])).round(3)
        array([0.857, 0.   ])
    """
    return 2 * confusion.diagonal(0, -2, -1) / (confusion.sum(-1) + confusion.sum(-2)).clip(1)


def macro_f1(confusion: Array) -> Array:
    """Average the F1 score over all C classes, as the competition does.

    An absent class counts 0. (torchmetrics and scikit-learn leave such a class out by default.)

    Args:
        confusion: counts (..., C, C), rows are the truth.

    Returns:
        (...), in 0..1.

    Example:
        >>> float(macro_f1(np.array([[4, 0], [0, 0]])))
        0.5
    """
    return f1_per_class(confusion).mean(-1)


def accuracy(confusion: Array) -> Array:
    """Compute the share of right preds.

    Args:
        confusion: counts (..., C, C), rows are the truth.

    Returns:
        (...), in 0..1; 0 without any photo.

    Example:
        >>> float(accuracy(np.array([[3, 1], [0, 4]])))
        0.875
    """
    return confusion.diagonal(0, -2, -1).sum(-1) / confusion.sum((-2, -1)).clip(1)


@dataclass(frozen=True)
class Metric:
    """One score of a confusion matrix.

    Attributes:
        title: column heading of tables.
        compute: function of counts (..., C, C), rows are the truth, that returns (...). It takes NumPy arrays and torch
            tensors: use operators and methods that both have, with positional arguments.
        higher_is_better: False for an error.
        interval: whether tables and evaluation.json give a bootstrap interval.
    """

    title: str
    compute: Callable[[Array], Array]
    higher_is_better: bool = True
    interval: bool = True


METRICS: dict[str, Metric] = {  # by the last part of their keys, such as val/age/f1
    "f1": Metric("macro F1", macro_f1),
    "accuracy": Metric("accuracy", accuracy),
}
MAIN_METRIC = "f1"  # what the competition scores: chooses checkpoints, members and soups


@dataclass(frozen=True)
class LabelledPreds:
    """Targets and preds of one task, or of the combined class, for the K photos whose target is known.

    Attributes:
        classes: names of the C classes.
        rows: positions of the photos in the predictions (K,).
        targets, preds: class indices (K,).
    """

    classes: tuple[str, ...]
    rows: Ints
    targets: Ints
    preds: Ints

    @property
    def confusion(self) -> Ints:
        """Counts (C, C), rows are the truth."""
        return count_confusion(self.targets, self.preds, len(self.classes))

    def select(self, chosen: npt.NDArray[np.bool_]) -> LabelledPreds:
        """Keep the photos where `chosen` (K,) is True."""
        return LabelledPreds(self.classes, self.rows[chosen], self.targets[chosen], self.preds[chosen])


@dataclass(frozen=True)
class TaskScores:
    """Scores of one task, or of the combined class.

    Attributes:
        classes: names of the C classes.
        confusion: counts (C, C), rows are the truth.
        precision, recall, f1_per_class: of each class (C,), 0 where the denominator is 0.
        support: photos per true class (C,).
        values: metric -> score, for every metric of METRICS.
    """

    classes: tuple[str, ...]
    confusion: Ints
    precision: Floats
    recall: Floats
    f1_per_class: Floats
    support: Ints
    values: Mapping[str, float]

    @property
    def f1(self) -> float:
        """Macro F1 over all C classes; an absent class counts 0."""
        return self.values["f1"]

    @property
    def accuracy(self) -> float:
        """Share of right preds."""
        return self.values["accuracy"]

    @property
    def photos(self) -> int:
        """Number of photos that were scored."""
        return int(self.support.sum())

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes without a photo; each lowers the macro F1."""
        return tuple(name for name, count in zip(self.classes, self.support, strict=True) if count == 0)


def count_confusion(targets: Ints, preds: Ints, num_classes: int) -> Ints:
    """Count the photos of each pair of classes.

    Args:
        targets: class indices (N,).
        preds: class indices (N,).
        num_classes: C.

    Returns:
        (C, C), rows are the truth.

    Example:
        >>> count_confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
        array([[1, 1],
               [0, 1]])
    """
    return np.bincount(targets * num_classes + preds, minlength=num_classes**2).reshape(num_classes, num_classes)


def score_confusion(classes: tuple[str, ...], confusion: Ints) -> TaskScores:
    """Compute all scores of a confusion matrix.

    Args:
        classes: names of the C classes.
        confusion: counts (C, C), rows are the truth.

    Example:
        >>> scores = score_confusion(("male", "female"), np.array([[3, 1], [0, 4]]))
        >>> scores.recall, round(scores.f1, 3)
        (array([0.75, 1.  ]), 0.873)
    """
    hits, support, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    return TaskScores(
        classes=classes,
        confusion=confusion,
        precision=hits / predicted.clip(1),
        recall=hits / support.clip(1),
        f1_per_class=f1_per_class(confusion),
        support=support,
        values={name: float(metric.compute(confusion)) for name, metric in METRICS.items()},
    )


def why_no_joint(space: LabelSpace, supports: Mapping[str, Array]) -> str | None:
    """Explain why the combined class cannot score these photos, so that the mean of the tasks' scores must.

    The combined class of photos that are labelled for all tasks represents the others if these photos are at least
    MIN_JOINT_SHARE of the labelled photos of each task, and contain every class that the labelled photos of each task
    contain. Photos that are all labelled for all tasks always do. The preds have no influence, so that all epochs of a
    run are scored alike.

    Args:
        space: the tasks that have labels.
        supports: task -> labelled photos per class (C,), and `joint` -> photos that are labelled for all tasks, per
            combined class; without `joint`, there are more than MAX_JOINT.

    Returns:
        The reason; None if the combined class is scored.

    Example:
        >>> from mask_lightning.labels import FACE
        >>> space = FACE.only(["mask", "gender"])
        >>> why_no_joint(space, {"mask": [5, 1, 1], "gender": [4, 3], "joint": [3, 2, 0, 1, 1, 0]})
        >>> why_no_joint(space, {"mask": [5, 1, 1], "gender": [4, 3], "joint": [0] * 6})
        '0 of 7 photos with a label of mask are labelled for all tasks'
    """
    if JOINT not in supports:
        return f"there are more than {MAX_JOINT} combined classes"
    joint = np.asarray(supports[JOINT]).reshape([task.num_classes for task in space.tasks])
    together = int(joint.sum())
    for axis, task in enumerate(space.tasks):
        alone = np.asarray(supports[task.name])
        photos = int(alone.sum())
        if together < MIN_JOINT_SHARE * photos:
            return f"{together} of {photos} photos with a label of {task.name} are labelled for all tasks"
        others = tuple(i for i in range(joint.ndim) if i != axis)
        missing = [name for name, n, m in zip(task.classes, alone, joint.sum(others), strict=True) if n and not m]
        if missing:
            return f"no photo of {task.name} {missing[0]} is labelled for all tasks"
    return None


def explain_mean(reason: str) -> str:
    """Say that the mean of the tasks' scores replaces the score of the combined class, and why."""
    return f"{reason}: the score of all tasks is the mean of the tasks' scores"


def log_mean_score(log: logging.Logger, what: str, reason: str) -> None:
    """Log that the mean of the tasks' scores replaces the score of the combined class, and why."""
    log.warning("%s: %s", what, explain_mean(reason))


def labelled_preds(predictions: Predictions) -> dict[str, LabelledPreds]:
    """Collect targets and preds of the photos whose targets are known.

    Returns:
        Task -> its targets and preds, for every task with labels. With two or more such tasks, `joint` holds the
        combined class, for photos that are labelled for all these tasks, unless `why_no_joint` has a reason.

    Raises:
        PredictionsError: no photo has a label.
    """
    found, _ = _labelled_preds(predictions)
    return found


def why_mean(predictions: Predictions) -> str | None:
    """Explain why predictions of several tasks have no score of the combined class; None if they have, or one task."""
    _, reason = _labelled_preds(predictions)
    return reason


def _labelled_preds(predictions: Predictions) -> tuple[dict[str, LabelledPreds], str | None]:
    known = {task: values != UNLABELLED for task, values in predictions.targets.items()}
    tasks = [task for task in predictions.space.names if known[task].any()]
    if not tasks:
        raise PredictionsError("expected photos whose labels are known, found none; name labelled photos")
    preds, targets = predictions.preds, predictions.targets

    def select(classes: tuple[str, ...], rows: npt.NDArray[np.bool_], targets: Ints, preds: Ints) -> LabelledPreds:
        return LabelledPreds(classes, np.flatnonzero(rows), targets[rows], preds[rows])

    found = {task: select(predictions.space[task].classes, known[task], targets[task], preds[task]) for task in tasks}
    if len(tasks) == 1:
        return found, None
    space, together = predictions.space.only(tasks), np.all([known[task] for task in tasks], axis=0)
    supports = {task: np.bincount(each.targets, minlength=len(each.classes)) for task, each in found.items()}
    if space.num_codes <= MAX_JOINT:
        target_codes, pred_codes = (space.encode({task: values[task] for task in tasks}) for values in (targets, preds))
        joint = select(space.code_names, together, target_codes, pred_codes)
        supports[JOINT] = np.bincount(joint.targets, minlength=space.num_codes)
    reason = why_no_joint(space, supports)
    return (found if reason else {**found, JOINT: joint}), reason


def score(predictions: Predictions) -> dict[str, TaskScores]:
    """Score every task with labels, and the combined class as `joint`; see `labelled_preds`."""
    return {name: score_confusion(each.classes, each.confusion) for name, each in labelled_preds(predictions).items()}


def has_labels(predictions: Predictions) -> bool:
    """Return True if a photo has a label of a task."""
    return any((values != UNLABELLED).any() for values in predictions.targets.values())


def headline(names: Iterable[str]) -> str:
    """Choose the most important key of scores: `joint`, the mean of several tasks without `joint`, or the only task."""
    names = list(names)
    return JOINT if JOINT in names else MEAN if len(names) > 1 else names[0]


def people_of(predictions: Predictions) -> npt.NDArray[np.str_]:
    """Person of each photo (N,); if people are unknown, every photo counts as another person."""
    column = "person_id" if "person_id" in predictions.photos else "photo"
    return predictions.photos[column].astype(str).to_numpy(dtype=np.str_)
