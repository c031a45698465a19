"""The training loss of each task's head, with soft targets and mixed photos, and the loss reported in validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask_lightning.data.samples import Mix, SoftTarget
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


def task_loss(
    loss: nn.Module,
    outputs: Tensor,
    target: Tensor,
    number: Tensor | None,
    soft: SoftTarget | None = None,
    *,
    temperature: float = 1.0,
) -> Tensor:
    """Return the loss of a task with labels and soft targets, a scalar.

    A photo has a total weight of 1 if it is labelled: `soft.weight` of it goes to the soft target, the rest to the
    label. A photo without a label has the weight of its soft target. The loss is the mean over these weights.

    Args:
        loss: loss of the task, see `make_loss`.
        outputs: outputs of the head (B, K).
        target: class indices (B,), UNLABELLED (-1) for photos without a label.
        number: ages in years (B,), or None if the loss needs none.
        soft: soft targets; None if the run has none. Their weights are at most 1 for labelled photos.
        temperature: of the soft targets.

    Example:
        >>> import torch
        >>> loss, outputs, target = ClassificationLoss([1, 1]), torch.tensor([[0.0, 1.0]]), torch.tensor([UNLABELLED])
        >>> soft = SoftTarget(torch.tensor([[0.0, 1.0]]), torch.tensor([0.3]))
        >>> bool(task_loss(loss, outputs, target, None, soft) == loss(outputs, torch.tensor([1])))
        True
    """
    labels: Tensor = loss(outputs, target, number)
    if soft is None:
        return labels
    if not isinstance(loss, ClassificationLoss | ClassAndNumberLoss):
        raise TypeError(f"soft targets need a logit per class, found {type(loss).__name__}")
    losses, class_weights = loss.soft_losses(outputs, soft.probs, temperature=temperature)
    smallest = torch.finfo(losses.dtype).tiny
    mean = (soft.weight * losses).sum() / (soft.weight * class_weights).sum().clamp(min=smallest)
    of_labels, of_soft = ((1 - soft.weight) * (target != UNLABELLED)).sum(), soft.weight.sum()
    return (of_labels * labels + of_soft * mean) / (of_labels + of_soft).clamp(min=smallest)


def mixed_loss(
    loss: Callable[..., Tensor],
    outputs: Tensor,
    target: Tensor,
    number: Tensor | None,
    mix: Mix | None,
    soft: SoftTarget | None = None,
) -> Tensor:
    """Return the loss of a batch whose photos may be mixed with partners.

    A photo counts with `mix.share` of the loss with its own target, and the rest of the loss with its partner's. The
    partners are a permutation, so both means are over the same photos and class weights; targets without a label are
    left out.

    Args:
        loss: (outputs, target, number), and soft if it is not None -> mean over the photos that teach, a scalar.
        outputs: outputs for the mixed photos (B, K).
        target: class indices of the photos before mixing (B,).
        number: ages of the photos before mixing, years (B,), or None if the loss needs none.
        mix: partner and share of each photo; None if the batch is not mixed.
        soft: soft targets of the photos before mixing; None if the run has none.

    Example:
        >>> import torch
        >>> outputs, target = torch.eye(2), torch.tensor([0, 1])
        >>> mix = Mix(partner=torch.tensor([1, 0]), share=1.0)
        >>> loss = ClassificationLoss([1, 1])
        >>> bool(mixed_loss(loss, outputs, target, None, mix) == loss(outputs, target))
        True
    """
    own = target, number, *([] if soft is None else [soft])
    if mix is None:
        return loss(outputs, *own)
    partner = mix.partner
    others = target[partner], None if number is None else number[partner], *([] if soft is None else [soft.of(partner)])
    return mix.share * loss(outputs, *own) + (1 - mix.share) * loss(outputs, *others)


def has_labels(loss: nn.Module, target: Tensor, number: Tensor | None, soft: SoftTarget | None = None) -> Tensor:
    """Return True, a boolean scalar, if the loss of `make_loss` is learned from any photo of the batch.

    Args:
        loss: loss of the task.
        target: class indices (B,), UNLABELLED (-1) for photos without a label.
        number: ages in years (B,), NaN if not known; None if the loss needs none.
        soft: soft targets; None if the run has none.

    Example:
        >>> import torch
        >>> has_labels(ClassificationLoss([1, 1]), torch.tensor([UNLABELLED, 1]), None)
        tensor(True)
    """
    labelled = (target != UNLABELLED).any()
    if soft is not None:
        labelled = labelled | (soft.weight > 0).any()
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
