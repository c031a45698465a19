"""Settings -> the objects of a run: the one place where config and code meet."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytorch_lightning as pl
import torch

from mask_lightning.data.batching import MixSpec
from mask_lightning.data.cache import cached_photos
from mask_lightning.data.cache_file import PhotoCache
from mask_lightning.data.datamodule import FaceDataModule
from mask_lightning.data.dataset import balanced_weights
from mask_lightning.synthetic.portraits import write_portraits
from mask_lightning.data.sources import LabelledPhotos, corrected, read_photo_table, read_photos
from mask_lightning.data.splits import Split, check_classes, class_counts, hold_out
from mask_lightning.data.transforms import AugmentSpec, TransformSpec
from mask_lightning.engine.modules import MultiTaskModule, module_class
from mask_lightning.ensemble.subsets import member_rows
from mask_lightning.errors import CacheError, ConfigError
from mask_lightning.labels import LabelSpace
from mask_lightning.models.backbones import input_spec, takes_any_size
from mask_lightning.models.weights import load_pretrained
from mask_lightning.pipelines import age_targets as teaching
from mask_lightning.settings.train import TrainSettings

log = logging.getLogger(__name__)

PORTRAIT_SEED = 0  # everyone's drawn portraits are the same, so that scores on them compare


@dataclass(frozen=True)
class Photos:
    """A split of labelled photos, the tasks that are learned from them, and where they come from.

    `learned` are the training rows: the split's, or the part of them that an ensemble's member has, without the ages
    that are left out. `taught` are the same with the targets that the network is given: of other age cuts, where those
    are moved. `fold` is (i, k) where fold i of k is held out. `skipped` are the names of photos that are broken.
    """

    split: Split
    learned: pd.DataFrame
    taught: pd.DataFrame
    space: LabelSpace
    root: Path
    drawn: bool
    fold: tuple[int, int] | None = None
    skipped: tuple[str, ...] = ()

    @property
    def everyone(self) -> pd.DataFrame:
        """The rows of both sides."""
        return pd.concat([self.split.train, self.split.val], ignore_index=True)

    def describe(self) -> dict[str, Any]:
        """Root, fold, people and photos per side, and the photos that are skipped, as plain values."""
        sides = {
            side: {"people": int(rows["person_id"].nunique()), "photos": len(rows)}
            for side, rows in (("train", self.learned), ("val", self.split.val))
        }
        fold = {"fold": self.fold[0], "folds": self.fold[1]} if self.fold else {}
        skipped = {"skipped": list(self.skipped)} if self.skipped else {}
        return {"root": str(self.root), "drawn": self.drawn, **fold, **sides, **skipped}


def find_photos(settings: TrainSettings) -> Photos:
    """Index and split the photos; draw them first where no root is given.

    Raises:
        MaskLightningError: whatever is wrong with them.
    """
    data = settings.data
    photos = corrected(read_labelled(settings), data.corrections, agreed_by=data.agreed_by)
    space = settings.choose(photos.space)
    split = hold_out(photos.table, **data.split_options, strata=photos.strata)
    check_classes(split, space)
    fold = None if data.fold is None or data.folds is None else (data.fold, data.folds)
    learned = teaching.learned_rows(settings, split.train)
    if settings.member is not None:
        learned = _member_rows(settings, learned, space)
    return Photos(
        split,
        learned,
        teaching.taught_rows(settings, learned),
        space,
        photos.root,
        drawn=data.name == "auto" and data.root is None,
        fold=fold,
    )


def _member_rows(settings: TrainSettings, train: pd.DataFrame, space: LabelSpace) -> pd.DataFrame:
    """The training rows of an ensemble's member, whose balance the log tells."""
    assert settings.member is not None
    data, task = settings.data, space.tasks[0]
    rows = member_rows(train, settings.member, seed=data.split_seed, task=task, match_minority=data.match_minority)
    counts = [int((rows[task.name] == i).sum()) for i in range(task.num_classes)]
    log.info(
        "member %s: %d of %d people; photos per class of %s: %s",
        settings.member,
        rows["person_id"].nunique(),
        train["person_id"].nunique(),
        task.name,
        ", ".join(f"{name} {count}" for name, count in zip(task.classes, counts, strict=True)),
    )
    return rows


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
    """What becomes of a photo: crop from the data, size and normalisation from the model.

    Raises:
        ConfigError: a phase trains on photos larger than that, or smaller ones than the backbone takes.
    """
    data, native = settings.data, input_spec(settings.model.backbone)
    size = settings.model.image_size or native.size
    sizes = {phase.image_size for phase in settings.finetune.phases} - {None, size}
    largest = max((each for each in sizes if each), default=0)
    if largest > size:
        raise ConfigError(
            f"expected image_size of finetune.phases to be at most the model's {size}, got {largest}; "
            "make it smaller, or set model.image_size"
        )
    if sizes and not takes_any_size(settings.model.backbone):
        raise ConfigError(
            f"finetune.phases has image_size {largest}, found model.backbone={settings.model.backbone}, which is built "
            f"for photos of one size ({size}); leave it out of the phases, or take a CNN"
        )
    return TransformSpec(data.crop_height, data.crop_width, size, native.mean, native.std)


def open_cache(settings: TrainSettings, photos: Photos, spec: TransformSpec, *, tell: bool = True) -> PhotoCache | None:
    """The photos as `spec` prepares them, decoded now where no earlier run did; None where `data.cache` is off.

    `tell`: with `auto` the log says why it cannot be had; false where an earlier call of the same run has said it.

    Raises:
        CacheError: `data.cache=on`, and it cannot be had.
    """
    data = settings.data
    if data.cache == "off":
        return None
    try:
        return cached_photos(
            photos.everyone["path"].tolist(),
            spec,
            root=photos.root,
            folder=data.cache_dir or settings.outputs / "cache",
            workers=data.num_workers,
            progress=settings.trainer.progress,
        )
    except CacheError as error:
        if data.cache == "on":
            raise
        if tell:
            log.warning("%s; going on without it: every photo is decoded each time", error)
        return None


def build_data(
    settings: TrainSettings, photos: Photos, spec: TransformSpec, cache: PhotoCache | None = None
) -> FaceDataModule:
    """Dataloaders over the split."""
    data = settings.data
    return FaceDataModule(
        Split(photos.taught, photos.split.val),
        tasks=photos.space.names,
        spec=spec,
        augment=AugmentSpec(**settings.augment.model_dump()),
        batch_size=data.batch_size,
        seed=settings.seed,
        clean_train_photos=data.clean_train_photos,
        num_workers=data.num_workers,
        sample_weights=sample_weights(settings, photos),
        mix=MixSpec(**settings.mix.model_dump()),
        clean_train=photos.learned,
        numbers=teaching.numbers_of(settings),
        cache=cache,
        device_augment=augments_on_device(settings),
    )


def augments_on_device(settings: TrainSettings) -> bool:
    """`data.device_augment`; `auto`: where a GPU trains, which would else wait for the cores that change photos."""
    chosen = settings.data.device_augment
    on_gpu = torch.cuda.is_available() and settings.trainer.accelerator in ("auto", "gpu")
    return chosen == "on" or (chosen == "auto" and on_gpu)


def sample_weights(settings: TrainSettings, photos: Photos) -> npt.NDArray[np.float64] | None:
    """How often each training row is drawn; None for once per epoch."""
    tasks = settings.data.balanced_by
    return balanced_weights(photos.taught, photos.space.only(tasks).names) if tasks else None


def build_module(
    settings: TrainSettings, photos: Photos, spec: TransformSpec, *, found_lr: float | None = None
) -> MultiTaskModule:
    """An untrained module, without pretrained weights, in channels_last.

    `found_lr` stands for `optim.lr=auto`; until there is one, its lrs are as multiples of it.
    """
    plain = settings.model_dump(mode="json")
    lr = (found_lr or 1.0) if settings.optim.lr == "auto" else settings.optim.lr
    weights = sample_weights(settings, photos)
    module = module_class(photos.space)(
        tasks=photos.space.to_plain(),
        backbone=settings.model.backbone,
        # as they are drawn: balanced sampling leaves less for the loss to balance
        class_counts=class_counts(photos.taught, photos.space, weights),
        transform=spec.to_plain(),
        network={
            **{name: plain["model"][name] for name in ("drop_rate", "drop_path_rate")},
            "image_size": spec.size,
            "sharing": settings.sharing.options,
            "heads": teaching.head_options(settings, photos.learned),
        },
        loss={**plain["loss"], "numbers": teaching.number_options(settings, photos.learned, weights)},
        optim={**plain["optim"], "lr": lr},
        schedule=plain["schedule"],
        phases=plain["finetune"]["phases"],
        weighting=settings.weighting.options,
        config=plain,
    )
    if settings.model.compile:
        module.network.compile()  # in place: checkpoints are the same as without
    return module.to(memory_format=torch.channels_last)


def build_pretrained_module(settings: TrainSettings, photos: Photos, spec: TransformSpec) -> MultiTaskModule:
    """A module for its first fit: heads as the seed draws them, and the weights that `model.pretrained` says.

    Raises:
        WeightsError: insisted on weights that cannot be had.
    """
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    module = build_module(settings, photos, spec)
    model, sharing = settings.model, module.network.sharing
    origin = load_pretrained(sharing.backbones, model.backbone, model.pretrained, image_size=spec.size)
    module.lineage.append(origin)
    return module
