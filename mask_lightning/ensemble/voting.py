"""What several networks say together about one task: pure arrays, members first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from mask_lightning.errors import PredictionsError
from mask_lightning.inference.predictions import Predictions, average, cross_entropies

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Vote:
    """The ensemble's answer for N photos.

    Attributes:
        preds: (N,), the class that won.
        probs: (N, C), each class's share of the votes, or its mean probability; rows sum to 1.
        ties: photos on which the votes alone did not decide.
    """

    preds: Ints
    probs: Floats
    ties: int


def hard_vote(probs: Floats, weights: Sequence[float] | None = None) -> Vote:
    """Each member votes for its most probable class; the class with most votes wins.

    Of classes with equally many votes the one of the larger mean probability wins, then the lower one.

    Args:
        probs: (M, N, C), of M members.
        weights: votes per member, all 1 if left out.

    Raises:
        PredictionsError: no members, or weights that are negative, all 0 or of another number.
    """
    share = _shares(probs, weights)
    ballots = probs.argmax(axis=2)[:, :, None] == np.arange(probs.shape[2])
    votes = np.tensordot(share, ballots, axes=1)
    leading = np.isclose(votes, votes.max(axis=1, keepdims=True))
    means = np.where(leading, np.tensordot(share, probs, axes=1), -1)
    return Vote(means.argmax(axis=1), votes, ties=int((leading.sum(axis=1) > 1).sum()))


def soft_vote(probs: Floats, weights: Sequence[float] | None = None) -> Vote:
    """The class of the largest mean probability wins; of equal ones the lower. Arguments and errors: `hard_vote`."""
    means = np.tensordot(_shares(probs, weights), probs, axes=1)
    ties = (means == means.max(axis=1, keepdims=True)).sum(axis=1) > 1
    return Vote(means.argmax(axis=1), means, ties=int(ties.sum()))


def agreement(probs: Floats) -> Floats:
    """(M, N, C) -> (M, M), the share of photos for which two members have the same most probable class."""
    preds = probs.argmax(axis=2)
    same: Floats = (preds[:, None] == preds[None]).mean(axis=2)
    return same


def _shares(probs: Floats, weights: Sequence[float] | None) -> Floats:
    members = len(probs)
    values = np.ones(members) if weights is None else np.asarray(weights, dtype=np.float64)
    if not members or len(values) != members or (values < 0).any() or not values.sum() > 0:
        raise PredictionsError(
            f"expected a weight of 0 or more for each of {members} members, not all 0, got {values.tolist()}"
        )
    shares: Floats = values / values.sum()
    return shares


Method = Literal["hard", "soft"]
Weights = Mapping[str, Sequence[float]]  # task -> a weight for each member that answers it

TIE_LIFT = 1e-3


@dataclass(frozen=True)
class Ballot:
    """What an ensemble says of N photos.

    Attributes:
        predictions: their probs are shares of the votes, or mean probabilities; the most probable class is the winner.
        ties: task -> photos on which the votes alone did not decide.
    """

    predictions: Predictions
    ties: dict[str, int]


def cast_votes(
    parts: Sequence[Predictions], *, kind: Literal["hard", "soft"], weights: Weights | None = None
) -> Ballot:
    """Vote on every task over the parts that answer it.

    Args:
        parts: what each member said of the same photos, in the same order.
        kind: `hard` counts the members' classes, `soft` means their probabilities.
        weights: of the members, equal if left out.

    Raises:
        PredictionsError: the photos or a task's classes differ, or the weights cannot be.
    """
    mean = average(parts)
    poll = hard_vote if kind == "hard" else soft_vote
    votes = {
        task: poll(stack_probs(parts, task), weights[task] if weights is not None else None)
        for task in mean.space.names
    }
    probs = {task: _with_winner(vote) for task, vote in votes.items()}
    losses = {task: cross_entropies(probs[task], mean.targets[task]) for task in probs}
    return Ballot(replace(mean, probs=probs, losses=losses), {task: vote.ties for task, vote in votes.items()})


def stack_probs(parts: Sequence[Predictions], task: str) -> Floats:
    """Probabilities (M, N, C) of the M parts that answer the task."""
    return np.stack([part.probs[task] for part in parts if task in part.space.names])


def _with_winner(vote: Vote) -> Floats:
    """Its probabilities; where a tie was broken, the winner's is lifted a hair above those of its equals."""
    probs = vote.probs.astype(np.float32)
    broken = probs.argmax(axis=1) != vote.preds
    probs[broken, vote.preds[broken]] += TIE_LIFT
    lifted: Floats = probs / probs.sum(axis=1, keepdims=True)
    return lifted
