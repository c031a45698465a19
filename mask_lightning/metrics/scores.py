"""How often the answers are right: per task, and for the combined class of all tasks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from mask_lightning.engine.epoch_scores import JOINT, MAX_JOINT
from mask_lightning.errors import PredictionsError
from mask_lightning.inference.predictions import Predictions
from mask_lightning.labels import UNLABELLED

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """The answers of one task, or the combined class, for the photos whose truth is known.

    Attributes:
        classes: their names, C of them.
        rows: which photos (K,), as positions in the predictions.
        truth, said: classes (K,).
    """

    classes: tuple[str, ...]
    rows: Ints
    truth: Ints
    said: Ints


@dataclass(frozen=True)
class TaskScores:
    """The scores of one task, or of the combined class.

    Attributes:
        classes: their names, C of them.
        confusion: counts (C, C), rows the truth.
        precision, recall, f1_per_class: of each class (C,), 0 where there is nothing to divide by.
        support: photos that truly are of each class (C,).
        f1: macro F1, the mean over all C classes, as the competition scores: an absent class counts 0.
        accuracy: share of right answers.
    """

    classes: tuple[str, ...]
    confusion: Ints
    precision: Floats
    recall: Floats
    f1_per_class: Floats
    support: Ints
    f1: float
    accuracy: float

    @property
    def photos(self) -> int:
        """How many were scored."""
        return int(self.support.sum())

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes that no photo truly is of; each lowers the macro F1."""
        return tuple(name for name, count in zip(self.classes, self.support, strict=True) if count == 0)


def known_answers(predictions: Predictions) -> dict[str, Answers]:
    """Task -> its answers where the truth is known, for every task with labels.

    With two such tasks or more, and at most MAX_JOINT combined classes, `joint` is their combined class, on the
    photos that are labelled for all of them.

    Raises:
        PredictionsError: no photo has a label.
    """
    known = {task: values != UNLABELLED for task, values in predictions.targets.items()}
    tasks = [task for task in predictions.space.names if known[task].any()]
    if not tasks:
        raise PredictionsError("expected photos whose labels are known, found none; name labelled photos")
    preds, targets = predictions.preds, predictions.targets
    found = {task: _answers(predictions.space[task].classes, known[task], targets[task], preds[task]) for task in tasks}
    space = predictions.space.only(tasks)
    labelled = np.all([known[task] for task in tasks], axis=0)
    if len(tasks) > 1 and space.num_codes <= MAX_JOINT and labelled.any():
        truth, said = (space.encode({task: values[task] for task in tasks}) for values in (targets, preds))
        found[JOINT] = _answers(space.code_names, labelled, truth, said)
    return found


def score(predictions: Predictions) -> dict[str, TaskScores]:
    """Task, and `joint`, -> scores; see `known_answers`."""
    return {name: score_answers(answers) for name, answers in known_answers(predictions).items()}


def score_answers(answers: Answers) -> TaskScores:
    """Scores by scikit-learn, over all classes."""
    labels = range(len(answers.classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        answers.truth, answers.said, labels=labels, zero_division=0
    )
    return TaskScores(
        classes=answers.classes,
        confusion=confusion_matrix(answers.truth, answers.said, labels=labels),
        precision=precision,
        recall=recall,
        f1_per_class=f1,
        support=support,
        f1=float(f1.mean()),
        accuracy=float((answers.truth == answers.said).mean()),
    )


def headline(names: Iterable[str]) -> str:
    """Of the keys of scores the one that counts: `joint`, or the first task where there is none."""
    names = list(names)
    return JOINT if JOINT in names else names[0]


def people_of(predictions: Predictions) -> npt.NDArray[np.str_]:
    """Who is on each photo (N,); where that is not known, every photo is of somebody else."""
    column = "person_id" if "person_id" in predictions.photos else "photo"
    return predictions.photos[column].astype(str).to_numpy(dtype=np.str_)


def _answers(classes: tuple[str, ...], known: npt.NDArray[np.bool_], truth: Ints, said: Ints) -> Answers:
    return Answers(classes, np.flatnonzero(known), truth[known], said[known])
