"""Cross-entropy of one task, for classes of very different size, and the weighted sum over tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask_lightning.labels import UNLABELLED


class ClassificationLoss(nn.Module):
    """Cross-entropy with label smoothing and logit adjustment.

    Logit adjustment (Menon et al. 2021, "Long-tail learning via logit adjustment", eq. 10) adds `tau` times the log
    of a class's share to its logit in training only; what the network then says is balanced over classes, which
    is what macro F1 rewards. tau = 0 is plain cross-entropy.

    Args:
        class_counts: training photos per class, all positive where tau is not 0.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2016).
        logit_adjustment: tau.
    """

    log_prior: Tensor

    def __init__(
        self, class_counts: Sequence[int], *, label_smoothing: float = 0.0, logit_adjustment: float = 0.0
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.logit_adjustment = logit_adjustment
        counts = torch.tensor(class_counts, dtype=torch.float32)
        self.register_buffer("log_prior", (counts / counts.sum()).log(), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits (B, C), target (B,) -> mean loss over the labelled photos, a scalar; 0 where none is labelled."""
        if self.logit_adjustment and self.training:
            logits = logits + self.logit_adjustment * self.log_prior
        smoothing = self.label_smoothing if self.training else 0.0
        # Not reduction="mean": over no labelled photo that is NaN, and so are its gradients.
        total = F.cross_entropy(logits, target, ignore_index=UNLABELLED, label_smoothing=smoothing, reduction="sum")
        return total / (target != UNLABELLED).sum().clamp(min=1)


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Scalar losses per task -> their sum, each times its weight."""
    return torch.stack([weights[task] * loss for task, loss in losses.items()]).sum()
