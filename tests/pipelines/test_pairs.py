"""Runs with two photos per person and the consistency loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from tiny_runs import without_figures

from mask_lightning.pipelines.train import train_run
from mask_lightning.settings.train import TrainSettings


def test_the_loss_has_the_divergence_of_the_pairs(compose_train: Callable[..., TrainSettings], tmp_path: Path) -> None:
    options = ("data.two_per_person=true", "loss.consistency=2", "augment=trivialaugment", "augment.erase=0.5")
    with without_figures():
        train_run(compose_train(*options), tmp_path / "run")
    (row,) = pd.read_csv(tmp_path / "run" / "metrics.csv").to_dict("records")
    tasks = sum(row[f"train/{task}/loss"] for task in ("mask", "gender", "age"))
    assert row["train/consistency"] > 0
    assert row["train/loss"] == pytest.approx(tasks + 2 * row["train/consistency"], rel=1e-5)
