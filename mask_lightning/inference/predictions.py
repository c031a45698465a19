"""What networks said about photos: probabilities per task, and targets and losses where the truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.errors import PredictionsError
from mask_lightning.inference.trained import Source
from mask_lightning.labels import FACE, UNLABELLED, LabelSpace

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Predictions:
    """N photos and what was said about them.

    Attributes:
        space: the tasks.
        photos: a row per photo; `photo` (its name), `path`, and what else was known (`person_id`, ...).
        probs: task -> (N, C), rows sum to 1.
        targets: task -> (N,), UNLABELLED where the truth is not known.
        losses: task -> (N,), cross-entropy of each photo, NaN where the truth is not known.
        sources: the checkpoints that said it.
    """

    space: LabelSpace
    photos: pd.DataFrame
    probs: Mapping[str, Floats]
    targets: Mapping[str, Ints]
    losses: Mapping[str, Floats]
    sources: tuple[Source, ...]

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def preds(self) -> dict[str, Ints]:
        """Task -> the most probable class (N,)."""
        return {task: self.probs[task].argmax(axis=1) for task in self.space.names}

    @property
    def codes(self) -> Ints:
        """The combined class of the preds (N,)."""
        return self.space.encode(self.preds)


def no_targets(space: LabelSpace, count: int) -> tuple[dict[str, Ints], dict[str, Floats]]:
    """Targets and losses of photos without labels."""
    targets = {task: np.full(count, UNLABELLED, np.int64) for task in space.names}
    return targets, {task: np.full(count, np.nan, np.float32) for task in space.names}


def combine(parts: Sequence[Predictions]) -> Predictions:
    """Predictions of different tasks for the same photos, as if one network had made them.

    Raises:
        PredictionsError: two parts answer the same task, or the photos differ.
    """
    combine_spaces([(_named(part), part.space) for part in parts])
    return average(parts)


def combine_spaces(named: Sequence[tuple[str, LabelSpace]]) -> LabelSpace:
    """All tasks of several networks (name, label space). Raises PredictionsError if two answer the same task."""
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
    """For every task the mean probabilities over those parts that answer it; photos in the order of the first.

    Where only one part answers a task, its losses are kept; else they are those of the mean.

    Raises:
        PredictionsError: the photos or the classes of a task differ.
    """
    space = join_spaces([part.space for part in parts])
    aligned = [in_order(part, parts[0]) for part in parts]
    targets, losses = no_targets(space, len(parts[0]))
    probs: dict[str, Floats] = {}
    for task in space.names:
        answers = [part for part in aligned if task in part.space.names]
        votes = np.stack([part.probs[task] for part in answers])
        probs[task] = votes.mean(axis=0, dtype=np.float64).astype(np.float32)
        for part in answers:
            targets[task] = np.where(part.targets[task] != UNLABELLED, part.targets[task], targets[task])
        losses[task] = answers[0].losses[task] if len(answers) == 1 else cross_entropies(probs[task], targets[task])
    sources = [source for part in parts for source in part.sources]
    different = tuple(source for i, source in enumerate(sources) if source not in sources[:i])
    photos = aligned[0].photos.drop(columns=[task for task in space.names if task in aligned[0].photos])
    return Predictions(space, photos, probs, targets, losses, different)


def join_spaces(spaces: Sequence[LabelSpace]) -> LabelSpace:
    """All tasks of several label spaces, those of FACE in its order first.

    Raises:
        PredictionsError: a task has other classes in one of them than in another.
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


def in_order(part: Predictions, first: Predictions) -> Predictions:
    """The part with its photos in the order of `first`. Raises PredictionsError if they are others."""
    position = pd.Index(part.photos["photo"]).get_indexer(pd.Index(first.photos["photo"]))
    if len(part) != len(first) or (position < 0).any():
        missing = first.photos["photo"][position < 0].tolist() or ["another number of photos"]
        raise PredictionsError(
            f"expected the photos of {_named(first)}, found {len(part)} for {len(first)} in {_named(part)} "
            f"({missing[0]}); predict the same photos with both"
        )
    return Predictions(
        part.space,
        part.photos.iloc[position].reset_index(drop=True),
        {task: values[position] for task, values in part.probs.items()},
        {task: values[position] for task, values in part.targets.items()},
        {task: values[position] for task, values in part.losses.items()},
        part.sources,
    )


def cross_entropies(probs: Floats, targets: Ints) -> Floats:
    """Probabilities (N, C), targets (N,) -> minus the log of the truth's probability (N,), NaN where not known."""
    known = targets != UNLABELLED
    chosen = probs[np.arange(len(probs)), np.where(known, targets, 0)]
    smallest = np.finfo(np.float32).tiny
    return np.where(known, -np.log(np.maximum(chosen, smallest)), np.nan).astype(np.float32)


def _named(part: Predictions) -> str:
    return " + ".join(source.checkpoint for source in part.sources) or "unknown checkpoints"
