"""Decision rules: choose a class for each photo from calibrated probabilities.

`argmax` chooses the most probable class, which maximises the expected accuracy. `macro_f1` maximises the expected macro
F1 of all photos together: it gives more photos to rare classes.

Let n be the sum of a class's probabilities, m the number of photos decided as the class, and t the sum of the
probabilities of these photos. The expected F1 of the class is about F = 2 t / (n + m), and one more photo with
probability p changes it by 2 / (n + m) * (p - F / 2). A photo therefore belongs to the class with the largest
`weight * (p - threshold)`, with weight 2 / (n + m) and threshold F / 2. These numbers depend on the decisions, so the
rule is the fixed point of an iteration. It needs no labels.

Sources: Lipton et al. 2014, "Thresholding classifiers to maximize F1 score", arXiv:1402.1892, section 4, for the
threshold of half the optimal F1; Narasimhan et al. 2015, "Consistent multiclass algorithms for complex performance
measures", ICML, for several classes whose counts depend on each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mask_lightning.errors import PredictionsError
from mask_lightning.labels import FACE, LabelSpace
from mask_lightning.metrics.calibration import Correction, correct, to_log
from mask_lightning.metrics.predictions import Predictions

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MAX_STEPS = 200  # of the iteration; it takes about 10
PATIENCE = 20  # steps without improvement after which the iteration ends


@dataclass(frozen=True)
class F1Rule:
    """Weight and threshold of each class; a photo is decided as the class with the largest weight * (p - threshold).

    Attributes:
        weights, thresholds: (C,).
    """

    weights: Floats
    thresholds: Floats

    def apply(self, probs: Floats) -> Ints:
        """Return the decided class (N,) of probabilities (N, C)."""
        decided: Ints = (self.weights * (probs - self.thresholds)).argmax(axis=1)
        return decided


def expected_f1(probs: Floats, preds: Ints) -> Floats:
    """Compute the expected F1 of each class (C,), as the ratio of expected counts.

    Args:
        probs: calibrated probabilities (N, C).
        preds: decided classes (N,).

    Example:
        >>> expected_f1(np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([0, 1])).round(3)
        array([0.727, 0.667])
    """
    hits, expected, decided = _count(probs, preds)
    f1: Floats = 2 * hits / np.maximum(expected + decided, np.finfo(np.float64).tiny)
    return f1


def decide_macro_f1(probs: npt.ArrayLike) -> Ints:
    """Choose the classes with the largest expected macro F1 of all photos together.

    The iteration starts at the most probable classes and returns the best decisions that it has met, so the result is
    never expected to be worse than they are.

    Args:
        probs: calibrated probabilities (N, C).

    Returns:
        (N,), class indices.

    Example:
        >>> probs = np.array([[0.9, 0.1]] * 8 + [[0.6, 0.4]] * 2)
        >>> decide_macro_f1(probs).tolist()  # otherwise the F1 of the second class would be 0
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    """
    values = np.asarray(probs, np.float64)
    preds: Ints = values.argmax(axis=1)
    best, best_f1, since = preds, expected_f1(values, preds).mean(), 0
    hits, expected, decided = _count(values, preds)
    for _ in range(MAX_STEPS):
        total = np.maximum(expected + decided, np.finfo(np.float64).tiny)
        preds = F1Rule(2 / total, hits / total).apply(values)
        f1 = expected_f1(values, preds).mean()
        best, best_f1, since = (preds, f1, 0) if f1 > best_f1 else (best, best_f1, since + 1)
        if since == PATIENCE:
            break
        # Half a step: whole steps may alternate between two decisions.
        new_hits, _, new_decided = _count(values, preds)
        hits, decided = (hits + new_hits) / 2, (decided + new_decided) / 2
    return best


def _count(probs: Floats, preds: Ints) -> tuple[Floats, Floats, Floats]:
    """Return the expected hits, the expected photos and the decided photos of each class, (C,) each."""
    classes = probs.shape[1]
    hits: Floats = np.bincount(preds, probs[np.arange(len(probs)), preds], classes).astype(np.float64)
    return hits, probs.sum(axis=0), np.bincount(preds, minlength=classes).astype(np.float64)


def decided_together(space: LabelSpace) -> list[LabelSpace]:
    """Divide the tasks into groups whose combined class is decided: the tasks of FACE if all are there; others alone.

    Example:
        >>> [group.names for group in decided_together(FACE.only(["gender", "age"]))]
        [('gender',), ('age',)]
    """
    joint = [FACE] if all(task in space.tasks for task in FACE.tasks) else []
    alone = [task.name for task in space.tasks if not (joint and task in FACE.tasks)]
    return [*joint, *(space.only([name]) for name in alone)]


def joint_probs(space: LabelSpace, probs: Mapping[str, npt.NDArray[np.floating]]) -> Floats:
    """Multiply the tasks' probabilities (N, C) into those of the combined class (N, space.num_codes).

    The tasks are taken to be independent given the photo, as the heads of the network are trained.

    Example:
        >>> probs = {"mask": np.array([[0.5, 0.3, 0.2]]), "gender": np.array([[0.9, 0.1]])}
        >>> joint_probs(FACE.only(["mask", "gender"]), probs).round(2)
        array([[0.45, 0.05, 0.27, 0.03, 0.18, 0.02]])
    """
    joint = np.ones((len(next(iter(probs.values()))), 1))
    for task in space.names:
        joint = (joint[:, :, None] * np.asarray(probs[task], np.float64)[:, None, :]).reshape(len(joint), -1)
    return joint


def decide(predictions: Predictions, corrections: Mapping[str, Correction]) -> Predictions:
    """Decide by the largest expected macro F1 of the groups of `decided_together`.

    Args:
        predictions: the probabilities of the models, calibrated by the temperatures of their sources or not.
        corrections: task -> correction of the models' own probabilities, fitted on other photos.

    Returns:
        The predictions with `decisions`; probabilities stay.

    Raises:
        PredictionsError: a task has no correction.
    """
    missing = [task for task in predictions.space.names if task not in corrections]
    if missing:
        raise PredictionsError(
            f"decision=macro_f1 needs calibrated probabilities, found none of {', '.join(missing)} of "
            f"{predictions.name}; calibrate first: python -m mask_lightning.evaluate ckpt=RUN calibrate=true"
        )
    probs = {task: corrected_probs(predictions, task, corrections[task]) for task in predictions.space.names}
    decisions: dict[str, Ints] = {}
    for group in decided_together(predictions.space):
        decisions |= group.decode(decide_macro_f1(joint_probs(group, {task: probs[task] for task in group.names})))
    return replace(predictions, decisions=decisions)


def corrected_probs(predictions: Predictions, task: str, correction: Correction) -> Floats:
    """Return the corrected probabilities of a task (N, C); temperatures that were applied before are undone."""
    applied = [source.temperatures.get(task, 1.0) for source in predictions.sources if task in source.tasks]
    if len(applied) > 1 and set(applied) != {1.0}:
        raise PredictionsError(f"expected one model for {task} or uncalibrated ones, found {len(applied)} temperatures")
    log_probs = to_log(predictions.probs[task]) * (applied[0] if applied else 1.0)
    return np.exp(correct(log_probs, correction))
