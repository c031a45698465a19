"""Hard and soft votes of several models: on arrays of one task, and on predictions of several tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from mask_lightning.errors import PredictionsError
from mask_lightning.metrics.predictions import Predictions, average, cross_entropies

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
Kind = Literal["hard", "soft"]
Weights = Mapping[str, Sequence[float]]  # task -> a weight for each member that predicts it

TIE_LIFT = 1e-3  # added to the winner's share after a tie, so that argmax finds it


@dataclass(frozen=True)
class Vote:
    """Vote of an ensemble on N photos.

    Attributes:
        predictions: `probs` are shares of the votes (hard) or mean probabilities (soft); argmax is the winner.
        ties: task -> number of photos with a tie.
    """

    predictions: Predictions
    ties: dict[str, int]


@dataclass(frozen=True)
class TaskVote:
    """Vote on one task.

    Attributes:
        preds: the winning class (N,).
        probs: (N, C), share of the votes of each class (hard) or its mean probability (soft); rows sum to 1.
        ties: number of photos with a tie.
    """

    preds: Ints
    probs: Floats
    ties: int


def vote_predictions(parts: Sequence[Predictions], *, kind: Kind, weights: Weights | None = None) -> Vote:
    """Vote on every task over the parts that predict it.

    Args:
        parts: predictions of each member for the same photos.
        kind: `hard` counts the members' preds, `soft` averages their probabilities.
        weights: of the members; None weighs all equally.

    Raises:
        PredictionsError: the photos or a task's classes differ, or the weights are not valid.
    """
    mean = average(parts)
    vote_task = hard_vote if kind == "hard" else soft_vote
    votes = {
        task: vote_task(stack_probs(parts, task), weights[task] if weights is not None else None)
        for task in mean.space.names
    }
    probs = {task: _with_winner(each) for task, each in votes.items()}
    losses = {task: cross_entropies(probs[task], mean.targets[task]) for task in probs}
    return Vote(replace(mean, probs=probs, losses=losses), {task: each.ties for task, each in votes.items()})


def hard_vote(probs: Floats, weights: Sequence[float] | None = None) -> TaskVote:
    """Count the members' preds; the class with most votes wins.

    After a tie, the tied class with the largest mean probability wins, then the one with the lowest index.

    Args:
        probs: (M, N, C), of M members.
        weights: votes per member (M,); None counts 1 each.

    Raises:
        PredictionsError: no members, or weights that are negative, all 0, or not M.

    Example:
        >>> probs = np.array([[[0.6, 0.4]], [[0.6, 0.4]], [[0.0, 1.0]]])
        >>> hard_vote(probs).preds, soft_vote(probs).preds
        (array([0]), array([1]))
    """
    share = _shares(probs, weights)
    is_pred = probs.argmax(axis=2)[:, :, None] == np.arange(probs.shape[2])
    votes = np.tensordot(share, is_pred, axes=1)
    leading = np.isclose(votes, votes.max(axis=1, keepdims=True))
    means = np.where(leading, np.tensordot(share, probs, axes=1), -1)
    return TaskVote(means.argmax(axis=1), votes, ties=int((leading.sum(axis=1) > 1).sum()))


def soft_vote(probs: Floats, weights: Sequence[float] | None = None) -> TaskVote:
    """Average the members' probabilities; the class with the largest mean wins, after a tie the lowest index.

    Args:
        probs: (M, N, C), of M members.
        weights: of the members (M,); None weighs all equally.

    Raises:
        PredictionsError: as `hard_vote`.
    """
    means = np.tensordot(_shares(probs, weights), probs, axes=1)
    ties = (means == means.max(axis=1, keepdims=True)).sum(axis=1) > 1
    return TaskVote(means.argmax(axis=1), means, ties=int(ties.sum()))


def agreement(probs: Floats) -> npt.NDArray[np.float64]:
    """Compute the share of photos on which each pair of members has the same pred.

    Args:
        probs: (M, N, C), of M members.

    Returns:
        (M, M), symmetric, with ones on the diagonal.
    """
    preds = probs.argmax(axis=2)
    same: npt.NDArray[np.float64] = (preds[:, None] == preds[None]).mean(axis=2)
    return same


def stack_probs(parts: Sequence[Predictions], task: str) -> Floats:
    """Stack the probabilities of the M parts that predict the task (M, N, C)."""
    return np.stack([part.probs[task] for part in parts if task in part.space.names])


def _shares(probs: Floats, weights: Sequence[float] | None) -> Floats:
    members = len(probs)
    values = np.ones(members) if weights is None else np.asarray(weights, dtype=np.float64)
    if not members or len(values) != members or (values < 0).any() or not values.sum() > 0:
        raise PredictionsError(
            f"expected a weight of 0 or more for each of {members} members, not all 0, got {values.tolist()}; "
            "set weights"
        )
    shares: Floats = values / values.sum()
    return shares


def _with_winner(task_vote: TaskVote) -> Floats:
    """Probabilities whose argmax is the winner: after a tie, the winner gets slightly more than its equals."""
    probs = task_vote.probs.astype(np.float32)
    broken = probs.argmax(axis=1) != task_vote.preds
    probs[broken, task_vote.preds[broken]] += TIE_LIFT
    lifted: Floats = probs / probs.sum(axis=1, keepdims=True)
    return lifted
