from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl

from mask_lightning.callbacks import throughput
from mask_lightning.callbacks.throughput import Throughput


class Clock:
    """Seconds pass only where a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(throughput, "perf_counter", clock)
    return clock


class TakesTime(pl.Callback):
    """Loading and a step take 2 seconds, validation 100, what lies between the epochs 7."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_batch_start(self, *_: Any) -> None:
        self.clock.now += 2

    def on_validation_start(self, *_: Any) -> None:
        self.clock.now += 100

    def on_train_epoch_end(self, *_: Any) -> None:
        self.clock.now += 7


@pytest.mark.parametrize(
    ("epochs", "options"),
    [(1, {}), (3, {}), (2, {"check_val_every_n_epoch": 2}), (2, {"val_check_interval": 1 / 3})],
)
def test_training_is_timed_and_validation_is_not(fit, dictated, clock: Clock, epochs: int, options: Any) -> None:
    """Three batches of 4, 4 and 2 photos per epoch, 2 seconds each."""
    counted = Throughput()
    fit(dictated([0.1] * 3), counted, TakesTime(clock), epochs=epochs, **options)
    assert (counted.photos, counted.seconds) == (10 * epochs, pytest.approx(6.0 * epochs))
    assert counted.photos_per_second == pytest.approx(10 / 6)


def test_nothing_trained_is_no_throughput() -> None:
    assert Throughput().photos_per_second == 0.0
