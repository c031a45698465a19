"""Settings -> Lightning's Trainer, with the callbacks and the logger that they name."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from mask_lightning.callbacks.batch_mixing import BatchMixing
from mask_lightning.callbacks.common_step import CommonStep
from mask_lightning.callbacks.early_stopping import LastPhaseStopping
from mask_lightning.callbacks.phased_finetuning import PhasedFinetuning
from mask_lightning.callbacks.progress import ProgressBar
from mask_lightning.callbacks.progressive_resizing import ProgressiveResizing
from mask_lightning.callbacks.weight_averaging import ExponentialAverage
from mask_lightning.data.datamodule import FaceDataModule
from mask_lightning.engine.checkpoint_files import CheckpointFiles
from mask_lightning.engine.ddp import choose_strategy, count_processes
from mask_lightning.engine.determinism import device_math
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.errors import ConfigError
from mask_lightning.metrics.names import lower_is_better
from mask_lightning.settings.train import TrainSettings
from mask_lightning.settings.trainer import TrainerSettings
from mask_lightning.utils.system import keep_memory


def learning_callbacks(data: FaceDataModule, module: MultiTaskModule) -> list[pl.Callback]:
    """What changes how a batch is learned: frozen groups, smaller photos, mixed photos."""
    callbacks: list[pl.Callback] = [PhasedFinetuning(module.phases, module.layer_groups())]
    if any(phase.image_size for phase in module.phases):
        callbacks.append(ProgressiveResizing(module.phases))
    if data.mix.name != "none":
        callbacks.append(BatchMixing(data.mix, seed=data.seed))
    return callbacks


def keeping_callbacks(settings: TrainSettings, module: MultiTaskModule) -> list[pl.Callback]:
    """What changes which weights come out: their moving average, and an early end."""
    callbacks: list[pl.Callback] = []
    if settings.averaging.decay is not None:
        callbacks.append(ExponentialAverage(settings.averaging.decay))
    if settings.checkpoint.patience is not None:
        mode: Literal["min", "max"] = "min" if lower_is_better(settings.monitor) else "max"
        patience = settings.checkpoint.patience
        callbacks.append(LastPhaseStopping(module.phases, monitor=settings.monitor, mode=mode, patience=patience))
    return callbacks


def build_logger(settings: TrainSettings, folder: Path) -> Logger | bool:
    """Lightning's logger of that name, writing into the run's folder; False for none."""
    name = settings.logger.name
    if name == "tensorboard":
        return TensorBoardLogger(folder, name="", version="tensorboard")
    if name == "csv":
        return CSVLogger(folder, name="steps")
    if name == "wandb":
        return _wandb_logger(settings.logger.project, folder)
    return False


def _wandb_logger(project: str, folder: Path) -> Logger:
    try:
        from pytorch_lightning.loggers import WandbLogger

        return WandbLogger(project=project, name=folder.name, save_dir=folder)
    except ModuleNotFoundError as error:
        raise ConfigError(f"logger=wandb needs a package ({error}); pip install 'mask_lightning[wandb]'") from None


def build_trainer(settings: TrainSettings, folder: Path, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning's Trainer for all phases.

    Raises:
        ConfigError: no such devices here, or the logger's package is missing.
    """
    keep_memory()
    options = settings.trainer
    epochs = settings.epochs
    processes = count_processes(options.devices, options.accelerator)
    if processes > 1:
        callbacks = [CommonStep(), *callbacks]
    if options.progress:
        callbacks = [*callbacks, ProgressBar()]
    logger = build_logger(settings, folder)
    if logger:
        callbacks = [*callbacks, LearningRateMonitor("step")]
    freezes = any(phase.unfreeze != "all" for phase in settings.finetune.phases)
    with _devices_in_one_line(options):
        return pl.Trainer(
            accelerator=options.accelerator,
            devices=processes,
            strategy=choose_strategy(processes, freezes=freezes),
            # never the cluster's environment: a run starts its processes itself
            plugins=[LightningEnvironment(), CheckpointFiles()],
            precision=resolve_precision(options.precision, options.accelerator),  # type: ignore[arg-type]
            max_epochs=epochs,
            check_val_every_n_epoch=epochs if options.validate_every == "end" else options.validate_every,
            limit_train_batches=options.max_batches,
            limit_val_batches=options.max_batches,
            accumulate_grad_batches=options.accumulate,
            gradient_clip_val=options.clip_norm,
            logger=logger,
            callbacks=callbacks,
            default_root_dir=folder,
            log_every_n_steps=10,
            num_sanity_val_steps=0,  # the index and the split were checked, and a pass costs time
            enable_checkpointing=False,  # callbacks/checkpoints.py does it
            enable_model_summary=False,  # inspect=true shows more
            enable_progress_bar=options.progress,
            use_distributed_sampler=False,
        )


def computing(trainer: pl.Trainer, options: TrainerSettings) -> AbstractContextManager[None]:
    """Around a fit: how the trainer's device computes, see `device_math`.

    Lightning's own switches are not used, as they stay on for all that the process does afterwards.
    """
    return device_math(cuda=trainer.strategy.root_device.type == "cuda", deterministic=options.deterministic)


@contextmanager
def _devices_in_one_line(options: TrainerSettings) -> Iterator[None]:
    """Raises ConfigError for what Lightning says of devices that are not there."""
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(
            f"trainer.accelerator={options.accelerator} with trainer.devices={options.devices} cannot be had here "
            f"({str(error).splitlines()[0]}); set them to auto"
        ) from error


@contextmanager
def without_advice() -> Iterator[None]:
    """Within, Lightning's advice that is of no use here is not shown."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")  # the number follows from the cores
        warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")  # Lightning's own use of torch
        warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")  # the data module is
        warnings.filterwarnings("ignore", ".*number of training batches .* is smaller than the logging interval.*")
        yield


def resolve_precision(precision: str, accelerator: str, *, cuda: bool | None = None) -> str:
    """`auto` -> 16-mixed where the run will be on CUDA, else 32-true."""
    on_cuda = torch.cuda.is_available() if cuda is None else cuda
    if precision != "auto":
        return precision
    return "16-mixed" if on_cuda and accelerator in ("auto", "gpu") else "32-true"
