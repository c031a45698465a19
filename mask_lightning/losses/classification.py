"""Cross-entropy of one task, for classes of very different size, and the weighted sum over tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask_lightning.data.dataset import Mix
from mask_lightning.labels import UNLABELLED


class ClassificationLoss(nn.Module):
    """Cross-entropy with label smoothing, and class weights or logit adjustment; plain cross-entropy in eval mode.

    Logit adjustment (Menon et al. 2021, "Long-tail learning via logit adjustment", eq. 10) adds `tau` times the log
    of a class's share to its logit in training only; what the network then says is balanced over classes, which
    is what macro F1 rewards. tau = 0 is plain cross-entropy.

    Class weights multiply a photo's loss and gradient instead; the mean is over the sum of the weights, as torch's.

    Args:
        class_counts: training photos per class, all positive where classes are weighted or tau is not 0.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2016).
        logit_adjustment: tau.
        class_weights: "balanced" for photos / (classes * photos of the class), as scikit-learn says it.
    """

    log_prior: Tensor
    weights: Tensor | None

    def __init__(
        self,
        class_counts: Sequence[float],
        *,
        label_smoothing: float = 0.0,
        logit_adjustment: float = 0.0,
        class_weights: Literal["none", "balanced"] = "none",
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.logit_adjustment = logit_adjustment
        counts = torch.tensor(class_counts, dtype=torch.float32)
        weights = counts.sum() / (len(counts) * counts) if class_weights == "balanced" else None
        self.register_buffer("log_prior", (counts / counts.sum()).log(), persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits (B, C), target (B,) -> mean loss over the labelled photos, a scalar; 0 where none is labelled."""
        if self.logit_adjustment and self.training:
            logits = logits + self.logit_adjustment * self.log_prior
        smoothing, weights = (self.label_smoothing, self.weights) if self.training else (0.0, None)
        # Not reduction="mean": over no labelled photo that is NaN, and so are its gradients.
        total = F.cross_entropy(
            logits,
            target,
            weight=weights,
            ignore_index=UNLABELLED,
            label_smoothing=smoothing,
            reduction="sum",
        )
        labelled = target != UNLABELLED
        if weights is None:
            return total / labelled.sum().clamp(min=1)
        return total / (weights[target.clamp(min=0)] * labelled).sum().clamp(min=weights.min())


def mixed_loss(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor, mix: Mix | None) -> Tensor:
    """The loss of photos that are `mix.share` of themselves and the rest of their partner; without a mix as it is.

    The partners are a permutation, so both means are over the same labelled photos and weights: each photo counts
    with `share` of its own loss and the rest of its partner's, and a side that is not labelled is left out.

    Args:
        loss: (logits, target) -> mean over the labelled photos, a scalar.
        logits: of the mixed photos (B, C).
        target: of the photos before they were mixed (B,).
        mix: how they were.
    """
    if mix is None:
        return loss(logits, target)
    return mix.share * loss(logits, target) + (1 - mix.share) * loss(logits, target[mix.partner])


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Scalar losses per task -> their sum, each times its weight."""
    return torch.stack([weights[task] * loss for task, loss in losses.items()]).sum()
