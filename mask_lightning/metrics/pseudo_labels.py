"""Choice of confident photos for pseudo-labels, and weights that balance their classes: functions of arrays.

Source: Zou et al. 2018, "Unsupervised domain adaptation for semantic segmentation via class-balanced self-training",
arXiv:1810.07911, section 3.2: the same share of every predicted class is chosen. One threshold for all classes would
choose the easy classes only.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

MAX_WEIGHT = 4.0  # of a class, before the weights are scaled to mean 1: a few photos must not outweigh all others


def choose_confident(probs: Floats, *, share: float, confidence: float) -> Bools:
    """Choose the most confident share of the photos of each predicted class.

    Args:
        probs: (N, C), rows sum to 1.
        share: of the photos predicted as a class, rounded up.
        confidence: smallest probability of the pred.

    Returns:
        (N,), True for a chosen photo.

    Example:
        >>> choose_confident(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), share=0.5, confidence=0.6)
        array([ True, False,  True])
    """
    preds, largest = probs.argmax(axis=1), probs.max(axis=1)
    chosen = np.zeros(len(probs), np.bool_)
    for label in range(probs.shape[1]):
        rows = np.flatnonzero(preds == label)
        best = rows[np.argsort(-largest[rows], kind="stable")]
        chosen[best[: math.ceil(share * len(rows))]] = True
    confident: Bools = chosen & (largest >= confidence)
    return confident


def balance(preds: npt.NDArray[np.int64], chosen: Bools, num_classes: int) -> npt.NDArray[np.float32]:
    """Compute weights of mean 1 with which the chosen photos of every class weigh the same in total.

    A class with few photos gets at most MAX_WEIGHT times the weight of the mean class.

    Args:
        preds: (N,).
        chosen: (N,).
        num_classes: C.

    Returns:
        (N,), 0 for photos that are not chosen.

    Example:
        >>> balance(np.array([0, 0, 0, 1, 1]), np.array([True, True, True, True, False]), 2).round(2)
        array([0.67, 0.67, 0.67, 2.  , 0.  ], dtype=float32)
    """
    counts = np.bincount(preds[chosen], minlength=num_classes)
    present = counts > 0
    if not present.any():
        return np.zeros(len(preds), np.float32)
    by_class = np.minimum(counts[present].mean() / np.maximum(counts, 1), MAX_WEIGHT)
    weights = np.where(chosen, by_class[preds], 0.0)
    scaled: npt.NDArray[np.float32] = (weights / weights[chosen].mean()).astype(np.float32)
    return scaled
