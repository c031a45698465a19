from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from mask_lightning.data.samples import Mix, SoftTarget
from mask_lightning.labels import UNLABELLED
from mask_lightning.losses.ages import ClassAndNumberLoss, NumberLoss, OrdinalLoss
from mask_lightning.losses.classification import ClassificationLoss
from mask_lightning.losses.task_losses import has_labels, make_loss, mixed_loss, task_loss
from mask_lightning.settings.loss import LossSettings

SETTINGS = LossSettings(label_smoothing=0.1, logit_adjustment=0.5)
NUMBER = {"counts": [1.0] * 61, "weights": "inverse", "smoothing": 2.0}


@pytest.mark.parametrize(
    ("head", "number", "want"),
    [
        ({}, None, ClassificationLoss),
        ({"name": "classes"}, None, ClassificationLoss),
        ({"name": "coral"}, None, OrdinalLoss),
        ({"name": "corn"}, None, OrdinalLoss),
        ({"name": "regression", "top": 60.0, "borders": [29.5, 59.5]}, NUMBER, NumberLoss),
        ({"name": "classes_and_regression", "top": 60.0}, {**NUMBER, "share": 0.1}, ClassAndNumberLoss),
    ],
)
def test_each_head_has_a_fitting_loss(head: dict[str, Any], number: dict[str, Any] | None, want: type) -> None:
    loss = make_loss(head, [5, 3, 1], SETTINGS, number=number)
    assert type(loss) is want
    assert list(loss.state_dict()) == [], "buffers follow from the class counts in the hyper-parameters"
    if isinstance(loss, OrdinalLoss):
        assert (loss.conditional, loss.settings.logit_adjustment) == (head["name"] == "corn", 0.5)
    if isinstance(loss, ClassAndNumberLoss):
        assert (loss.share, loss.number.top, loss.classes.settings.label_smoothing) == (0.1, 60.0, 0.1)


def test_a_mixed_photo_counts_with_both_ages_by_their_shares() -> None:
    outputs, years = torch.tensor([[0.5], [-0.5], [2.0]]), torch.tensor([22.0, float("nan"), 60.0])
    mix, target = Mix(torch.tensor([1, 2, 0]), 0.7), torch.zeros(3)
    pred = 60 * outputs[:, 0].sigmoid()
    own = ((pred[0] - 22) ** 2 + (pred[2] - 60) ** 2) / 2
    partners = ((pred[1] - 60) ** 2 + (pred[2] - 22) ** 2) / 2
    found = mixed_loss(NumberLoss([1.0] * 61, top=60, weights="none"), outputs, target, years, mix)
    torch.testing.assert_close(found, (0.7 * own + 0.3 * partners) / 100)


LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 2, 1, 1, UNLABELLED, UNLABELLED])
PROBS = torch.rand(6, 3, generator=torch.Generator().manual_seed(2)).softmax(dim=1)
COUNTS = [60, 30, 10]


def one_hot(target: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(target.clamp(min=0), 3).float()


@pytest.mark.parametrize("settings", [LossSettings(), LossSettings(logit_adjustment=0.75)])
def test_a_certain_soft_target_is_a_label(settings: LossSettings) -> None:
    loss = ClassificationLoss(COUNTS, settings)
    unlabelled, weights = torch.full_like(LABELS, UNLABELLED), (LABELS != UNLABELLED).float()
    soft = SoftTarget(one_hot(LABELS), weights)
    want = loss(LOGITS, LABELS)
    assert torch.isclose(task_loss(loss, LOGITS, unlabelled, None, soft), want)
    half = SoftTarget(one_hot(LABELS), weights / 2)  # half of each photo's loss
    assert torch.isclose(task_loss(loss, LOGITS, LABELS, None, half), want)


def test_balanced_soft_targets_have_the_weights_of_their_classes() -> None:
    loss = ClassificationLoss(COUNTS, LossSettings(class_weights="balanced"))
    soft = SoftTarget(one_hot(LABELS), (LABELS != UNLABELLED).float())
    found = task_loss(loss, LOGITS, torch.full_like(LABELS, UNLABELLED), None, soft)
    assert torch.isclose(found, loss(LOGITS, LABELS))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_follows_hinton(temperature: float) -> None:
    """(1 - a) CE(label) + a T^2 CE(teacher at T, student at T), over the labelled photos."""
    loss, share = ClassificationLoss(COUNTS), 0.3
    logits, labels, teacher = LOGITS[:4], LABELS[:4], PROBS[:4]
    softened = (teacher.log() / temperature).softmax(dim=1)
    cross_entropy = -(softened * (logits / temperature).log_softmax(dim=1)).sum(dim=1).mean()
    want = (1 - share) * loss(logits, labels) + share * temperature**2 * cross_entropy
    soft = SoftTarget(teacher, torch.full((4,), share))
    assert torch.isclose(task_loss(loss, logits, labels, None, soft, temperature=temperature), want)


def test_further_photos_count_by_their_weight() -> None:
    loss = ClassificationLoss(COUNTS)
    soft = SoftTarget(PROBS, torch.tensor([0.0, 0.0, 0.0, 0.0, 0.5, 2.0]))
    each = -(PROBS * LOGITS.log_softmax(dim=1)).sum(dim=1)
    want = (4 * loss(LOGITS, LABELS) + 0.5 * each[4] + 2 * each[5]) / 6.5
    assert torch.isclose(task_loss(loss, LOGITS, LABELS, None, soft), want)


def test_no_soft_target_changes_nothing_and_no_target_at_all_is_zero() -> None:
    loss = ClassificationLoss(COUNTS)
    none = SoftTarget(PROBS, torch.zeros(6))
    assert torch.isclose(task_loss(loss, LOGITS, LABELS, None, none), loss(LOGITS, LABELS))
    logits = LOGITS.clone().requires_grad_()
    nothing = task_loss(loss, logits, torch.full_like(LABELS, UNLABELLED), None, none)
    nothing.backward()
    assert nothing == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_mixed_photos_have_the_soft_targets_of_both() -> None:
    loss = partial(task_loss, ClassificationLoss(COUNTS))
    partner, soft = torch.tensor([5, 4, 3, 2, 1, 0]), SoftTarget(PROBS, torch.tensor([0.5] * 4 + [1.0] * 2))
    mix = Mix(partner, 0.7)
    want = 0.7 * loss(LOGITS, LABELS, None, soft) + 0.3 * loss(LOGITS, LABELS[partner], None, soft.of(partner))
    assert torch.isclose(mixed_loss(loss, LOGITS, LABELS, None, mix, soft), want)


def test_classes_beside_a_number_learn_soft_targets() -> None:
    loss = make_loss({"name": "classes_and_regression", "top": 60.0}, COUNTS, number={**NUMBER, "share": 0.1})
    outputs = torch.cat([LOGITS, torch.zeros(6, 1)], dim=1)
    unlabelled, years = torch.full_like(LABELS, UNLABELLED), torch.full((6,), torch.nan)
    soft = SoftTarget(PROBS, torch.ones(6))
    want = -(PROBS * LOGITS.log_softmax(dim=1)).sum(dim=1).mean()
    assert torch.isclose(task_loss(loss, outputs, unlabelled, years, soft), want)
    assert has_labels(loss, unlabelled, years, soft)
    assert not has_labels(loss, unlabelled, years, SoftTarget(PROBS, torch.zeros(6)))


def test_ordinal_heads_take_no_soft_targets() -> None:
    loss = make_loss({"name": "corn"}, COUNTS)
    with pytest.raises(TypeError, match="need a logit per class, found OrdinalLoss"):
        task_loss(loss, LOGITS[:, :2], LABELS, None, SoftTarget(PROBS, torch.ones(6)))
