"""The loss of each task: which one its head is trained with, and what it is of mixed photos."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mask_lightning.data.dataset import Mix
from mask_lightning.losses.classification import ClassificationLoss
from mask_lightning.losses.ordinal import OrdinalLoss
from mask_lightning.losses.regression import ClassAndNumberLoss, NumberLoss

OF_ORDINAL = ("logit_adjustment", "class_weights")  # the options of ClassificationLoss that OrdinalLoss has, too


def make_loss(
    head: Mapping[str, Any],
    class_counts: Sequence[float],
    *,
    options: Mapping[str, Any],
    number: Mapping[str, Any] | None = None,
) -> nn.Module:
    """The loss of a task: (outputs (B, K), target (B,), number (B,) or None) -> a scalar.

    Args:
        head: `name` and options of the task's head, see `models.heads.make_head`.
        class_counts: training photos per class.
        options: of ClassificationLoss; other losses take what they share with it.
        number: of a head that predicts a number, options of NumberLoss but `top`; `share` of ClassAndNumberLoss.
    """
    name = head.get("name", "classes")
    if name in ("coral", "corn"):
        shared = {option: options[option] for option in OF_ORDINAL if option in options}
        return OrdinalLoss(class_counts, conditional=name == "corn", **shared)
    if name == "classes":
        return ClassificationLoss(class_counts, **options)
    own = dict(number or {})
    share = own.pop("share", 1.0)
    of_number = NumberLoss(**own, top=head["top"])
    if name == "regression":
        return of_number
    return ClassAndNumberLoss(ClassificationLoss(class_counts, **options), of_number, share=share)


def mixed_loss(
    loss: Callable[..., Tensor], outputs: Tensor, target: Tensor, number: Tensor | None, mix: Mix | None
) -> Tensor:
    """The loss of photos that are `mix.share` of themselves and the rest of their partner; without a mix as it is.

    The partners are a permutation, so both means are over the same labelled photos and weights: each photo counts
    with `share` of its own loss and the rest of its partner's, and a side that is not labelled is left out.

    Args:
        loss: (outputs, target, number) -> mean over the labelled photos, a scalar.
        outputs: of the mixed photos (B, K).
        target: of the photos before they were mixed (B,).
        number: of the photos before they were mixed (B,), None where the loss needs none.
        mix: how they were.
    """
    if mix is None:
        return loss(outputs, target, number)
    partner = mix.partner
    others = loss(outputs, target[partner], None if number is None else number[partner])
    return mix.share * loss(outputs, target, number) + (1 - mix.share) * others
