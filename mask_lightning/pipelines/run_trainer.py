"""Settings -> the trainer of a run with its callbacks, the same in every process that trains it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import LambdaCallback

from mask_lightning.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from mask_lightning.callbacks.epoch_history import EpochHistory
from mask_lightning.callbacks.finite_loss import FiniteLoss
from mask_lightning.callbacks.interruption import Interruption
from mask_lightning.callbacks.throughput import Throughput
from mask_lightning.data.datamodule import FaceDataModule
from mask_lightning.engine import trainer as trainers
from mask_lightning.engine.ddp import other_ranks
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.metrics.names import lower_is_better
from mask_lightning.reports import run_report
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.train import TrainSettings


@dataclass(frozen=True)
class RunTrainer:
    """The trainer, and those of its callbacks that know how the run went."""

    trainer: pl.Trainer
    best: BestCheckpoint
    throughput: Throughput
    interruption: Interruption


def build_run_trainer(
    settings: TrainSettings, folder: RunFolder, data: FaceDataModule, module: MultiTaskModule
) -> RunTrainer:
    """All that watches, keeps and shows what the run learns, into its folder."""
    throughput = Throughput()
    best = BestCheckpoint(
        folder.best,
        monitor=settings.monitor,
        mode=_mode(settings),
        evidence=run_report.take_evidence,
    )
    picture = LambdaCallback(on_train_start=partial(run_report.save_schedule, folder.path))
    learning = [*trainers.learning_callbacks(data, module), *trainers.keeping_callbacks(settings, module)]
    finite = FiniteLoss(folder.path / "not_finite.csv", data.split.train["path"].tolist())
    last = LastCheckpoint(folder.last, every_minutes=settings.checkpoint.every_minutes)
    interruption = Interruption(last)
    keeping = [best, EpochHistory(folder.metrics), last, interruption]
    callbacks = [*learning, picture, finite, throughput, *keeping]
    return RunTrainer(trainers.build_trainer(settings, folder.path, callbacks), best, throughput, interruption)


def fit(
    run: RunTrainer,
    settings: TrainSettings,
    folder: RunFolder,
    module: MultiTaskModule,
    data: FaceDataModule,
    *,
    resume: bool,
    found_lr: float | None = None,
) -> None:
    """Train on as many devices as `settings` say.

    Raises:
        ProcessError: another process of the run ended early.
        ConfigError: torch cannot compute as `settings` say, see `device_math`.
    """
    task = {
        "settings": settings.model_dump(mode="json"),
        "folder": str(folder.path),
        "resume": resume,
        "lr": found_lr,
    }
    with other_ranks(run.trainer.world_size, task), trainers.computing(run.trainer, settings.trainer):
        run.trainer.fit(module, data, ckpt_path=folder.last if resume else None, weights_only=True)
    run.interruption.after_fit()


def _mode(settings: TrainSettings) -> Literal["max", "min", "last"]:
    if not settings.data.val_fraction:
        return "last"  # nobody judges, so no model can be called better than the latest
    return "min" if lower_is_better(settings.monitor) else "max"
