"""Regularised logistic regression, and the choice of its strength by cross-validation over people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from mask_lightning.errors import SplitError

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
"""Values of scikit-learn's C, for standardised features: small is strong regularisation."""

FOLDS = 5
MAX_STEPS = 200  # of L-BFGS; strong regularisation needs fewer than 50


class LinearClassifier(NamedTuple):
    """Linear function from features to logits.

    Attributes:
        weight: (C, F).
        bias: (C,).
    """

    weight: Floats
    bias: Floats


class CrossValidation(NamedTuple):
    """Result of a cross-validation over people.

    Attributes:
        strength: value of STRENGTHS with the smallest loss.
        loss: its mean negative log likelihood of held-out photos.
        log_probs: log probabilities (N, C) of each photo by the fit that held its person out.
    """

    strength: float
    loss: float
    log_probs: Doubles


def cross_validate(
    features: Floats,
    targets: Ints,
    people: Sequence[str],
    *,
    num_classes: int,
    weights: Doubles | None = None,
    balanced: bool = False,
    seed: int = 0,
) -> CrossValidation:
    """Choose the strength of the regularisation: it is raised until the held-out loss has grown twice in succession.

    Args:
        features: (N, F).
        targets: class of each photo (N,), at least two classes.
        people: person, or family, of each photo (N,); held out together.
        num_classes: C.
        weights: weight of each photo (N,); None: all 1.
        balanced: weight photos by the inverse frequency of their class.
        seed: of the folds.

    Raises:
        SplitError: there is one person only.

    Example:
        >>> features = np.array([[0.0], [0.1], [1.0], [1.1]] * 5, np.float32)
        >>> people = [str(i // 4) for i in range(20)]
        >>> found = cross_validate(features, np.array([0, 0, 1, 1] * 5), people, num_classes=2)
        >>> found.strength in STRENGTHS, bool((found.log_probs.argmax(1) == [0, 0, 1, 1] * 5).all())
        (True, True)
    """
    folds = min(FOLDS, len(set(people)))
    if folds < 2:
        raise SplitError("a cross-validation over people needs two training people, found one; train on more")
    weights = np.ones(len(targets)) if weights is None else weights
    splitter = GroupKFold(folds, shuffle=True, random_state=seed)
    splits = list(splitter.split(features, targets, list(people)))
    models = [_new_model(balanced=balanced) for _ in splits]
    found: list[CrossValidation] = []
    for strength in STRENGTHS:
        log_probs = np.zeros((len(targets), num_classes))
        for model, (train, held_out) in zip(models, splits, strict=True):
            fitted = _fit(model, features[train], targets[train], num_classes, strength, weights[train])
            log_probs[held_out] = log_softmax(features[held_out] @ fitted.weight.T + fitted.bias, axis=1)
        loss = -np.average(log_probs[np.arange(len(targets)), targets], weights=weights)
        found.append(CrossValidation(strength, float(loss), log_probs))
        if len(found) > 2 and found[-1].loss > found[-2].loss > found[-3].loss:
            break
    return min(found, key=lambda each: each.loss)


def fit_logistic_regression(
    features: Floats,
    targets: Ints,
    *,
    num_classes: int,
    strength: float,
    weights: Doubles | None = None,
    balanced: bool = False,
) -> LinearClassifier:
    """Fit a multinomial logistic regression with L2 regularisation, by scikit-learn.

    Features are standardised for the fit; the result takes them as they are.

    Args:
        features: (N, F).
        targets: class of each photo (N,).
        num_classes: C; a class without photos gets weights 0 and the log odds of half a photo.
        strength: scikit-learn's C; large is weak regularisation.
        weights: weight of each photo (N,); None: all 1.
        balanced: weight photos by the inverse frequency of their class.

    Example:
        >>> features = np.array([[0.0], [0.1], [1.0], [1.1]], np.float32)
        >>> fitted = fit_logistic_regression(features, np.array([0, 0, 2, 2]), num_classes=3, strength=0.1)
        >>> (features @ fitted.weight.T + fitted.bias).argmax(1).tolist()
        [0, 0, 2, 2]
    """
    weights = np.ones(len(targets)) if weights is None else weights
    return _fit(_new_model(balanced=balanced), features, targets, num_classes, strength, weights)


def _new_model(*, balanced: bool) -> LogisticRegression:
    kind = "balanced" if balanced else None
    return LogisticRegression(warm_start=True, max_iter=MAX_STEPS, class_weight=kind, tol=1e-3)


def _fit(
    model: LogisticRegression, features: Floats, targets: Ints, num_classes: int, strength: float, weights: Doubles
) -> LinearClassifier:
    present = np.unique(targets)
    weight, bias = np.zeros((num_classes, features.shape[1])), np.full(num_classes, np.log(0.5 / len(targets)))
    if len(present) == 1:
        bias[present] = 0.0
        return LinearClassifier(weight.astype(np.float32), bias.astype(np.float32))
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale == 0] = 1  # a feature that never varies
    model.set_params(C=strength)
    with threadpool_limits(1):  # the matrices are small: several threads take twenty times as long on busy cores
        model.fit((features - mean) / scale, targets, sample_weight=weights)
    coef, intercept = model.coef_, model.intercept_
    if len(present) == 2:  # scikit-learn has one row for two classes: the log odds of the second
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    weight[present] = coef / scale
    bias[present] = intercept - weight[present] @ mean
    return LinearClassifier(weight.astype(np.float32), bias.astype(np.float32))
