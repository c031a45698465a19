"""Cross-entropy for imbalanced classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask_lightning.labels import UNLABELLED
from mask_lightning.settings.loss import LossSettings

ClassWeights = Literal["none", "balanced"]


class ClassificationLoss(nn.Module):
    """Cross-entropy with label smoothing, and four options for imbalanced classes.

    * `label_smoothing` spreads a share of the target over all classes (Szegedy et al. 2016, "Rethinking the Inception
      architecture for computer vision", arXiv:1512.00567, section 7).
    * `logit_adjustment` adds tau times the log frequency of a class to its logit during training, so that the
      network's own logits are balanced over classes, which is what macro F1 rewards (Menon et al. 2021, "Long-tail
      learning via logit adjustment", arXiv:2007.07314, eq. 10).
    * `class_weights` multiplies a photo's loss by the inverse frequency of its class. The mean is over the sum of the
      weights, as in `torch.nn.CrossEntropyLoss`.
    * `focal_gamma` multiplies a photo's loss by (1 - p) ** gamma, where p is the probability of its class, so that
      photos already learned count less (Lin et al. 2017, "Focal loss for dense object detection", arXiv:1708.02002,
      eq. 4 and 5).
    * `soft_f1` adds a multiple of `soft_f1_loss`.

    Args:
        class_counts: training photos per class (C,). All positive if classes are weighted or logits adjusted.
        settings: the options above; `task_weights` are not used here.

    Example:
        >>> loss = ClassificationLoss([90, 10], LossSettings(logit_adjustment=1.0))
        >>> logits, target = torch.zeros(4, 2), torch.tensor([0, 1, UNLABELLED, 1])
        >>> round(loss(logits, target).item(), 3)
        1.57
    """

    log_prior: Tensor
    weights: Tensor | None

    def __init__(self, class_counts: Sequence[float], settings: LossSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or LossSettings()
        counts = torch.tensor(class_counts, dtype=torch.float32)
        self.register_buffer("log_prior", (counts / counts.sum()).log(), persistent=False)
        self.register_buffer("weights", make_class_weights(counts, self.settings.class_weights), persistent=False)

    def forward(self, outputs: Tensor, target: Tensor, number: Tensor | None = None) -> Tensor:
        """Return the mean loss of the labelled photos, a scalar; 0 if none is labelled.

        Args:
            outputs: logits (B, C).
            target: class indices (B,), UNLABELLED (-1) for photos without a label.
            number: not used; all task losses have the same arguments.
        """
        options, logits = self.settings, outputs.float()
        if options.logit_adjustment:
            logits = logits + options.logit_adjustment * self.log_prior
        losses = F.cross_entropy(
            logits,
            target,
            weight=self.weights,
            ignore_index=UNLABELLED,
            label_smoothing=options.label_smoothing,
            reduction="none",
        )
        if options.focal_gamma:
            losses = losses * focal_factors(logits, target, options.focal_gamma)
        loss = labelled_mean(losses, target, self.weights)
        return loss + options.soft_f1 * soft_f1_loss(logits, target) if options.soft_f1 else loss

    def soft_losses(self, outputs: Tensor, probs: Tensor, *, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of each photo with soft targets, and its class weight, (B,) each.

        At temperature T, logits and log probabilities are divided by T and the loss is multiplied by T ** 2, so that
        its gradients keep their size (Hinton et al. 2015, "Distilling the knowledge in a neural network",
        arXiv:1503.02531, section 2). Soft targets have the frequencies of the training photos' labels, so
        `logit_adjustment` and `class_weights` act as on labels; `label_smoothing`, `focal_gamma` and `soft_f1` are for
        labels only. A probability of 1 at temperature 1 gives the loss of that label.

        Args:
            outputs: logits (B, C).
            probs: soft targets (B, C), rows sum to 1.
            temperature: T, positive.
        """
        logits = outputs.float()
        if self.settings.logit_adjustment:
            logits = logits + self.settings.logit_adjustment * self.log_prior
        if temperature != 1:
            probs = (probs.clamp(min=torch.finfo(probs.dtype).tiny).log() / temperature).softmax(dim=1)
        losses = F.cross_entropy(logits / temperature, probs, weight=self.weights, reduction="none") * temperature**2
        return losses, torch.ones_like(losses) if self.weights is None else probs @ self.weights


def make_class_weights(counts: Tensor, kind: ClassWeights) -> Tensor | None:
    """Return a loss weight per class (C,), None if all are 1.

    Args:
        counts: photos per class (C,).
        kind: "balanced" is photos / (classes * photos of the class), as scikit-learn's `compute_class_weight`.

    Example:
        >>> make_class_weights(torch.tensor([3.0, 1.0]), "balanced")
        tensor([0.6667, 2.0000])
    """
    return counts.sum() / (len(counts) * counts) if kind == "balanced" else None


def labelled_mean(losses: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the sum of the photos' losses divided by the sum of their class weights, a scalar; 0 without labels.

    Args:
        losses: weighted losses (B,), 0 for photos without a label.
        target: class indices (B,), UNLABELLED for photos without a label.
        weights: per class (C,), None if all are 1.
    """
    # torch's mean over no labelled photo is NaN, and so are its gradients.
    labelled = target != UNLABELLED
    if weights is None:
        return losses.sum() / labelled.sum().clamp(min=1)
    return losses.sum() / (weights[target.clamp(min=0)] * labelled).sum().clamp(min=weights.min())


def focal_factors(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    """Return (1 - probability of the target) ** gamma per photo (B,); undefined for photos without a label.

    Args:
        logits: (B, C).
        target: class indices (B,).
        gamma: exponent, positive.
    """
    truth = target.clamp(min=0)[:, None]
    wrong = 1 - logits.softmax(dim=1).gather(1, truth)[:, 0]
    # At 0 the power's derivative is infinite for gamma < 1, and 0 times infinity is NaN.
    return wrong.clamp(min=torch.finfo(wrong.dtype).eps) ** gamma


def soft_f1_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return 1 - soft macro F1 of a batch, a scalar with a gradient; 0 if no photo is labelled.

    F1 is 2 TP / (2 TP + FP + FN) with probabilities in place of counts: TP is the sum of p over photos of the class, FP
    the sum of p over all others, FN the sum of 1 - p over photos of the class. Classes without a photo in the batch are
    left out.

    Source: Bénédict et al. 2022, "sigmoidF1: a smooth F1 score surrogate loss for multilabel classification",
    arXiv:2108.10566, here with a softmax.

    Args:
        logits: (B, C).
        target: class indices (B,), UNLABELLED for photos without a label.

    Example:
        >>> logits = torch.tensor([[9.0, -9.0], [-9.0, 9.0]])
        >>> round(soft_f1_loss(logits, torch.tensor([0, 1])).item(), 3)
        0.0
    """
    labelled = (target != UNLABELLED)[:, None]
    probs = logits.softmax(dim=1) * labelled
    truth = F.one_hot(target.clamp(min=0), logits.shape[1]) * labelled
    support = truth.sum(dim=0)
    f1 = 2 * (probs * truth).sum(dim=0) / (probs.sum(dim=0) + support).clamp(min=torch.finfo(probs.dtype).eps)
    present = support > 0
    return ((1 - f1) * present).sum() / present.sum().clamp(min=1)
