"""Reliability of probabilities, temperature scaling, and bias-corrected temperature scaling.

Guo et al. 2017, "On calibration of modern neural networks". A temperature divides all log probabilities of a task: the
preds stay the same, only their probabilities change.

A network trained with balanced classes (logit adjustment, class weights) predicts rare classes too often for its
probabilities to be frequencies, which no temperature changes. Decision rules need frequencies; for them, a bias per
class is fitted together with the temperature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax

from mask_lightning.labels import UNLABELLED
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.metrics.scores import people_of

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BINS = 15  # as in the paper
RANGE = (0.05, 20.0)  # of fitted temperatures
SMALLEST = float(np.finfo(np.float32).tiny)  # positive probability that float32 stores exactly


@dataclass(frozen=True)
class Reliability:
    """Accuracy of the preds by their probability.

    Attributes:
        edges: of the B bins of probability (B + 1,).
        photos: photos per bin (B,).
        confidence: mean probability of the preds (B,), NaN in an empty bin.
        accuracy: share of right preds (B,), NaN in an empty bin.
        ece: expected calibration error: mean distance between confidence and accuracy, weighted by photos.
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
        before: reliability of the model's own probabilities.
        temperature: the given one, or fitted on all these photos.
        given: True if the temperature was fitted on other photos.
        after: reliability with the given temperature; without one, cross-fitted: each half of the people is scaled
            with the temperature of the other half. None with a single person.
    """

    before: Reliability
    temperature: float
    given: bool
    after: Reliability | None


def calibrate(
    predictions: Predictions, given: Mapping[str, float] | None = None, *, seed: int = 0
) -> dict[str, TaskCalibration]:
    """Measure reliability before and after temperature scaling.

    Args:
        predictions: with the model's own, uncalibrated probabilities.
        given: task -> temperature fitted on other photos; None fits on these.
        seed: splits the people into halves.

    Returns:
        Task -> calibration, for every task with labels.
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
    """Compute reliability in equal bins of the largest probability.

    Args:
        probs: (N, C), rows sum to 1.
        targets: class indices (N,).
        bins: number of bins in 0..1.

    Example:
        >>> found = measure([[0.9, 0.1], [0.9, 0.1]], np.array([0, 1]))
        >>> round(found.ece, 2)  # 90 % confident, right on half of the photos
        0.4
    """
    probs = np.asarray(probs, np.float64)
    confidences, right = probs.max(axis=1), probs.argmax(axis=1) == targets
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.clip(np.ceil(confidences * bins).astype(np.int64) - 1, 0, bins - 1)  # the upper edge belongs to a bin
    photos, sums, hits = (np.bincount(bin_of, weights, bins) for weights in (None, confidences, right))
    with np.errstate(invalid="ignore"):
        confidence, accuracy = sums / photos, hits / photos
    return Reliability(edges, photos, confidence, accuracy, float(np.abs(hits - sums).sum() / len(targets)))


def fit_temperature(log_probs: Floats, targets: Ints) -> float:
    """Find the temperature with the smallest mean cross-entropy, within RANGE.

    Args:
        log_probs: (N, C).
        targets: class indices (N,).

    Returns:
        The temperature; 1 if all preds are right or all are wrong, since the optimum is then infinite or 0.
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
    """Scale each half of the people with the temperature of the other half (N, C); None with a single person."""
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
    """Divide log probabilities (N, C) by a temperature and normalise them again.

    Example:
        >>> np.exp(scale(np.log([[0.9, 0.1]]), 2.0)).round(2)
        array([[0.75, 0.25]])
    """
    scaled: Floats = log_softmax(log_probs / temperature, axis=1)
    return scaled


@dataclass(frozen=True)
class Correction:
    """Bias-corrected temperature scaling of one task.

    Attributes:
        temperature: divisor of the log probabilities.
        bias: (C,), added to each class afterwards; the sum is 0.
    """

    temperature: float
    bias: tuple[float, ...]


def fit_correction(log_probs: Floats, targets: Ints) -> Correction:
    """Find the temperature and the bias of each class with the smallest mean cross-entropy.

    A penalty that is worth one photo (the squared bias / 2, summed over classes) keeps the bias of a class without
    photos finite.

    Source: Alexandari et al. 2020, "Maximum likelihood with bias-corrected calibration is hard-to-beat at label shift
    adaptation", arXiv:1901.06852, section 3.

    Args:
        log_probs: (N, C), the model's own.
        targets: class indices (N,).

    Example:
        >>> found = fit_correction(np.log(np.full((40, 2), 0.5)), np.array([0] * 30 + [1] * 10))
        >>> np.exp(correct(np.log([[0.5, 0.5]]), found)).round(2)  # three of four photos are of the first class
        array([[0.74, 0.26]])
    """
    classes = log_probs.shape[1]
    truth = np.eye(classes)[targets]

    def loss(values: Floats) -> tuple[float, Floats]:
        sharpness, bias = np.exp(-values[0]), values[1:]
        scaled = log_softmax(sharpness * log_probs + bias, axis=1)
        errors = np.exp(scaled) - truth
        penalty = (bias**2).sum() / 2
        slope = -sharpness * (errors * log_probs).sum()
        return float(-scaled[truth > 0].sum() + penalty), np.concatenate([[slope], errors.sum(axis=0) + bias])

    start = np.zeros(1 + classes)
    start[0] = np.log(fit_temperature(log_probs, targets))
    bounds = [tuple(np.log(RANGE)), *[(None, None)] * classes]
    right = (log_probs.argmax(axis=1) == targets).mean()
    if right in (0, 1):  # as for a temperature alone, the optimum would be infinite or 0
        bounds[0] = (0.0, 0.0)
    fitted = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    bias = fitted[1:] - fitted[1:].mean()
    return Correction(float(np.exp(fitted[0])), tuple(bias.tolist()))


def fit_corrections(predictions: Predictions) -> dict[str, Correction]:
    """Fit the correction of every task with labels, from the model's own probabilities."""
    found = {}
    for task in predictions.space.names:
        known = predictions.targets[task] != UNLABELLED
        if known.any():
            found[task] = fit_correction(to_log(predictions.probs[task][known]), predictions.targets[task][known])
    return found


def correct(log_probs: Floats, correction: Correction) -> Floats:
    """Apply a correction to log probabilities (N, C), and normalise them again."""
    corrected: Floats = log_softmax(log_probs / correction.temperature + np.asarray(correction.bias), axis=1)
    return corrected


def to_log(probs: npt.NDArray[np.float32]) -> Floats:
    """Take the logarithm of probabilities (N, C); values below SMALLEST count as SMALLEST."""
    return np.log(np.maximum(probs.astype(np.float64), SMALLEST))
