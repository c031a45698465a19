"""Cross-fitting: choose weights, soups and decision rules on some held-out people, and score the choice on the others.

A choice that is scored on the people on whom it was made looks better than it is. Here the people are dealt into folds;
the predictions for each fold come from the choice on all other folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from mask_lightning.ensemble.voting import Vote, Weights, vote_predictions
from mask_lightning.metrics.calibration import fit_corrections
from mask_lightning.metrics.decisions import decide
from mask_lightning.metrics.predictions import Predictions, join_rows
from mask_lightning.metrics.scores import MAIN_METRIC, has_labels, people_of, score

FOLDS = 5

Ints = npt.NDArray[np.int64]


def person_folds(predictions: Predictions, *, folds: int = FOLDS, seed: int = 0) -> Ints | None:
    """Deal the people into folds of equal size; relatives and near-duplicates (one `family`) stay together.

    Args:
        predictions: for the held-out photos.
        folds: number of folds; with fewer people, one person each.
        seed: of the deal.

    Returns:
        Fold of each photo (N,); None for a single person.
    """
    photos = predictions.photos
    groups = photos["family"].astype(str).to_numpy(np.str_) if "family" in photos else people_of(predictions)
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return None
    fold: Ints = np.random.default_rng(seed).permutation(len(names))[group] % min(folds, len(names))
    return fold


def cross_fit(fold: Ints, predict: Callable[[Ints, Ints], Predictions]) -> Predictions:
    """Predict every fold with what was chosen on the other folds.

    Args:
        fold: fold of each photo (N,).
        predict: (rows of the other folds, rows of the fold) -> predictions for the rows of the fold.

    Returns:
        Predictions for all photos, in their order.
    """
    rows = [np.flatnonzero(fold == i) for i in range(int(fold.max()) + 1)]
    parts = [predict(np.flatnonzero(fold != i), held) for i, held in enumerate(rows)]
    return join_rows(parts).select(np.argsort(np.concatenate(rows), kind="stable"))


def cross_fitted_vote(parts: Sequence[Predictions], fold: Ints) -> Vote:
    """Vote with weights by score (MAIN_METRIC), for each fold of the photos by the scores on the other folds.

    Args:
        parts: predictions of each member for the same photos, in the same order.
        fold: fold of each photo (N,).
    """
    ties: dict[str, int] = {}

    def predict(others: Ints, held: Ints) -> Predictions:
        weights = weights_by_score([part.select(others) for part in parts])
        vote = vote_predictions([part.select(held) for part in parts], kind="hard", weights=weights)
        ties.update({task: ties.get(task, 0) + count for task, count in vote.ties.items()})
        return vote.predictions

    return Vote(cross_fit(fold, predict), ties)


def cross_fitted_decision(predictions: Predictions, fold: Ints) -> Predictions:
    """Decide by the largest expected macro F1, with probabilities that are calibrated on the other folds of the people.

    The photos of a fold are decided together, without their labels.

    Args:
        predictions: with targets.
        fold: fold of each photo (N,).

    Raises:
        PredictionsError: a task has no labels outside of a fold.
    """
    return cross_fit(
        fold, lambda others, held: decide(predictions.select(held), fit_corrections(predictions.select(others)))
    )


def weights_by_score(parts: Sequence[Predictions]) -> Weights:
    """Weigh each member by its score (MAIN_METRIC) on these photos, per task; equally if no member scores anything."""
    scores = [score(part) if has_labels(part) else {} for part in parts]
    weights: dict[str, list[float]] = {}
    for part, found in zip(parts, scores, strict=True):
        for task in part.space.names:
            weights.setdefault(task, []).append(found[task].values[MAIN_METRIC] if task in found else 0.0)
    return {task: values if any(values) else [1.0] * len(values) for task, values in weights.items()}
