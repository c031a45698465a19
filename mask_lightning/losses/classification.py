"""The loss of a task of classes of very different size, and the weighted sum over tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask_lightning.labels import UNLABELLED

ClassWeights = Literal["none", "balanced"]


class ClassificationLoss(nn.Module):
    """Cross-entropy with label smoothing, and what makes rare classes count more.

    Logit adjustment (Menon et al. 2021, "Long-tail learning via logit adjustment", eq. 10) adds `tau` times the log
    of a class's share to its logit; what the network then says is balanced over classes, which is what macro F1
    rewards. tau = 0 is plain cross-entropy.

    Class weights multiply a photo's loss and gradient instead; the mean is over the sum of the weights, as torch's.

    The focal loss (Lin et al. 2017, "Focal loss for dense object detection", eq. 4 and 5) multiplies a photo's loss by
    (1 - p) ** gamma, p the truth's probability: what is learned already counts less. gamma = 0 is cross-entropy.

    Soft F1 adds `soft_f1` times what is missing of the batch's macro F1, see `missing_soft_f1`.

    Args:
        class_counts: training photos per class, all positive where classes are weighted or tau is not 0.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2016).
        logit_adjustment: tau.
        class_weights: "balanced" for photos / (classes * photos of the class), as scikit-learn says it.
        focal_gamma: gamma.
        soft_f1: weight of the soft F1.
    """

    log_prior: Tensor
    weights: Tensor | None

    def __init__(
        self,
        class_counts: Sequence[float],
        *,
        label_smoothing: float = 0.0,
        logit_adjustment: float = 0.0,
        class_weights: ClassWeights = "none",
        focal_gamma: float = 0.0,
        soft_f1: float = 0.0,
    ) -> None:
        super().__init__()
        self.label_smoothing, self.logit_adjustment = label_smoothing, logit_adjustment
        self.focal_gamma, self.soft_f1 = focal_gamma, soft_f1
        counts = torch.tensor(class_counts, dtype=torch.float32)
        self.register_buffer("log_prior", (counts / counts.sum()).log(), persistent=False)
        self.register_buffer("weights", weigh_classes(counts, class_weights), persistent=False)

    def forward(self, outputs: Tensor, target: Tensor, number: Tensor | None = None) -> Tensor:
        """Logits (B, C), target (B,) -> mean loss over the labelled photos, a scalar; 0 where none is labelled."""
        logits = outputs.float()
        if self.logit_adjustment:
            logits = logits + self.logit_adjustment * self.log_prior
        losses = F.cross_entropy(
            logits,
            target,
            weight=self.weights,
            ignore_index=UNLABELLED,
            label_smoothing=self.label_smoothing,
            reduction="none",
        )
        if self.focal_gamma:
            losses = losses * focal_factors(logits, target, self.focal_gamma)
        loss = mean_of_labelled(losses, target, self.weights)
        return loss + self.soft_f1 * missing_soft_f1(logits, target) if self.soft_f1 else loss


def weigh_classes(counts: Tensor, weights: ClassWeights) -> Tensor | None:
    """Photos per class (C,) -> a weight for each (C,), None where all are 1."""
    return counts.sum() / (len(counts) * counts) if weights == "balanced" else None


def mean_of_labelled(losses: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    """The sum of the photos' losses over that of their class weights, a scalar.

    Args:
        losses: weighted, 0 where not labelled (B,).
        target: of the photos (B,).
        weights: per class (C,), None where all are 1.
    """
    # Not torch's own mean: over no labelled photo that is NaN, and so are its gradients.
    labelled = target != UNLABELLED
    if weights is None:
        return losses.sum() / labelled.sum().clamp(min=1)
    return losses.sum() / (weights[target.clamp(min=0)] * labelled).sum().clamp(min=weights.min())


def focal_factors(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    """Logits (B, C), target (B,) -> (1 - probability of the truth) ** gamma (B,); unlabelled photos' mean nothing."""
    truth = target.clamp(min=0)[:, None]
    wrong = 1 - logits.softmax(dim=1).gather(1, truth)[:, 0]
    # Of a photo that is learned the power's derivative would be infinite (gamma < 1), and 0 times that is NaN.
    return wrong.clamp(min=torch.finfo(wrong.dtype).eps) ** gamma


def missing_soft_f1(logits: Tensor, target: Tensor) -> Tensor:
    """Logits (B, C), target (B,) -> 1 - the mean F1 of the classes that the batch has, from probabilities; a scalar.

    Where F1 counts answers, this adds up probabilities, so that it has a gradient: 2 TP / (2 TP + FP + FN) with
    TP = sum of p over the photos of the class, FP = sum of p over all others, FN = sum of 1 - p over those of the
    class (as sigmoidF1 of Benedict et al. 2021, "sigmoidF1: a smooth F1 score surrogate loss for multilabel
    classification", here of a softmax). A class without a photo in the batch has no F1 that could be raised.
    """
    labelled = (target != UNLABELLED)[:, None]
    probs = logits.softmax(dim=1) * labelled
    truth = F.one_hot(target.clamp(min=0), logits.shape[1]) * labelled
    support = truth.sum(dim=0)
    f1 = 2 * (probs * truth).sum(dim=0) / (probs.sum(dim=0) + support).clamp(min=torch.finfo(probs.dtype).eps)
    present = support > 0
    return ((1 - f1) * present).sum() / present.sum().clamp(min=1)


def scored_loss(log_probs: Tensor, target: Tensor) -> Tensor:
    """Log probabilities (B, C), target (B,) -> plain mean cross-entropy of the labelled photos, 0 without one.

    What validation reports, whatever a network was trained with, so that it compares between runs.
    """
    return mean_of_labelled(F.nll_loss(log_probs, target, ignore_index=UNLABELLED, reduction="none"), target, None)


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float] | Mapping[str, Tensor]) -> Tensor:
    """Scalar losses per task -> their sum, each times its weight."""
    return torch.stack([weights[task] * loss for task, loss in losses.items()]).sum()
