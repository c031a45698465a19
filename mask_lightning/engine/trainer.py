"""Build the Trainer of a run with its callbacks and logger, and prepare all devices for its fit."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import LearningRateMonitor

from mask_lightning.callbacks.accumulation import AccumulationMean
from mask_lightning.callbacks.batch_transforms import BatchMixing, ProgressiveResizing
from mask_lightning.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from mask_lightning.callbacks.common_step import CommonStep
from mask_lightning.callbacks.early_stopping import LastPhaseStopping
from mask_lightning.callbacks.final_validation import FinalValidation
from mask_lightning.callbacks.finite_loss import FiniteLoss
from mask_lightning.callbacks.interruption import Interruption
from mask_lightning.callbacks.order import sort_callbacks
from mask_lightning.callbacks.phased_finetuning import PhasedFinetuning
from mask_lightning.callbacks.progress import EpochHistory, ProgressBar, Throughput
from mask_lightning.callbacks.pruning import Pruning
from mask_lightning.callbacks.weight_averaging import ExponentialAverage
from mask_lightning.data.datamodule import FaceDataModule
from mask_lightning.engine.checkpoint_files import CheckpointFiles
from mask_lightning.engine.ddp import choose_strategy, count_processes, other_ranks
from mask_lightning.engine.determinism import device_math
from mask_lightning.engine.loggers import build_logger, tracker_errors_in_one_line
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.errors import ConfigError
from mask_lightning.metrics.names import lower_is_better
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.train import TrainSettings
from mask_lightning.settings.trainer import TrainerSettings
from mask_lightning.utils.launch import check_launch, find_launch
from mask_lightning.utils.system import keep_memory


@dataclass(frozen=True)
class RunTrainer:
    """Trainer of a run, and the callbacks that know how the run went.

    Attributes:
        trainer: Lightning's Trainer with all callbacks in order.
        best: best scores so far, and their epoch.
        throughput: photos per second.
        interruption: signals received.
    """

    trainer: pl.Trainer
    best: BestCheckpoint
    throughput: Throughput
    interruption: Interruption

    def describe(self) -> dict[str, Any]:
        """Return best and latest scores, the best epoch (from 1) and the speed as plain values for result.json."""
        return {
            "best": self.best.scores,
            "best_epoch": None if self.best.epoch is None else self.best.epoch + 1,
            "last": self.best.latest,
            "photos_per_second": round(self.throughput.photos_per_second, 2),
        }


def build_trainer(
    settings: TrainSettings,
    folder: RunFolder,
    data: FaceDataModule,
    module: MultiTaskModule,
    callbacks: Sequence[pl.Callback] = (),
) -> RunTrainer:
    """Build the trainer of a run: the same one in every process that trains it.

    Args:
        settings: options of the run.
        folder: folder for checkpoints, metrics.csv and the logger's files.
        data: data of the run.
        module: module to train.
        callbacks: further callbacks, such as figures of reports; they come after those that have an order.

    Raises:
        ConfigError: the devices do not exist here, or the logger's package is not installed.
    """
    best = BestCheckpoint(
        folder.best,
        monitor=settings.monitor,
        mode=_monitor_mode(settings),
        evidence=lambda _: module.figure_data(),
    )
    last = LastCheckpoint(folder.last, every_minutes=settings.checkpoint.every_minutes)
    throughput, interruption = Throughput(), Interruption(last)
    of_run = [
        *learning_callbacks(data, module),
        *selection_callbacks(settings, module),
        FiniteLoss(folder.path / "not_finite.csv", data.split.train["path"].tolist()),
        throughput,
        best,
        EpochHistory(folder.metrics),
        last,
        interruption,
        *callbacks,
    ]
    return RunTrainer(make_trainer(settings, folder.path, of_run), best, throughput, interruption)


def build_range_test_trainer(settings: TrainSettings, data: FaceDataModule, module: MultiTaskModule) -> pl.Trainer:
    """Build a trainer for `range_test`: it trains as the run would, and neither saves nor records anything.

    Raises:
        ConfigError: the devices do not exist here.
    """
    return make_trainer(settings, Path(), learning_callbacks(data, module))


@contextmanager
def fitting(
    run: RunTrainer, settings: TrainSettings, folder: RunFolder, *, resume: bool, found_lr: float | None = None
) -> Iterator[Path | None]:
    """Prepare all devices of the run for the `run.trainer.fit` of the block.

    Args:
        run: trainer of `build_trainer`.
        settings: options of the run; the other processes of DDP get them, too.
        folder: folder of the run.
        resume: continue from the last checkpoint in `folder`.
        found_lr: lr that a range test has found for `optim.lr=auto`.

    Yields:
        Checkpoint to continue from, or None.

    Raises:
        ProcessError: another process of the run ended early.
        ConfigError: torch cannot compute as the settings ask, see `device_math`, or the logger cannot be used.
    """
    task = {
        "settings": settings.model_dump(mode="json"),
        "folder": str(folder.path.absolute()),
        "resume": resume,
        "lr": found_lr,
        "prunes": any(isinstance(callback, Pruning) for callback in run.trainer.callbacks),  # type: ignore[attr-defined]
    }
    with tracker_errors_in_one_line(settings.logger), on_all_devices(run.trainer, settings.trainer, task):
        yield folder.last if resume else None
    run.interruption.after_fit()


@contextmanager
def on_all_devices(trainer: pl.Trainer, options: TrainerSettings, task: Mapping[str, Any]) -> Iterator[None]:
    """Run the other processes of a fit, and set how its device computes, for the block.

    Lightning's own switches for deterministic and fast algorithms would stay on after the fit.

    Args:
        trainer: trainer that fits in the block.
        options: trainer options of the run.
        task: what the other processes do, see `other_ranks`.

    Raises:
        ProcessError, ConfigError: as `fitting`.
    """
    on_cuda = trainer.strategy.root_device.type == "cuda"
    with other_ranks(trainer.world_size, task), device_math(cuda=on_cuda, deterministic=options.deterministic):
        yield


def learning_callbacks(data: FaceDataModule, module: MultiTaskModule) -> list[pl.Callback]:
    """Create the callbacks that change how a batch is learned: frozen groups, smaller photos, mixed photos."""
    callbacks: list[pl.Callback] = [PhasedFinetuning(module.phases, module.layer_groups())]
    if any(phase.image_size for phase in module.phases):
        callbacks.append(ProgressiveResizing(module.phases))
    if data.mix.name != "none":
        callbacks.append(BatchMixing(data.mix, seed=data.seed))
    return callbacks


def selection_callbacks(settings: TrainSettings, module: MultiTaskModule) -> list[pl.Callback]:
    """Create the callbacks that change which weights result: moving average and early stopping."""
    callbacks: list[pl.Callback] = []
    if settings.averaging.decay is not None:
        callbacks.append(ExponentialAverage(settings.averaging.decay))
    if settings.checkpoint.patience is not None:
        mode: Literal["min", "max"] = "min" if lower_is_better(settings.monitor) else "max"
        patience = settings.checkpoint.patience
        callbacks.append(LastPhaseStopping(module.phases, monitor=settings.monitor, mode=mode, patience=patience))
    return callbacks


def make_trainer(settings: TrainSettings, folder: Path, callbacks: Sequence[pl.Callback]) -> pl.Trainer:
    """Create Lightning's Trainer for all phases, with the callbacks in their order (`callbacks.order.Order`).

    Args:
        settings: options of the run.
        folder: folder for the logger's files.
        callbacks: callbacks in any order; CommonStep, AccumulationMean, FinalValidation, the progress bar and the lr
            monitor are added as needed.

    Raises:
        ConfigError: the devices do not exist here or are not those of torchrun, or the logger's package is not
            installed.
    """
    keep_memory()
    options = settings.trainer
    epochs = settings.epochs
    every = max(epochs, 1) if options.validate_every == "end" else options.validate_every  # a probe has no epochs
    launch = find_launch()
    check_launch(launch, devices=options.devices, num_nodes=options.num_nodes)
    devices, nodes = count_processes(options.devices, options.accelerator), launch.nodes if launch else 1
    logger = build_logger(settings.logger, folder, settings.outputs)
    shows_progress = options.progress and ProgressBar.can_show()
    callbacks = [
        *callbacks,
        *([CommonStep()] if devices * nodes > 1 else []),
        *([AccumulationMean()] if options.accumulate > 1 else []),
        *([FinalValidation(every)] if epochs % every else []),
        *([ProgressBar()] if shows_progress else []),
        *([LearningRateMonitor("step")] if logger else []),
    ]
    freezes = any(phase.unfreeze != "all" for phase in settings.finetune.phases)
    with _device_errors_in_one_line(options), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The .srun. command is available")  # a run starts its processes itself
        return pl.Trainer(
            accelerator=options.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=choose_strategy(devices * nodes, freezes=freezes),
            plugins=[LightningEnvironment(), CheckpointFiles()],
            precision=resolve_precision(options.precision, options.accelerator),  # type: ignore[arg-type]
            max_epochs=epochs,
            check_val_every_n_epoch=every,
            limit_train_batches=options.max_batches,
            limit_val_batches=options.max_batches,
            accumulate_grad_batches=options.accumulate,
            gradient_clip_val=options.clip_norm,
            logger=logger,
            callbacks=sort_callbacks(callbacks),
            default_root_dir=folder,
            log_every_n_steps=10,
            num_sanity_val_steps=0,  # index and split are checked already, and a validation takes time
            enable_checkpointing=False,  # callbacks/checkpoints.py saves
            enable_model_summary=False,  # inspect=true prints more
            enable_progress_bar=shows_progress,
            use_distributed_sampler=False,  # the data module divides the batches
        )


def resolve_precision(precision: str, accelerator: str, *, cuda: bool | None = None) -> str:
    """Resolve `auto` to 16-mixed if the run will be on CUDA, else to 32-true.

    Args:
        precision: `trainer.precision`.
        accelerator: `trainer.accelerator`.
        cuda: whether CUDA is available; None asks torch.

    Example:
        >>> resolve_precision("auto", "gpu", cuda=True), resolve_precision("auto", "cpu", cuda=True)
        ('16-mixed', '32-true')
    """
    if precision != "auto":
        return precision
    on_cuda = torch.cuda.is_available() if cuda is None else cuda
    return "16-mixed" if on_cuda and accelerator in ("auto", "gpu") else "32-true"


@contextmanager
def without_advice() -> Iterator[None]:
    """Suppress Lightning's advice that does not apply here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")  # the number follows from the cores
        warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")  # Lightning's own use of torch
        warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")  # the data module is
        warnings.filterwarnings("ignore", ".*number of training batches .* is smaller than the logging interval.*")
        yield


@contextmanager
def _device_errors_in_one_line(options: TrainerSettings) -> Iterator[None]:
    """Turn Lightning's error about missing devices into a ConfigError."""
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(
            f"trainer.accelerator={options.accelerator} with trainer.devices={options.devices} is not available here "
            f"({str(error).splitlines()[0]}); set them to auto"
        ) from error


def _monitor_mode(settings: TrainSettings) -> Literal["max", "min", "last"]:
    if not settings.data.val_fraction:
        return "last"  # without held-out photos no model can be called better than the latest
    return "min" if lower_is_better(settings.monitor) else "max"
