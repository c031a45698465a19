"""What several networks say together of the same photos: votes, task by task, as Predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mask_lightning.inference.predictions import Predictions, average, cross_entropies
from mask_lightning.inference.voting import Floats, Vote, hard_vote, soft_vote

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
