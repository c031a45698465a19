"""Everything that is told of some predictions, together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import numpy as np

from mask_lightning.inference.predictions import Predictions
from mask_lightning.labels import AGE, MASK
from mask_lightning.metrics.bootstrap import Interval, Metric, intervals
from mask_lightning.metrics.calibration import TaskCalibration, calibrate
from mask_lightning.metrics.scores import TaskScores, headline, known_answers, people_of, score
from mask_lightning.metrics.slices import Slice, scores_given, slice_scores, worst_slice


@dataclass(frozen=True)
class Evaluation:
    """What predictions are worth.

    Attributes:
        people, photos: how many were scored.
        headline: the key of `scores` that counts: `joint`, or the only task.
        scores: task, and `joint` -> scores.
        intervals: the same -> metric -> interval by bootstrap over people.
        calibration: task -> reliability before and after temperature scaling.
        slices: scores of some of the photos.
        worst: the slice with the lowest accuracy of those with enough people, None where there is none.
        age_given_mask: true class of mask -> scores of age; empty where one of the two is not answered.
    """

    people: int
    photos: int
    headline: str
    scores: Mapping[str, TaskScores]
    intervals: Mapping[str, Mapping[Metric, Interval]]
    calibration: Mapping[str, TaskCalibration]
    slices: tuple[Slice, ...]
    worst: Slice | None
    age_given_mask: Mapping[str, TaskScores]

    def to_plain(self) -> dict[str, Any]:
        """Plain values that strict JSON can hold."""
        plain: dict[str, Any] = to_plain(self)
        return plain


def evaluate(predictions: Predictions, temperatures: Mapping[str, float] | None = None, *, seed: int = 0) -> Evaluation:
    """Score predictions with the network's own probabilities.

    Args:
        predictions: with targets.
        temperatures: task -> temperature that other photos gave; None fits them on these.
        seed: of the draws of people.

    Raises:
        PredictionsError: no photo has a label.
    """
    answers, slices = known_answers(predictions), slice_scores(predictions, seed=seed)
    rows = np.unique(np.concatenate([each.rows for each in answers.values()]))
    return Evaluation(
        people=len(np.unique(people_of(predictions)[rows])),
        photos=len(rows),
        headline=headline(answers),
        scores=score(predictions),
        intervals=intervals(predictions, seed=seed),
        calibration=calibrate(predictions, temperatures, seed=seed),
        slices=tuple(slices),
        worst=worst_slice(slices),
        age_given_mask=scores_given(predictions, AGE.name, MASK.name),
    )


def to_plain(value: Any) -> Any:
    """Nested values and dataclasses -> plain ones; numbers that JSON lacks (NaN) become None."""
    if is_dataclass(value) and not isinstance(value, type):
        return to_plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): to_plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [to_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return to_plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
