"""Likely wrong labels: confident learning on predictions for people that the network has not trained on.

The method is that of Northcutt, Jiang & Chuang, "Confident learning: estimating uncertainty in dataset labels" (2021),
by its authors' library cleanlab: a label is doubted where another class is given more than that class is given on
average where it is the label. The doubted ones are ranked by the probability of the label as it stands.
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

from mask_lightning.data.corrections import COLUMNS
from mask_lightning.errors import PredictionsError
from mask_lightning.inference.predictions import Predictions
from mask_lightning.labels import AGE, PERSON_TASKS, UNLABELLED, Task

Probs = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Labels:
    """The labels of a task, one per person where all photos of a person share it, else one per photo.

    Attributes:
        of_people: which of the two.
        table: a row per label: `person_id`, `photo` (its name among the person's photos; "" for labels of people),
            `given` (the target) and `paths` (a tuple, the photos it is of).
        probs: (N, C), the mean over those photos.
    """

    of_people: bool
    table: pd.DataFrame
    probs: Probs

    def __len__(self) -> int:
        return len(self.table)


@dataclass(frozen=True)
class Suspect:
    """A label that is likely wrong.

    Attributes:
        person_id: whose.
        photo: its name among the person's photos; "" where the label is the person's.
        paths: the photos that it is of.
        given, suggested: the class that is written down, and the most probable other one.
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
class Suspects:
    """The labels of one task that are likely wrong.

    Attributes:
        task: the task.
        of_people: whether each is the label of a person, else of a photo.
        labels: how many were judged.
        agreement: the share of them that the predictions agree with; where it is low, most suspects are mistakes of
            the network and not of the labels.
        doubted: how many confident learning doubts.
        listed: the most suspicious of those, the worst first.
    """

    task: Task
    of_people: bool
    labels: int
    agreement: float
    doubted: int
    listed: tuple[Suspect, ...]

    def __len__(self) -> int:
        return len(self.listed)


def find_suspects(predictions: Predictions, *, share: float = 1.0) -> list[Suspects]:
    """For every task the labels that are likely wrong, at most `share` of all.

    Args:
        predictions: of people that the networks which made them have not trained on.
        share: in (0, 1], of the people or photos with a label of the task.

    Raises:
        PredictionsError: there is no label, or nobody knows who is on the photos.
    """
    if "person_id" not in predictions.photos or all((t == UNLABELLED).all() for t in predictions.targets.values()):
        raise PredictionsError(
            "expected predictions of labelled photos with a person_id, found none; "
            "name a sweep of folds, or predictions.parquet of labelled photos"
        )
    return [_of_task(predictions, task, share) for task in predictions.space.tasks]


def _of_task(predictions: Predictions, task: Task, share: float) -> Suspects:
    labels = gather_labels(predictions, task)
    given = labels.table["given"].to_numpy(np.int64)
    doubted = doubted_labels(given, labels.probs)
    first = doubted[: math.ceil(share * len(labels))]
    return Suspects(
        task=task,
        of_people=labels.of_people,
        labels=len(labels),
        agreement=float((labels.probs.argmax(axis=1) == given).mean()) if len(labels) else 0.0,
        doubted=len(doubted),
        listed=tuple(_suspect(task, labels.table.iloc[i], labels.probs[i]) for i in first),
    )


def _suspect(task: Task, label: pd.Series[Any], probs: Probs) -> Suspect:
    given = int(label["given"])
    suggested = int(np.where(np.arange(task.num_classes) == given, -1, probs).argmax())
    return Suspect(
        person_id=label["person_id"],
        photo=label["photo"],
        paths=label["paths"],
        given=task.classes[given],
        suggested=task.classes[suggested],
        given_prob=float(probs[given]),
        suggested_prob=float(probs[suggested]),
    )


def doubted_labels(given: npt.NDArray[np.int64], probs: Probs) -> npt.NDArray[np.int64]:
    """Positions of the labels that confident learning doubts, the least probable label first.

    Args:
        given: (N,), the labels.
        probs: (N, C), rows sum to 1.
    """
    if len(np.unique(given)) < 2:
        return np.empty(0, np.int64)  # no other class is given to anybody, so none has a threshold
    from cleanlab.filter import find_label_issues  # a second, for which no other command need wait

    order: npt.NDArray[np.int64] = find_label_issues(
        given, probs, filter_by="confident_learning", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    return order


def gather_labels(predictions: Predictions, task: Task) -> Labels:
    """The labels of a task with the mean probabilities over the photos that each is of; without those not known."""
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
    """File names, with their folder where a person has several photos of that name."""
    files = table["paths"].map(lambda paths: Path(paths[0]))
    names = files.map(lambda file: file.name)
    twice = pd.DataFrame({"person": table["person_id"], "name": names}).duplicated(keep=False)
    return names.where(~twice, files.map(lambda file: f"{file.parent.name}/{file.name}"))


def propose_corrections(found: Sequence[Suspects]) -> pd.DataFrame:
    """Suspects as lines for `data.corrections.correct`, each with agreed_by 0: none applies before it is reviewed."""
    lines = [
        (*correction(each.task, suspect), 0, suspect.given, suspect.given_prob, suspect.suggested_prob)
        for each in found
        for suspect in each.listed
    ]
    return pd.DataFrame(lines, columns=[*COLUMNS, "agreed_by", "given", "given_prob", "value_prob"]).round(4)


def correction(task: Task, suspect: Suspect) -> tuple[str, str, str]:
    """person_id, field and value of the line that makes the suggestion true."""
    field = "age_band" if task == AGE else task.name  # `age` is in years, which nobody has told
    value = f"{suspect.photo}:{suspect.suggested}" if suspect.photo else suspect.suggested
    return suspect.person_id, field, value
