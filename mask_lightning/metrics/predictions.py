"""Predictions: probabilities per task for N photos, with targets and losses where the truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.errors import PredictionsError
from mask_lightning.labels import FACE, UNLABELLED, LabelSpace

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """Checkpoint that made some predictions, as plain values that are stored beside them.

    Attributes:
        checkpoint: path, as the user named it.
        sha256: of the file, since another model may lie at that path later.
        backbone: timm's name.
        tasks: tasks that the model predicts.
        transform: TransformSpec as plain values.
        tta: test-time augmentation, see `inference.tta`.
        temperatures: task -> temperature that divided the log probabilities; a missing task was not calibrated.
    """

    checkpoint: str
    sha256: str
    backbone: str
    tasks: tuple[str, ...]
    transform: dict[str, Any]
    tta: str = "none"
    temperatures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Predictions:
    """Probabilities of one or more models for N photos.

    Attributes:
        space: the tasks.
        photos: one row per photo with `photo` (its name), `path`, and other known columns such as `person_id`.
        probs: task -> (N, C), rows sum to 1.
        targets: task -> (N,), UNLABELLED where the truth is not known.
        losses: task -> (N,), cross-entropy of each photo, NaN where the truth is not known.
        sources: the checkpoints.
        decisions: task -> class (N,) by another decision rule than the largest probability, see `metrics.decisions`;
            None: there is none.
    """

    space: LabelSpace
    photos: pd.DataFrame
    probs: Mapping[str, Floats]
    targets: Mapping[str, Ints]
    losses: Mapping[str, Floats]
    sources: tuple[Source, ...]
    decisions: Mapping[str, Ints] | None = None

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def preds(self) -> dict[str, Ints]:
        """Task -> index of the decided class (N,); without `decisions`, of the most probable class."""
        if self.decisions is not None:
            return dict(self.decisions)
        return {task: self.probs[task].argmax(axis=1) for task in self.space.names}

    def prob_of_preds(self, task: str) -> Floats:
        """Return the probability of the pred of each photo (N,)."""
        chosen: Floats = np.take_along_axis(self.probs[task], self.preds[task][:, None], axis=1)[:, 0]
        return chosen

    @property
    def codes(self) -> Ints:
        """Codes of the combined class (N,)."""
        return self.space.encode(self.preds)

    @property
    def name(self) -> str:
        """Paths of the checkpoints, for messages."""
        return " + ".join(source.checkpoint for source in self.sources) or "unknown checkpoints"

    def in_order_of(self, first: Predictions) -> Predictions:
        """Reorder the photos as in `first`.

        Raises:
            PredictionsError: the photos differ, or have several rows each.
        """
        for part in (first, self):
            if part.photos["photo"].duplicated().any():
                raise PredictionsError(
                    f"expected one row per photo from {part.name}, found several (faces=all); predict with faces=one"
                )
        position = pd.Index(self.photos["photo"]).get_indexer(pd.Index(first.photos["photo"]))
        if len(self) != len(first) or (position < 0).any():
            missing = first.photos["photo"][position < 0].tolist() or ["another number of photos"]
            raise PredictionsError(
                f"expected the photos of {first.name}, found {len(self)} for {len(first)} in {self.name} "
                f"({missing[0]}); predict the same photos with both"
            )
        return self.select(position)

    def select(self, rows: npt.NDArray[np.integer[Any]]) -> Predictions:
        """Return the photos with these row numbers, in that order."""
        return replace(
            self,
            photos=self.photos.iloc[rows].reset_index(drop=True),
            probs={task: values[rows] for task, values in self.probs.items()},
            targets={task: values[rows] for task, values in self.targets.items()},
            losses={task: values[rows] for task, values in self.losses.items()},
            decisions=self.decisions and {task: values[rows] for task, values in self.decisions.items()},
        )


class ClassTally:
    """Counts of the predicted classes and their mean probabilities, summed over parts of the predictions.

    Attributes:
        photos: number of photos so far.
        counts: task -> (C,), photos predicted as each class.
        sums: task -> (C,), sum of the probability of the predicted class.
    """

    def __init__(self, space: LabelSpace) -> None:
        self.space, self.photos = space, 0
        self.counts = {task.name: np.zeros(task.num_classes, np.int64) for task in space.tasks}
        self.sums = {task.name: np.zeros(task.num_classes) for task in space.tasks}

    def add(self, predictions: Predictions) -> None:
        """Add a part."""
        self.photos += len(predictions)
        for task in self.space.tasks:
            preds = predictions.preds[task.name]
            self.counts[task.name] += np.bincount(preds, minlength=task.num_classes)
            chosen = predictions.prob_of_preds(task.name)
            self.sums[task.name] += np.bincount(preds, chosen, minlength=task.num_classes)


def join_rows(parts: Sequence[Predictions]) -> Predictions:
    """Join predictions of one label space for different photos, one part after the other."""
    space, sources = parts[0].space, [source for part in parts for source in part.sources]
    decided = all(part.decisions is not None for part in parts)
    return Predictions(
        space,
        pd.concat([part.photos for part in parts], ignore_index=True),
        {task: np.concatenate([part.probs[task] for part in parts]) for task in space.names},
        {task: np.concatenate([part.targets[task] for part in parts]) for task in space.names},
        {task: np.concatenate([part.losses[task] for part in parts]) for task in space.names},
        tuple(source for i, source in enumerate(sources) if source not in sources[:i]),
        {task: np.concatenate([part.preds[task] for part in parts]) for task in space.names} if decided else None,
    )


def no_targets(space: LabelSpace, count: int) -> tuple[dict[str, Ints], dict[str, Floats]]:
    """Create the targets and losses of `count` photos without labels."""
    targets = {task: np.full(count, UNLABELLED, np.int64) for task in space.names}
    return targets, {task: np.full(count, np.nan, np.float32) for task in space.names}


def combine(parts: Sequence[Predictions]) -> Predictions:
    """Merge predictions of different tasks for the same photos, as if one model had made them.

    Raises:
        PredictionsError: two parts predict the same task, or the photos differ.
    """
    combine_spaces([(part.name, part.space) for part in parts])
    return average(parts)


def combine_spaces(named: Sequence[tuple[str, LabelSpace]]) -> LabelSpace:
    """Merge label spaces of several models, given as (name, space).

    Raises:
        PredictionsError: two models predict the same task.
    """
    seen: dict[str, str] = {}
    for name, space in named:
        for task in space.names:
            if task in seen:
                raise PredictionsError(
                    f"expected one answer for each task, found {task} from {seen[task]} and from {name}; "
                    "leave one out, or average them with python -m mask_lightning.blend kind=mean"
                )
            seen[task] = name
    return join_spaces([space for _, space in named])


def average(parts: Sequence[Predictions]) -> Predictions:
    """Average the probabilities of each task over the parts that predict it; photos in the order of the first part.

    Losses are kept if only one part predicts the task; otherwise they are computed from the mean. Decisions are not
    kept: they would not be those of the mean.

    Raises:
        PredictionsError: the photos or the classes of a task differ.
    """
    space = join_spaces([part.space for part in parts])
    aligned = [part.in_order_of(parts[0]) for part in parts]
    targets, losses = no_targets(space, len(parts[0]))
    probs: dict[str, Floats] = {}
    for task in space.names:
        found = [part for part in aligned if task in part.space.names]
        stacked = np.stack([part.probs[task] for part in found])
        probs[task] = stacked.mean(axis=0, dtype=np.float64).astype(np.float32)
        for part in found:
            targets[task] = np.where(part.targets[task] != UNLABELLED, part.targets[task], targets[task])
        losses[task] = found[0].losses[task] if len(found) == 1 else cross_entropies(probs[task], targets[task])
    sources = [source for part in parts for source in part.sources]
    different = tuple(source for i, source in enumerate(sources) if source not in sources[:i])
    photos = aligned[0].photos.drop(columns=[task for task in space.names if task in aligned[0].photos])
    return Predictions(space, photos, probs, targets, losses, different)


def join_spaces(spaces: Sequence[LabelSpace]) -> LabelSpace:
    """Merge label spaces; tasks of FACE come first, in its order.

    Raises:
        PredictionsError: a task has different classes in two spaces.
    """
    tasks = {task.name: task for space in spaces for task in space.tasks}
    for space in spaces:
        for task in space.tasks:
            if task != tasks[task.name]:
                raise PredictionsError(
                    f"{task.name} means {', '.join(task.classes)} in one and {', '.join(tasks[task.name].classes)} in "
                    "another; combine runs of the same label space only"
                )
    order = [name for name in FACE.names if name in tasks] + [name for name in tasks if name not in FACE.names]
    return LabelSpace(tuple(tasks[name] for name in order))


def cross_entropies(probs: Floats, targets: Ints) -> Floats:
    """Compute the cross-entropy of each photo.

    Args:
        probs: (N, C), rows sum to 1.
        targets: (N,), UNLABELLED where the truth is not known.

    Returns:
        (N,), NaN where the truth is not known. Probabilities below float32's smallest count as that.

    Example:
        >>> cross_entropies(np.array([[0.25, 0.75], [0.5, 0.5]], np.float32), np.array([1, UNLABELLED])).round(3)
        array([0.288,   nan], dtype=float32)
    """
    known = targets != UNLABELLED
    chosen = probs[np.arange(len(probs)), np.where(known, targets, 0)]
    smallest = np.finfo(np.float32).tiny
    return np.where(known, -np.log(np.maximum(chosen, smallest)), np.nan).astype(np.float32)
