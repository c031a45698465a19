"""The trainer of a run and its callbacks follow from the options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tiny_runs import prepared

from mask_lightning.callbacks.progress import ProgressBar
from mask_lightning.engine.trainer import build_trainer, learning_callbacks, make_trainer, selection_callbacks
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.train import TrainSettings


@pytest.mark.parametrize(
    ("overrides", "want"),
    [
        ([], ["PhasedFinetuning"]),
        (["mix=cutmix"], ["PhasedFinetuning", "BatchMixing"]),
        (["finetune=progressive", "mix=mixup"], ["PhasedFinetuning", "ProgressiveResizing", "BatchMixing"]),
    ],
)
def test_learning_callbacks_follow_the_options(
    settings, competition: Path, overrides: list[str], want: list[str]
) -> None:
    chosen = settings(f"data.root={competition}", "data.val_fraction=0.25", "model=lite0", *overrides)
    run = prepared(chosen)
    with torch.device("meta"):
        module = run.build_module()
    callbacks = learning_callbacks(run.build_data(), module)
    assert [type(callback).__name__ for callback in callbacks] == want


@pytest.mark.parametrize(
    ("overrides", "want"),
    [
        ([], []),
        (["averaging=ema"], [("ExponentialAverage", {"decay": 0.97})]),
        (["averaging=ema", "averaging.decay=0.5"], [("ExponentialAverage", {"decay": 0.5})]),
        (
            ["checkpoint.patience=3"],
            [("LastPhaseStopping", {"patience": 3, "monitor": "val/f1", "mode": "max", "first_epoch": 3})],
        ),
        (
            ["checkpoint.patience=3", "checkpoint.monitor=val/loss", "finetune=none"],
            [("LastPhaseStopping", {"monitor": "val/loss", "mode": "min", "first_epoch": 0})],
        ),
    ],
)
def test_selection_callbacks_follow_the_options(
    settings: Callable[..., TrainSettings], overrides: list[str], want: list[tuple[str, dict[str, Any]]]
) -> None:
    asked = settings(*overrides)
    module = SimpleNamespace(phases=asked.finetune.phases)
    callbacks: list[Any] = selection_callbacks(asked, module)  # type: ignore[arg-type]
    found = [
        (type(callback).__name__, {key: getattr(callback, key) for key in values})
        for callback, (_, values) in zip(callbacks, want, strict=True)
    ]
    assert found == want


def test_the_trainer_accumulates_and_clips(settings: Callable[..., TrainSettings], tmp_path: Path) -> None:
    tiny = ["trainer.accelerator=cpu", "trainer.progress=false", "logger=none"]
    plain = make_trainer(settings(*tiny), tmp_path, [])
    asked = make_trainer(settings(*tiny, "trainer.accumulate=3", "trainer.clip_norm=0.5"), tmp_path, [])
    assert (plain.accumulate_grad_batches, plain.gradient_clip_val) == (1, None)
    assert (asked.accumulate_grad_batches, asked.gradient_clip_val) == (3, 0.5)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_progress_bar_needs_a_terminal(
    is_terminal: bool, settings: Callable[..., TrainSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProgressBar, "can_show", lambda: is_terminal)
    trainer = make_trainer(settings("trainer.accelerator=cpu", "logger=none"), tmp_path, [])
    assert (trainer.progress_bar_callback is not None) == is_terminal


def test_a_run_has_all_callbacks_in_their_order(
    settings, competition: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProgressBar, "can_show", lambda: True)
    options = ["averaging=ema", "checkpoint.patience=3", "finetune=progressive", "mix=mixup", "trainer.devices=2"]
    chosen = settings(
        *(f"data.root={competition}", "data.val_fraction=0.25", "model=lite0", "trainer.accelerator=cpu", *options)
    )
    run, figures = prepared(chosen), pl.Callback()
    with torch.device("meta"):
        module = run.build_module()
    trainer = build_trainer(chosen, RunFolder(tmp_path), run.build_data(), module, [figures]).trainer
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    assert [type(callback).__name__ for callback in callbacks] == [
        "CommonStep",
        "PhasedFinetuning",
        "ProgressiveResizing",
        "BatchMixing",
        "ExponentialAverage",
        "LastPhaseStopping",
        "FiniteLoss",
        "Throughput",
        "BestCheckpoint",
        "EpochHistory",
        "LastCheckpoint",
        "Interruption",
        "Callback",
        "ProgressBar",
        "LearningRateMonitor",
    ]


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ([], []),
        (["trainer.accumulate=2"], ["AccumulationMean"]),
        (["trainer.validate_every=2"], ["FinalValidation"]),
        (["trainer.validate_every=3"], []),
        (["trainer.validate_every=end"], []),
        (
            ["trainer.validate_every=2", "trainer.accumulate=2", "trainer.devices=2"],
            ["CommonStep", "AccumulationMean", "FinalValidation"],
        ),
    ],
)
def test_callbacks_that_correct_lightning_are_added_where_it_needs_them(
    settings: Callable[..., TrainSettings], tmp_path: Path, options: list[str], want: list[str]
) -> None:
    tiny = ["trainer.accelerator=cpu", "trainer.progress=false", "logger=none", "finetune=none", "finetune.epochs=3"]
    trainer = make_trainer(settings(*tiny, *options), tmp_path, [])
    names = [type(callback).__name__ for callback in trainer.callbacks]  # type: ignore[attr-defined]
    assert [name for name in names if name in ("CommonStep", "AccumulationMean", "FinalValidation")] == want
