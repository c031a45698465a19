"""Losses of classes in an order: C - 1 questions of yes or no, "is it above class k?"."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask_lightning.labels import UNLABELLED
from mask_lightning.losses.classification import ClassWeights, weigh_classes


class OrdinalLoss(nn.Module):
    """CORAL or CORN: binary cross-entropy of the questions that are asked of a photo.

    CORAL (Cao et al. 2020, eq. 4) asks every question of every photo: the loss is the mean over photos of the sum over
    questions. CORN (Shi et al. 2023) asks "is it above k?" only of photos that are not below k: the loss is the
    mean over all questions asked.

    Class weights and logit adjustment as of ClassificationLoss. The latter adds to each question's logit `tau` times
    what its log odds in the training photos exceed those of equally frequent classes, so that for tau = 1 what the
    network then says is balanced over classes.

    Args:
        class_counts: training photos per class, all positive where classes are weighted or tau is not 0.
        conditional: CORN, else CORAL.
        logit_adjustment: tau.
        class_weights: as of ClassificationLoss.
    """

    shift: Tensor
    weights: Tensor | None

    def __init__(
        self,
        class_counts: Sequence[float],
        *,
        conditional: bool,
        logit_adjustment: float = 0.0,
        class_weights: ClassWeights = "none",
    ) -> None:
        super().__init__()
        self.conditional, self.logit_adjustment = conditional, logit_adjustment
        counts = torch.tensor(class_counts, dtype=torch.float32)
        excess = log_odds(counts, conditional=conditional) - log_odds(torch.ones_like(counts), conditional=conditional)
        self.register_buffer("shift", excess, persistent=False)
        self.register_buffer("weights", weigh_classes(counts, class_weights), persistent=False)

    def forward(self, outputs: Tensor, target: Tensor, number: Tensor | None = None) -> Tensor:
        """Logits (B, C - 1), target (B,) -> the loss, a scalar; 0 where no photo is labelled."""
        logits = outputs.float()
        if self.logit_adjustment:
            logits = logits + self.logit_adjustment * self.shift
        rank = torch.arange(logits.shape[1], device=logits.device)
        labelled = (target != UNLABELLED)[:, None]
        asked = labelled & (target[:, None] >= rank) if self.conditional else labelled.expand_as(logits)
        weights = asked.float()
        if self.weights is not None:
            weights = weights * self.weights[target.clamp(min=0)][:, None]
        losses = F.binary_cross_entropy_with_logits(
            logits, (target[:, None] > rank).float(), weight=weights, reduction="none"
        )
        counted = weights.sum() if self.conditional else weights[:, 0].sum()
        smallest = 1.0 if self.weights is None else self.weights.min()
        return losses.sum() / counted.clamp(min=smallest)


def log_odds(counts: Tensor, *, conditional: bool) -> Tensor:
    """Photos per class (C,) -> log odds of yes to each question (C - 1,)."""
    above = counts.flip(0).cumsum(0).flip(0)[1:]
    others = counts[:-1] if conditional else counts.cumsum(0)[:-1]
    return above.log() - others.log()
