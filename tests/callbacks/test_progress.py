"""Throughput and metrics.csv of a fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl

from mask_lightning.callbacks import progress
from mask_lightning.callbacks.progress import EpochHistory, Throughput


class Clock:
    """A clock that only a test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "perf_counter", clock)
    return clock


class TakesTime(pl.Callback):
    """Takes 2 seconds for loading and a step, 100 for validation, and 7 between epochs."""

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


def test_throughput_is_zero_before_the_first_batch() -> None:
    assert Throughput().photos_per_second == 0.0


SCORES = [0.1, 0.4, 0.3, 0.2]


def test_a_row_per_epoch_with_scores_steps_and_lrs(fit, dictated, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    fit(dictated(SCORES), EpochHistory(path), epochs=3)
    history = pd.read_csv(path)
    assert set(history.columns) == {"epoch", "step", "train/loss", "val/f1", "clean_train/f1", "lr/head"}
    assert history["epoch"].tolist() == [0, 1, 2]
    assert history["step"].tolist() == [3, 6, 9]
    assert history["val/f1"].tolist() == pytest.approx([0.1, 0.4, 0.3])
    assert history["clean_train/f1"].tolist() == [0.0, 0.125, 0.25]
    assert history["lr/head"].tolist() == [0.1] * 3
    assert history["train/loss"].is_monotonic_decreasing


def test_an_epoch_without_validation_has_no_scores(fit, dictated, tmp_path: Path) -> None:
    """Lightning continues to show the scores of the last validation."""
    path = tmp_path / "metrics.csv"
    fit(dictated(SCORES), EpochHistory(path), epochs=4, check_val_every_n_epoch=2)
    history = pd.read_csv(path)
    assert history["val/f1"].isna().tolist() == [True, False, True, False]
    assert history["val/f1"].dropna().tolist() == pytest.approx([0.4, 0.2])
    assert history["train/loss"].notna().all()


def test_a_resumed_run_keeps_the_rows_before_it_and_replaces_those_after(fit, dictated, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    trainer = fit(dictated(SCORES), EpochHistory(path), epochs=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    lost = pd.read_csv(path)
    pd.concat([lost, lost.tail(1).assign(epoch=2, step=9, **{"val/f1": 0.99})]).to_csv(path, index=False)
    fit(dictated(SCORES), EpochHistory(path), epochs=4, resume=tmp_path / "last.ckpt")
    history = pd.read_csv(path)
    assert history["epoch"].tolist() == [0, 1, 2, 3]
    assert history["val/f1"].tolist() == pytest.approx(SCORES)
    assert history["step"].tolist() == [3, 6, 9, 12]


class Reader(pl.Callback):
    """Reads the file during the run."""

    def __init__(self, path: Path) -> None:
        self.path, self.seen = path, []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seen.append(len(pd.read_csv(self.path)) if self.path.exists() else 0)


def test_the_file_grows_with_the_run(fit, dictated, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    reader = Reader(path)
    fit(dictated(SCORES), EpochHistory(path), reader, epochs=3)
    assert reader.seen == [0, 1, 2]
