from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import pytorch_lightning as pl

from mask_lightning.callbacks.epoch_history import EpochHistory

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


def test_an_epoch_that_did_not_validate_has_no_scores(fit, dictated, tmp_path: Path) -> None:
    """Lightning goes on to show those of the epoch before."""
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
    """Reads the file while the run goes on, as a person would."""

    def __init__(self, path: Path) -> None:
        self.path, self.seen = path, []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seen.append(len(pd.read_csv(self.path)) if self.path.exists() else 0)


def test_the_file_grows_with_the_run(fit, dictated, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    reader = Reader(path)
    fit(dictated(SCORES), EpochHistory(path), reader, epochs=3)
    assert reader.seen == [0, 1, 2]
