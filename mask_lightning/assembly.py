"""Settings -> the objects of a run: the one place where config and code meet."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from mask_lightning.callbacks.progress import ProgressBar
from mask_lightning.data.datamodule import FaceDataModule
from mask_lightning.data.portraits import write_portraits
from mask_lightning.data.sources import LabelledPhotos, corrected, read_photo_table, read_photos
from mask_lightning.data.splits import Split, check_classes, class_counts, limit_people, split_people
from mask_lightning.data.transforms import AugmentSpec, TransformSpec
from mask_lightning.errors import ConfigError
from mask_lightning.labels import LabelSpace
from mask_lightning.models.backbones import input_spec
from mask_lightning.settings.train import TrainSettings
from mask_lightning.training.modules import MultiTaskModule, module_class

log = logging.getLogger(__name__)

PORTRAIT_SEED = 0  # everyone's drawn portraits are the same, so that scores on them compare


@dataclass(frozen=True)
class Photos:
    """A split of labelled photos, the tasks that are learned from them, and where they come from."""

    split: Split
    space: LabelSpace
    root: Path
    drawn: bool

    @property
    def everyone(self) -> pd.DataFrame:
        """The rows of both sides."""
        return pd.concat([self.split.train, self.split.val], ignore_index=True)

    def describe(self) -> dict[str, Any]:
        """Root, and people and photos per side, as plain values."""
        sides = {
            side: {"people": int(rows["person_id"].nunique()), "photos": len(rows)}
            for side, rows in (("train", self.split.train), ("val", self.split.val))
        }
        return {"root": str(self.root), "drawn": self.drawn, **sides}


def find_photos(settings: TrainSettings) -> Photos:
    """Index and split the photos; draw them first where no root is given.

    Raises:
        MaskLightningError: whatever is wrong with them.
    """
    data = settings.data
    photos = corrected(read_labelled(settings), data.corrections, agreed_by=data.agreed_by)
    space = settings.choose(photos.space)
    split = split_people(photos.table, val_fraction=data.val_fraction, seed=data.split_seed, strata=photos.strata)
    if data.limit_people:
        limited = limit_people(split.train, data.limit_people, seed=data.split_seed, strata=photos.strata)
        split = Split(limited, split.val)
    check_classes(split, space)
    return Photos(split, space, photos.root, drawn=data.name == "auto" and data.root is None)


def read_labelled(settings: TrainSettings) -> LabelledPhotos:
    """The sample table of the photos that `data` names; portraits are drawn where it names none."""
    data, space = settings.data, settings.known_space
    if data.table is not None:
        needed = settings.task.tasks or (space.names if space else ())
        return read_photo_table(data.table, data.root, space=space, needed=needed)
    return read_photos(data.name, data.root or draw_portraits(data.portraits, settings.outputs))


def draw_portraits(people: int, outputs: Path) -> Path:
    """The folder of the embedded default data, drawn on first use."""
    return write_portraits(outputs / "data" / f"portraits-{people}", people=people, seed=PORTRAIT_SEED)


def transform_spec(settings: TrainSettings) -> TransformSpec:
    """What becomes of a photo: crop from the data, size and normalisation from the model."""
    data, native = settings.data, input_spec(settings.model.backbone)
    size = settings.model.image_size or native.size
    return TransformSpec(data.crop_height, data.crop_width, size, native.mean, native.std)


def build_data(settings: TrainSettings, photos: Photos, spec: TransformSpec) -> FaceDataModule:
    """Dataloaders over the split."""
    data = settings.data
    return FaceDataModule(
        photos.split,
        tasks=photos.space.names,
        spec=spec,
        augment=AugmentSpec(**settings.augment.model_dump()),
        batch_size=data.batch_size,
        seed=settings.seed,
        clean_train_photos=data.clean_train_photos,
        num_workers=data.num_workers,
    )


def build_module(settings: TrainSettings, photos: Photos, spec: TransformSpec) -> MultiTaskModule:
    """An untrained module, without pretrained weights, in channels_last."""
    plain = settings.model_dump(mode="json")
    module = module_class(photos.space)(
        tasks=photos.space.to_plain(),
        backbone=settings.model.backbone,
        class_counts=class_counts(photos.split.train, photos.space),
        transform=spec.to_plain(),
        network={name: plain["model"][name] for name in ("drop_rate", "drop_path_rate")},
        loss=plain["loss"],
        optim=plain["optim"],
        schedule=plain["schedule"],
        phases=plain["finetune"]["phases"],
        config=plain,
    )
    return module.to(memory_format=torch.channels_last)


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
    """Lightning's Trainer for all phases."""
    options = settings.trainer
    epochs = settings.epochs
    if options.progress:
        callbacks = [*callbacks, ProgressBar()]
    return pl.Trainer(
        accelerator=options.accelerator,
        devices=options.devices,
        precision=resolve_precision(options.precision, options.accelerator),  # type: ignore[arg-type]
        max_epochs=epochs,
        check_val_every_n_epoch=epochs if options.validate_every == "end" else options.validate_every,
        limit_train_batches=options.max_batches,
        limit_val_batches=options.max_batches,
        logger=build_logger(settings, folder),
        callbacks=callbacks,
        default_root_dir=folder,
        log_every_n_steps=10,
        num_sanity_val_steps=0,  # the index and the split were checked, and a pass costs time
        enable_checkpointing=False,  # callbacks/checkpoints.py does it
        enable_model_summary=False,  # inspect=true shows more
        enable_progress_bar=options.progress,
        use_distributed_sampler=False,
    )


def resolve_precision(precision: str, accelerator: str, *, cuda: bool | None = None) -> str:
    """`auto` -> 16-mixed where the run will be on CUDA, else 32-true."""
    on_cuda = torch.cuda.is_available() if cuda is None else cuda
    if precision != "auto":
        return precision
    return "16-mixed" if on_cuda and accelerator in ("auto", "gpu") else "32-true"
