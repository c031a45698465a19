"""Options of a network that trains in seconds, and validated settings, for tests of whole runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from mask_lightning.cli.compose import compose
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.pipelines.photos import find_photos
from mask_lightning.pipelines.prepare import PreparedRun, choose_transform
from mask_lightning.reports import run_report
from mask_lightning.settings.base import Settings, check
from mask_lightning.settings.train import TrainSettings

TINY_RUN = (
    "model.backbone=test_resnet",
    "model.pretrained=false",
    "model.image_size=32",
    "data.crop_height=96",
    "data.crop_width=64",
    "data.num_workers=0",
    "data.val_fraction=0.25",
    "logger=none",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
)
ONE_EPOCH = ("finetune=none", "finetune.epochs=1")

Checked = TypeVar("Checked", bound=Settings)


def settings_for(command: str, kind: type[Checked], *overrides: str) -> Checked:
    """Compose and validate the options of a command."""
    return check(kind, compose(command, kind, overrides))


def prepared(settings: TrainSettings) -> PreparedRun:
    """A run whose photos are found and split, but not decoded."""
    photos = find_photos(settings)
    return PreparedRun(settings, choose_transform(settings), photos, photos)


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> None:
    """Raise `error` in the training step number `at`."""
    step = MultiTaskModule.training_step

    def training_step(self: MultiTaskModule, batch: Any, batch_idx: int) -> Any:
        if self.global_step == at:
            raise error
        return step(self, batch, batch_idx)

    monkeypatch.setattr(MultiTaskModule, "training_step", training_step)


@contextmanager
def without_figures() -> Iterator[None]:
    """Let runs inside the block plot no figures, which takes about as long as a tiny training."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("save_augmented", "save_figures", "save_schedule"):
            patch.setattr(run_report, name, lambda *_: None)
        yield
