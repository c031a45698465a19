"""All numbers of an evaluation, computed from predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from mask_lightning.labels import AGE, MASK
from mask_lightning.metrics.bootstrap import Interval, intervals
from mask_lightning.metrics.calibration import TaskCalibration, calibrate
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.metrics.scores import TaskScores, headline, labelled_preds, people_of, score, why_mean
from mask_lightning.metrics.slices import Slice, scores_given, slice_scores, worst_slice


@dataclass(frozen=True)
class Evaluation:
    """Scores, intervals, calibration and slices of some predictions.

    Attributes:
        people, photos: how many were scored.
        headline: the most important key of `intervals`: `joint`; `mean of the tasks` if the combined class of several
            tasks is not scored; or the only task.
        why_mean: reason why the combined class is not scored, None if it is or if there is one task.
        scores: task, and `joint` -> scores.
        intervals: task, `joint` and `mean of the tasks` -> metric -> bootstrap interval over people.
        calibration: task -> reliability before and after temperature scaling.
        slices: scores of subgroups of the photos.
        worst: slice with the lowest accuracy among those with enough people, None if there is none.
        age_given_mask: true class of mask -> scores of age; empty unless both tasks are predicted.
    """

    people: int
    photos: int
    headline: str
    scores: Mapping[str, TaskScores]
    intervals: Mapping[str, Mapping[str, Interval]]
    calibration: Mapping[str, TaskCalibration]
    slices: tuple[Slice, ...]
    worst: Slice | None
    age_given_mask: Mapping[str, TaskScores]
    why_mean: str | None = None

    def to_plain(self) -> dict[str, Any]:
        """Convert to plain values for strict JSON."""
        plain: dict[str, Any] = to_plain(self)
        return plain


def evaluate(predictions: Predictions, temperatures: Mapping[str, float] | None = None, *, seed: int = 0) -> Evaluation:
    """Evaluate predictions that hold the model's own, uncalibrated probabilities.

    Args:
        predictions: with targets.
        temperatures: task -> temperature fitted on other photos; None fits them on these.
        seed: of the bootstrap draws and of the halves for the temperatures.

    Raises:
        PredictionsError: no photo has a label.
    """
    labelled, slices = labelled_preds(predictions), slice_scores(predictions, seed=seed)
    rows = np.unique(np.concatenate([each.rows for each in labelled.values()]))
    return Evaluation(
        people=len(np.unique(people_of(predictions)[rows])),
        photos=len(rows),
        headline=headline(labelled),
        scores=score(predictions),
        intervals=intervals(predictions, seed=seed),
        calibration=calibrate(predictions, temperatures, seed=seed),
        slices=tuple(slices),
        worst=worst_slice(slices),
        age_given_mask=scores_given(predictions, AGE.name, MASK.name),
        why_mean=why_mean(predictions),
    )


def to_plain(value: Any) -> Any:
    """Convert nested dataclasses, mappings and arrays to plain values; NaN and infinity become None.

    The metrics of `TaskScores` stand beside its other fields.

    Example:
        >>> to_plain({"f1": np.float64(0.5), "accuracy": math.nan, "support": np.array([1, 2])})
        {'f1': 0.5, 'accuracy': None, 'support': [1, 2]}
    """
    if isinstance(value, TaskScores):
        return to_plain({**{k: v for k, v in _fields_of(value).items() if k != "values"}, **value.values})
    if is_dataclass(value) and not isinstance(value, type):
        return to_plain(_fields_of(value))
    if isinstance(value, Mapping):
        return {str(key): to_plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [to_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return to_plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _fields_of(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}
