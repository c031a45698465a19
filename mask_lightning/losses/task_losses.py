"""The training loss of each task's head, mixed photos included, and the loss reported in validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from mask_lightning.data.samples import Mix
from mask_lightning.labels import UNLABELLED
from mask_lightning.losses.ages import ClassAndNumberLoss, NumberLoss, OrdinalLoss
from mask_lightning.losses.classification import ClassificationLoss, labelled_mean
from mask_lightning.settings.loss import LossSettings


def make_loss(
    head: Mapping[str, Any],
    class_counts: Sequence[float],
    settings: LossSettings | None = None,
    *,
    number: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build the loss that fits a head: (outputs (B, K), target (B,), number (B,) or None) -> a scalar.

    Heads with a logit per class have ClassificationLoss.

    Args:
        head: `name` and options of the task's head, see `models.heads.make_head`.
        class_counts: training photos per class (C,).
        settings: options of the loss.
        number: for heads that predict a number: arguments of NumberLoss except `top`, and `share` of
            ClassAndNumberLoss.

    Example:
        >>> type(make_loss({"name": "corn"}, [50, 30, 20])).__name__
        'OrdinalLoss'
    """
    name = head.get("name", "classes")
    if name in ("coral", "corn"):
        return OrdinalLoss(class_counts, settings, conditional=name == "corn")
    if name not in ("regression", "classes_and_regression"):
        return ClassificationLoss(class_counts, settings)
    options = dict(number or {})
    share = options.pop("share", 1.0)
    number_loss = NumberLoss(**options, top=head["top"])
    if name == "regression":
        return number_loss
    return ClassAndNumberLoss(ClassificationLoss(class_counts, settings), number_loss, share=share)


def mixed_loss(
    loss: Callable[..., Tensor], outputs: Tensor, target: Tensor, number: Tensor | None, mix: Mix | None
) -> Tensor:
    """Return the loss of a batch whose photos may be mixed with partners.

    A photo counts with `mix.share` of the loss with its own target, and the rest of the loss with its partner's. The
    partners are a permutation, so both means are over the same photos and class weights; targets without a label are
    left out.

    Args:
        loss: (outputs, target, number) -> mean over the labelled photos, a scalar.
        outputs: outputs for the mixed photos (B, K).
        target: class indices of the photos before mixing (B,).
        number: ages of the photos before mixing, years (B,), or None if the loss needs none.
        mix: partner and share of each photo; None if the batch is not mixed.

    Example:
        >>> import torch
        >>> outputs, target = torch.eye(2), torch.tensor([0, 1])
        >>> mix = Mix(partner=torch.tensor([1, 0]), share=1.0)
        >>> loss = ClassificationLoss([1, 1])
        >>> bool(mixed_loss(loss, outputs, target, None, mix) == loss(outputs, target))
        True
    """
    if mix is None:
        return loss(outputs, target, number)
    partner = mix.partner
    partner_loss = loss(outputs, target[partner], None if number is None else number[partner])
    return mix.share * loss(outputs, target, number) + (1 - mix.share) * partner_loss


def has_labels(loss: nn.Module, target: Tensor, number: Tensor | None) -> Tensor:
    """Return True, a boolean scalar, if the loss of `make_loss` is learned from any photo of the batch.

    Args:
        loss: loss of the task.
        target: class indices (B,), UNLABELLED (-1) for photos without a label.
        number: ages in years (B,), NaN if not known; None if the loss needs none.

    Example:
        >>> import torch
        >>> has_labels(ClassificationLoss([1, 1]), torch.tensor([UNLABELLED, 1]), None)
        tensor(True)
    """
    labelled = (target != UNLABELLED).any()
    if number is None or not isinstance(loss, NumberLoss | ClassAndNumberLoss):
        return labelled
    known = (~number.isnan()).any()
    return known if isinstance(loss, NumberLoss) else labelled | known


def validation_loss(log_probs: Tensor, target: Tensor) -> Tensor:
    """Return the plain mean cross-entropy of the labelled photos, a scalar; 0 if none is labelled.

    Validation reports it whatever loss is trained, so that runs can be compared.

    Args:
        log_probs: log probabilities (B, C).
        target: class indices (B,), UNLABELLED (-1) for photos without a label.

    Example:
        >>> import torch
        >>> round(validation_loss(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([1])).item(), 3)
        0.693
    """
    return labelled_mean(F.nll_loss(log_probs, target, ignore_index=UNLABELLED, reduction="none"), target)
