"""Prepare a run once: photos, transform and cache, from which its data module and network are built."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch

from mask_lightning.data.cache import PhotoCache, cached_photos
from mask_lightning.data.datamodule import FaceDataModule
from mask_lightning.data.samplers import balanced_weights
from mask_lightning.data.splits import Split, class_counts
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.engine.modules import MultiTaskModule, module_class
from mask_lightning.errors import CacheError, ConfigError
from mask_lightning.models.backbones import input_spec, takes_any_size
from mask_lightning.models.weights import load_pretrained
from mask_lightning.pipelines.age_targets import head_options, number_loss_options, number_reader
from mask_lightning.pipelines.photos import Photos, find_photos, replace_broken
from mask_lightning.settings.train import TrainSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedRun:
    """Everything that a run has prepared before it builds or trains anything.

    Attributes:
        settings: all options.
        transform: crop, size and normalisation of a photo.
        found: the photos as found and split; the run's record is about these.
        photos: the same without those that cannot be decoded; the run trains on these.
        cache: decoded photos; None if there is no cache.
    """

    settings: TrainSettings
    transform: TransformSpec
    found: Photos
    photos: Photos
    cache: PhotoCache | None = None

    @property
    def sample_weights(self) -> npt.NDArray[np.float64] | None:
        """How often each training row is drawn (N,); None for once per epoch."""
        tasks = self.settings.data.balanced_by
        return balanced_weights(self.photos.targets, self.photos.space.only(tasks).names) if tasks else None

    def build_data(self) -> FaceDataModule:
        """Build the data module over the split."""
        settings, photos = self.settings, self.photos
        return FaceDataModule(
            Split(photos.targets, photos.split.val),
            tasks=photos.space.names,
            spec=self.transform,
            augment=settings.augment,
            batch_size=settings.data.batch_size,
            seed=settings.seed,
            clean_train_photos=settings.data.clean_train_photos,
            num_workers=settings.data.num_workers,
            sample_weights=self.sample_weights,
            mix=settings.mix,
            clean_train=photos.labels,
            numbers=number_reader(settings.head, settings.labels.age),
            cache=self.cache,
            device_augment=augments_on_device(settings),
        )

    def build_module(self, *, found_lr: float | None = None) -> MultiTaskModule:
        """Build a module with random weights in channels_last.

        Args:
            found_lr: takes the place of `optim.lr=auto`; without it, the module's learning rates are relative to 1.
        """
        settings, photos, plain = self.settings, self.photos, self.settings.model_dump(mode="json")
        ages, weights = settings.labels.age, self.sample_weights
        lr = (found_lr or 1.0) if settings.optim.lr == "auto" else settings.optim.lr
        module = module_class(photos.space)(
            tasks=photos.space.to_plain(),
            backbone=settings.model.backbone,
            # Counted as drawn: balanced sampling leaves less for the loss to balance.
            class_counts=class_counts(photos.targets, photos.space, weights),
            transform=self.transform.to_plain(),
            network={
                **{name: plain["model"][name] for name in ("drop_rate", "drop_path_rate")},
                "image_size": self.transform.size,
                "sharing": settings.sharing.options,
                "heads": head_options(settings.head, ages, photos.labels),
            },
            loss={**plain["loss"], "numbers": number_loss_options(settings.head, ages, photos.labels, weights)},
            optim={**plain["optim"], "lr": lr},
            schedule=plain["schedule"],
            phases=plain["finetune"]["phases"],
            weighting=settings.weighting.options,
            config=plain,
        )
        if settings.model.compile:
            module.network.compile()  # in place: state-dict names stay the same
        return module.to(memory_format=torch.channels_last)

    def build_pretrained_module(self) -> MultiTaskModule:
        """Build the module of a first fit: heads drawn from the seed, pretrained backbone as `model.pretrained` says.

        Raises:
            WeightsError: pretrained weights are required and cannot be found.
        """
        pl.seed_everything(self.settings.seed, workers=True, verbose=False)
        module, model = self.build_module(), self.settings.model
        backbones = module.network.sharing.backbones
        module.lineage.append(
            load_pretrained(backbones, model.backbone, model.pretrained, image_size=self.transform.size)
        )
        return module


def prepare_run(settings: TrainSettings, found: Photos | None = None, *, look_for_broken: bool = True) -> PreparedRun:
    """Find and split the photos, decode them into the cache, and replace those that cannot be decoded.

    Args:
        settings: all options of the run.
        found: the photos, if they are known already.
        look_for_broken: False if another process of the same run has looked.

    Raises:
        ConfigError: the options do not fit the backbone.
        MaskLightningError: the photos are not as expected, or cannot be cached with `data.cache=on`.
    """
    transform = choose_transform(settings)  # first: a wrong backbone is reported before portraits are drawn
    found = found or find_photos(settings)
    cache = open_cache(settings, found, transform)
    photos = replace_broken(settings, found, cache) if look_for_broken else found
    return PreparedRun(settings, transform, found, photos, cache)


def choose_transform(settings: TrainSettings) -> TransformSpec:
    """Choose how a photo is prepared: crop from the data, size and normalisation from the backbone.

    Raises:
        ConfigError: a phase trains on larger photos than that, or the backbone takes photos of one size only.
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


def open_cache(settings: TrainSettings, photos: Photos, transform: TransformSpec) -> PhotoCache | None:
    """Open the cache of prepared photos, and decode into it what no earlier run did; None with `data.cache=off`.

    With `data.cache=auto`, None if there is no room for it, with a warning in the log.

    Raises:
        CacheError: `data.cache=on`, and the cache cannot be written.
    """
    data = settings.data
    if data.cache == "off":
        return None
    try:
        return cached_photos(
            photos.everyone["path"].tolist(),
            transform,
            root=photos.root,
            folder=settings.cache_folder,
            workers=data.num_workers,
            progress=settings.trainer.progress,
        )
    except CacheError as error:
        if data.cache == "on":
            raise
        log.warning("%s; going on without it: every photo is decoded each time", error)
        return None


def augments_on_device(settings: TrainSettings) -> bool:
    """Return True if RandAugment runs on the device; auto: if a GPU trains, as it would wait for the cores."""
    chosen = settings.data.device_augment
    on_gpu = torch.cuda.is_available() and settings.trainer.accelerator in ("auto", "gpu")
    return chosen == "on" or (chosen == "auto" and on_gpu)
