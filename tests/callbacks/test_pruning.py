"""Pruning ends a fit after an epoch, except the last."""

from __future__ import annotations

import pytest

from mask_lightning.callbacks.pruning import Pruning


@pytest.mark.parametrize(("ends_at", "epochs", "pruned"), [(None, 4, False), (1, 1, True), (3, 3, True), (4, 4, False)])
def test_a_pruned_fit_ends_after_the_epoch(fit, dictated, ends_at: int | None, epochs: int, pruned: bool) -> None:
    seen: list[tuple[int, float]] = []

    def report(epoch: int, score: float) -> bool:
        seen.append((epoch, round(score, 3)))
        return epoch == ends_at

    pruning = Pruning("val/f1", report)
    trainer = fit(dictated([0.1, 0.2, 0.3, 0.4]), pruning, epochs=4)
    assert trainer.global_step == 3 * epochs
    assert seen == list(zip(range(1, 5), [0.1, 0.2, 0.3, 0.4], strict=True))[:epochs]
    assert pruning.pruned == pruned


def test_another_rank_follows_rank_zero(fit, dictated, monkeypatch: pytest.MonkeyPatch) -> None:
    pruning = Pruning("val/f1")
    monkeypatch.setattr("pytorch_lightning.strategies.SingleDeviceStrategy.broadcast", lambda *_, **__: True)
    assert fit(dictated([0.1, 0.2]), pruning, epochs=2).global_step == 3
    assert pruning.pruned
