"""Whether probabilities are honest, and the temperature that makes them so (Guo et al. 2017, "On calibration").

A temperature divides all log probabilities of a task: the answers stay, only how sure they sound changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from mask_lightning.inference.predictions import Predictions
from mask_lightning.labels import UNLABELLED
from mask_lightning.metrics.scores import people_of

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BINS = 15  # as in the paper
RANGE = (0.05, 20.0)  # of temperatures
SMALLEST = float(np.finfo(np.float32).tiny)  # of probabilities that are stored in float32


@dataclass(frozen=True)
class Reliability:
    """How often answers are right, by how probable the network called them.

    Attributes:
        edges: of the bins of probability (B + 1,).
        photos: how many answers each bin has (B,).
        confidence: their mean probability (B,), NaN in an empty bin.
        accuracy: their share of right ones (B,), NaN in an empty bin.
        ece: expected calibration error, the mean distance of the two over all answers.
    """

    edges: Floats
    photos: Ints
    confidence: Floats
    accuracy: Floats
    ece: float


@dataclass(frozen=True)
class TaskCalibration:
    """One task before and after temperature scaling.

    Attributes:
        before: as the network says it.
        temperature: fitted on all of these photos, or the one that was given.
        given: whether it was.
        after: with that temperature where it was given, so that these photos had no part in it; else cross-fitted:
            each half of the people with the temperature of the other half. None with a single person.
    """

    before: Reliability
    temperature: float
    given: bool
    after: Reliability | None


def calibrate(
    predictions: Predictions, given: Mapping[str, float] | None = None, *, seed: int = 0
) -> dict[str, TaskCalibration]:
    """Task -> its calibration, for every task with labels.

    Args:
        predictions: with the network's own probabilities.
        given: task -> temperature that other photos gave; None fits on these.
        seed: of the halves of the people.
    """
    people, found = people_of(predictions), {}
    for task in predictions.space.names:
        known = predictions.targets[task] != UNLABELLED
        if not known.any():
            continue
        targets, log_probs = predictions.targets[task][known], to_log(predictions.probs[task][known])
        if given is None:
            temperature = fit_temperature(log_probs, targets)
            after = cross_fit(log_probs, targets, people[known], seed=seed)
        else:
            temperature = given.get(task, 1.0)
            after = scale(log_probs, temperature)
        found[task] = TaskCalibration(
            before=measure(np.exp(log_probs), targets),
            temperature=temperature,
            given=given is not None,
            after=None if after is None else measure(np.exp(after), targets),
        )
    return found


def measure(probs: npt.ArrayLike, targets: Ints, *, bins: int = BINS) -> Reliability:
    """Probabilities (N, C) and targets (N,) -> reliability in equal bins of the answer's probability."""
    probs = np.asarray(probs, np.float64)
    sure, right = probs.max(axis=1), probs.argmax(axis=1) == targets
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)  # the upper edge belongs to a bin
    photos, sums, hits = (np.bincount(bin_of, weights, bins) for weights in (None, sure, right))
    with np.errstate(invalid="ignore"):
        confidence, accuracy = sums / photos, hits / photos
    return Reliability(edges, photos, confidence, accuracy, float(np.abs(hits - sums).sum() / len(targets)))


def fit_temperature(log_probs: Floats, targets: Ints) -> float:
    """The temperature of the least mean cross-entropy of log probabilities (N, C); within RANGE.

    Where every answer is right, or none, there is nothing to learn from, and it stays 1.
    """
    right = (log_probs.argmax(axis=1) == targets).mean()
    if right in (0, 1):
        return 1.0
    rows = np.arange(len(targets))
    fitted = minimize_scalar(
        lambda log_temperature: -scale(log_probs, np.exp(log_temperature))[rows, targets].mean(),
        bounds=np.log(RANGE),
        method="bounded",
    )
    return float(np.exp(fitted.x))


def cross_fit(log_probs: Floats, targets: Ints, people: npt.NDArray[np.str_], *, seed: int = 0) -> Floats | None:
    """Each half of the people scaled with the temperature of the other half (N, C); None with a single person."""
    names, person = np.unique(people, return_inverse=True)
    if len(names) < 2:
        return None
    half = np.random.default_rng(seed).permutation(len(names)) % 2 == 0
    first = half[person]
    scaled = np.empty_like(log_probs)
    for fitted, applied in ((first, ~first), (~first, first)):
        scaled[applied] = scale(log_probs[applied], fit_temperature(log_probs[fitted], targets[fitted]))
    return scaled


def scale(log_probs: Floats, temperature: float) -> Floats:
    """Log probabilities (N, C) divided by a temperature, normalised again."""
    scaled: Floats = log_softmax(log_probs / temperature, axis=1)
    return scaled


def to_log(probs: npt.NDArray[np.float32]) -> Floats:
    """Log of probabilities; those too small for float32 count as the smallest that is not."""
    return np.log(np.maximum(probs.astype(np.float64), SMALLEST))
