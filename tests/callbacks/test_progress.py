"""Throughput and metrics.csv of a fit."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from rich.console import Console

from mask_lightning.callbacks import progress
from mask_lightning.callbacks.progress import EpochHistory, ProgressBar, Throughput


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


METRICS = {"v_num": 3, "train/loss_step": 2.1, "train/loss_epoch": 2.2, "val/f1": 0.1, "clean_train/f1": 0.2}


@pytest.mark.parametrize(
    ("columns", "shown"),
    [(80, ["loss", "val/f1"]), (109, ["loss", "val/f1"]), (200, ["loss", "val/f1", "clean_train/f1"])],
)
def test_the_bar_shows_as_many_scores_as_fit(columns: int, shown: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(RichProgressBar, "get_metrics", lambda *_: dict(METRICS))
    assert list(ProgressBar().get_metrics(None, None)) == shown


@pytest.mark.parametrize("columns", [80, 200])
def test_the_bar_is_one_line_and_counts_epochs_from_one(
    columns: int, fit, dictated, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = StringIO()
    monkeypatch.setattr(
        "pytorch_lightning.callbacks.progress.rich_progress.get_console",
        lambda: Console(file=text, force_terminal=True, width=columns, no_color=True),
    )
    fit(dictated(SCORES), ProgressBar(), EpochHistory(tmp_path / "metrics.csv"), epochs=2)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue())
    lines = [line.strip() for line in re.split(r"[\r\n]", plain) if line.strip()]
    assert max(map(len, lines)) <= columns
    assert lines[-1].startswith("Epoch 2/2")
    assert all(line.startswith(("Epoch ", "epoch ", "Validation ")) for line in lines)
    assert sum(line.startswith("epoch 1 of 2: train/loss") for line in lines) == 1


def test_without_a_bar_the_epochs_are_logged(fit, dictated, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level("INFO", logger="mask_lightning"):
        fit(dictated(SCORES), EpochHistory(tmp_path / "metrics.csv"), epochs=2)
    lines = [record.message for record in caplog.records if record.message.startswith("epoch ")]
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2 of 2: train/loss ")
    assert lines[1].endswith("val/f1 0.400, clean_train/f1 0.125")


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
