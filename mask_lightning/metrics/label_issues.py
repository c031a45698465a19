"""Label issues: likely wrong labels, found by confident learning on out-of-fold predictions.

Northcutt, Jiang & Chuang 2021, "Confident learning: estimating uncertainty in dataset labels", by the authors' library
cleanlab. A label is an issue if the probability of another class exceeds the mean probability of that class over the
samples labelled with it. Issues are ranked by the probability of the given label, the lowest first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.errors import PredictionsError
from mask_lightning.labels import AGE, PERSON_TASKS, UNLABELLED, Task
from mask_lightning.metrics.predictions import Predictions

Probs = npt.NDArray[np.float64]

CORRECTION_COLUMNS = ("person_id", "field", "value")  # of data.corrections, which reads these lines


@dataclass(frozen=True)
class Labels:
    """The labels of a task: one per person if all photos of a person share it, otherwise one per photo.

    Attributes:
        of_people: True for labels of people.
        table: one row per label: `person_id`, `photo` (file name, "" for labels of people), `given` (the target) and
            `paths` (tuple of the photos with this label).
        probs: mean probabilities over these photos (N, C).
    """

    of_people: bool
    table: pd.DataFrame
    probs: Probs

    def __len__(self) -> int:
        return len(self.table)


@dataclass(frozen=True)
class LabelIssue:
    """One label that is likely wrong.

    Attributes:
        person_id: person on the photos.
        photo: file name; "" if the label belongs to the person.
        paths: the photos with this label.
        given, suggested: labelled class, and the most probable other class.
        given_prob, suggested_prob: their mean probabilities over the photos.
    """

    person_id: str
    photo: str
    paths: tuple[str, ...]
    given: str
    suggested: str
    given_prob: float
    suggested_prob: float


@dataclass(frozen=True)
class LabelIssues:
    """Likely wrong labels of one task.

    Attributes:
        task: the task.
        of_people: True for labels of people, False for labels of photos.
        labels: number of labels that were examined.
        agreement: share of labels that equal the preds; if it is low, most issues are mistakes of the model.
        doubted: number of issues that confident learning found.
        listed: the issues to review, at most the requested share of the labels, the worst first.
    """

    task: Task
    of_people: bool
    labels: int
    agreement: float
    doubted: int
    listed: tuple[LabelIssue, ...]

    def __len__(self) -> int:
        return len(self.listed)


def find_issues(predictions: Predictions, *, share: float = 1.0) -> list[LabelIssues]:
    """Find the likely wrong labels of every task.

    Args:
        predictions: for people whom the models were not trained on.
        share: largest share of a task's labels to list, in (0, 1].

    Raises:
        PredictionsError: the photos have no labels or no person_id.
    """
    if "person_id" not in predictions.photos or all((t == UNLABELLED).all() for t in predictions.targets.values()):
        raise PredictionsError(
            "expected predictions of labelled photos with a person_id, found none; "
            "name a sweep of folds, or predictions.parquet of labelled photos"
        )
    return [_find_task_issues(predictions, task, share) for task in predictions.space.tasks]


def _find_task_issues(predictions: Predictions, task: Task, share: float) -> LabelIssues:
    labels = gather_labels(predictions, task)
    given = labels.table["given"].to_numpy(np.int64)
    doubted = doubted_labels(given, labels.probs)
    first = doubted[: math.ceil(share * len(labels))]
    return LabelIssues(
        task=task,
        of_people=labels.of_people,
        labels=len(labels),
        agreement=float((labels.probs.argmax(axis=1) == given).mean()) if len(labels) else 0.0,
        doubted=len(doubted),
        listed=tuple(_issue(task, labels.table.iloc[i], labels.probs[i]) for i in first),
    )


def _issue(task: Task, label: pd.Series[Any], probs: Probs) -> LabelIssue:
    given = int(label["given"])
    suggested = int(np.where(np.arange(task.num_classes) == given, -1, probs).argmax())
    return LabelIssue(
        person_id=label["person_id"],
        photo=label["photo"],
        paths=label["paths"],
        given=task.classes[given],
        suggested=task.classes[suggested],
        given_prob=float(probs[given]),
        suggested_prob=float(probs[suggested]),
    )


def doubted_labels(given: npt.NDArray[np.int64], probs: Probs) -> npt.NDArray[np.int64]:
    """Find issues by confident learning.

    Args:
        given: labels, class indices (N,).
        probs: out-of-fold probabilities (N, C), rows sum to 1.

    Returns:
        Positions of the issues, the least probable given label first.
    """
    if len(np.unique(given)) < 2:
        return np.empty(0, np.int64)  # no other class has labels, so none has a threshold
    from cleanlab.filter import find_label_issues  # takes a second, which other commands need not wait for

    order: npt.NDArray[np.int64] = find_label_issues(
        given, probs, filter_by="confident_learning", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    return order


def gather_labels(predictions: Predictions, task: Task) -> Labels:
    """Collect the known labels of a task, with mean probabilities over the photos of each label."""
    targets = predictions.targets[task.name]
    known = targets != UNLABELLED
    photos = predictions.photos.loc[known, ["person_id", "path"]].assign(given=targets[known]).reset_index(drop=True)
    of_people = task.name in PERSON_TASKS or _one_label_each(photos)
    number = photos.groupby(["person_id", "given"] if of_people else ["path"], sort=False).ngroup().to_numpy()
    grouped = photos.groupby(number)
    table = grouped[["person_id", "given"]].first().assign(paths=grouped["path"].agg(tuple))
    table["photo"] = "" if of_people else _names(table)
    sums = np.zeros((len(table), task.num_classes))
    np.add.at(sums, number, predictions.probs[task.name][known])
    return Labels(of_people, table, sums / sums.sum(axis=1, keepdims=True))


def _one_label_each(photos: pd.DataFrame) -> bool:
    people = photos.groupby("person_id")["given"]
    return bool((people.nunique() == 1).all() and (people.size() > 1).any())


def _names(table: pd.DataFrame) -> pd.Series[str]:
    """File names; with their folder if a person has several photos of that name."""
    files = table["paths"].map(lambda paths: Path(paths[0]))
    names = files.map(lambda file: file.name)
    twice = pd.DataFrame({"person": table["person_id"], "name": names}).duplicated(keep=False)
    return names.where(~twice, files.map(lambda file: f"{file.parent.name}/{file.name}"))


def propose_corrections(found: Sequence[LabelIssues]) -> pd.DataFrame:
    """Convert issues to lines for `data.corrections`; `agreed_by` is 0, so that none applies before a review."""
    lines = [
        (*correction(each.task, issue), 0, issue.given, issue.given_prob, issue.suggested_prob)
        for each in found
        for issue in each.listed
    ]
    return pd.DataFrame(lines, columns=[*CORRECTION_COLUMNS, "agreed_by", "given", "given_prob", "value_prob"]).round(4)


def correction(task: Task, issue: LabelIssue) -> tuple[str, str, str]:
    """Person_id, field and value of the correction that applies the suggested class."""
    field = "age_band" if task == AGE else task.name  # `age` would be in years, which are not known
    value = f"{issue.photo}:{issue.suggested}" if issue.photo else issue.suggested
    return issue.person_id, field, value
