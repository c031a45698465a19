"""From settings to the trainer and its callbacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mask_lightning.engine.trainer import build_trainer, keeping_callbacks, learning_callbacks
from mask_lightning.optim.phases import Phase
from mask_lightning.pipelines.prepare import build_data, build_module, find_photos, transform_spec
from mask_lightning.settings.train import TrainSettings


@pytest.mark.parametrize(
    ("overrides", "want"),
    [
        ([], ["PhasedFinetuning"]),
        (["mix=cutmix"], ["PhasedFinetuning", "BatchMixing"]),
        (["finetune=progressive", "mix=mixup"], ["PhasedFinetuning", "ProgressiveResizing", "BatchMixing"]),
    ],
)
def test_what_changes_a_batch_is_there_where_it_is_asked_for(
    settings, competition: Path, overrides: list[str], want: list[str]
) -> None:
    chosen = settings(f"data.root={competition}", "data.val_fraction=0.25", "model=lite0", *overrides)
    photos, spec = find_photos(chosen), transform_spec(chosen)
    with torch.device("meta"):
        module = build_module(chosen, photos, spec)
    callbacks = learning_callbacks(build_data(chosen, photos, spec), module)
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
def test_what_keeps_and_ends_is_added_where_it_is_asked_for(
    settings: Callable[..., TrainSettings], overrides: list[str], want: list[tuple[str, dict[str, Any]]]
) -> None:
    asked = settings(*overrides)
    module = SimpleNamespace(phases=[Phase(**phase.model_dump()) for phase in asked.finetune.phases])
    callbacks: list[Any] = keeping_callbacks(asked, module)  # type: ignore[arg-type]
    found = [
        (type(callback).__name__, {key: getattr(callback, key) for key in values})
        for callback, (_, values) in zip(callbacks, want, strict=True)
    ]
    assert found == want


def test_the_trainer_accumulates_and_clips(settings: Callable[..., TrainSettings], tmp_path: Path) -> None:
    tiny = ["trainer.accelerator=cpu", "trainer.progress=false", "logger=none"]
    plain = build_trainer(settings(*tiny), tmp_path, [])
    asked = build_trainer(settings(*tiny, "trainer.accumulate=3", "trainer.clip_norm=0.5"), tmp_path, [])
    assert (plain.accumulate_grad_batches, plain.gradient_clip_val) == (1, None)
    assert (asked.accumulate_grad_batches, asked.gradient_clip_val) == (3, 0.5)
