from __future__ import annotations

import numpy as np
import pytest

from mask_lightning.metrics.pseudo_labels import MAX_WEIGHT, balance, choose_confident


@pytest.mark.parametrize(("share", "confidence", "want"), [(0.5, 0.0, [5, 1]), (0.1, 0.0, [1, 1]), (1.0, 0.9, [5, 0])])
def test_the_same_share_of_every_predicted_class_is_chosen(share: float, confidence: float, want: list[int]) -> None:
    largest = np.array([0.99, 0.98, 0.97, 0.96, 0.95, 0.7, 0.69, 0.68, 0.67, 0.66, 0.6, 0.55])
    rare = np.arange(12) >= 10
    probs = np.column_stack([np.where(rare, 1 - largest, largest), np.where(rare, largest, 1 - largest)])
    chosen = choose_confident(probs, share=share, confidence=confidence)
    assert [int(chosen[~rare].sum()), int(chosen[rare].sum())] == want
    assert chosen[0]  # the most confident first
    assert not chosen[11] or share == 1


def test_classes_weigh_the_same() -> None:
    preds, chosen = np.repeat([0, 1, 2], [60, 30, 20]), np.ones(110, np.bool_)
    chosen[:10] = False
    weights = balance(preds, chosen, 3)
    totals = [weights[preds == label].sum() for label in range(3)]
    assert totals == pytest.approx([100 / 3] * 3, rel=1e-5)
    assert weights[chosen].mean() == pytest.approx(1)
    assert (weights[:10] == 0).all()


def test_one_photo_does_not_outweigh_a_hundred() -> None:
    preds = np.array([0] * 100 + [1])
    weights = balance(preds, np.ones(101, np.bool_), 3)
    assert weights[100] / weights[0] == pytest.approx(MAX_WEIGHT / (50.5 / 100), rel=1e-5)
    assert not balance(preds, np.zeros(101, np.bool_), 3).any()
