"""Consistency of the probabilities of two photos of a person."""

from __future__ import annotations

import torch
from torch import Tensor


def symmetric_kl(log_probs: Tensor, person: Tensor) -> Tensor:
    """Return the mean symmetric KL divergence over all pairs of photos of one person, a scalar; 0 without pairs.

    The divergence of distributions p and q is (KL(p || q) + KL(q || p)) / 2. The gradient flows into both.

    Source: Kullback and Leibler 1951, "On information and sufficiency"; as a loss between two views of an example Liang
    et al. 2021, "R-Drop: regularized dropout for neural networks", arXiv:2106.14448, eq. 2.

    Args:
        log_probs: log probabilities (B, C).
        person: number of the person of each photo (B,).

    Example:
        >>> log_probs = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1]]).log()
        >>> symmetric_kl(log_probs, torch.tensor([0, 0, 1])).item()
        0.0
    """
    log_probs = log_probs.float()
    cross = log_probs.exp() @ log_probs.T  # [i, j]: sum of p_i log p_j
    own = cross.diagonal()
    divergence = (own[:, None] + own[None, :] - cross - cross.T) / 2
    pairs = (person[:, None] == person[None, :]).triu(diagonal=1)
    return torch.where(pairs, divergence, 0.0).sum() / pairs.sum().clamp(min=1)
