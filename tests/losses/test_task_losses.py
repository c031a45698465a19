from __future__ import annotations

from typing import Any

import pytest
import torch

from mask_lightning.data.samples import Mix
from mask_lightning.losses.ages import ClassAndNumberLoss, NumberLoss, OrdinalLoss
from mask_lightning.losses.classification import ClassificationLoss
from mask_lightning.losses.task_losses import make_loss, mixed_loss
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
