"""Prepare a run once: photos, transform and cache, from which its data module and network are built."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytorch_lightning as pl
import torch

from mask_lightning.data.cache import PreparedPhotos, cached_photos
from mask_lightning.data.datamodule import FaceDataModule
from mask_lightning.data.packed import open_packed, read_manifest
from mask_lightning.data.prepared import (
    PhotoSize,
    Quantiles,
    describe_missing_faces,
    describe_sizes,
    read_prepared,
    sample_sizes,
)
from mask_lightning.data.samplers import balanced_weights
from mask_lightning.data.splits import Split, class_counts
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.engine.modules import MultiTaskModule, module_class
from mask_lightning.errors import CacheError, ConfigError
from mask_lightning.faces.detector import require_detector
from mask_lightning.models.backbones import InputSpec, input_spec, takes_any_size
from mask_lightning.models.weights import load_pretrained
from mask_lightning.models.weights_file import WeightsFile, check_architecture, load_weights, read_weights
from mask_lightning.optim.optimizers import check_optimizer
from mask_lightning.pipelines.age_targets import head_options, number_loss_options, number_reader
from mask_lightning.pipelines.photos import Photos, find_photos, replace_broken
from mask_lightning.pipelines.soft_targets import SoftPart, check_leaks, make_soft_targets, read_extra_photos
from mask_lightning.runs.folder import RunResult
from mask_lightning.runs.photos import short_name
from mask_lightning.settings.data import DataSettings
from mask_lightning.settings.train import TrainSettings
from mask_lightning.utils.system import share_of_cores

log = logging.getLogger(__name__)

CLEAN_TRAIN_POOL = 8  # packed photos from which each photo of clean_train is drawn


@dataclass(frozen=True)
class PreparedRun:
    """Everything that a run has prepared before it builds or trains anything.

    Attributes:
        settings: all options.
        transform: crop, size and normalisation of a photo.
        found: the photos as found and split; the run's record is about these.
        photos: the same without those that cannot be decoded; the run trains on these.
        cache: decoded photos; None if there is no cache.
        sizes: quantiles of the training photos (`data.prepared.describe_sizes`), for the checkpoint.
        soft: soft targets and further training photos; None without `distill` and `data.extra`.
    """

    settings: TrainSettings
    transform: TransformSpec
    found: Photos
    photos: Photos
    cache: PreparedPhotos | None = None
    sizes: Quantiles = field(default_factory=dict)
    soft: SoftPart | None = None

    @property
    def train_rows(self) -> pd.DataFrame:
        """Training rows: the labelled photos, then the further ones."""
        if self.soft is None:
            return self.photos.targets
        return pd.concat([self.photos.targets, self.soft.extra], ignore_index=True)

    @property
    def sample_weights(self) -> npt.NDArray[np.float64] | None:
        """How often each training row is drawn (N,); None for once per epoch."""
        tasks = self.settings.data.balanced_by
        return balanced_weights(self.train_rows, self.photos.space.only(tasks).names) if tasks else None

    def _clean_train_rows(self) -> pd.DataFrame:
        """Return the training rows as labelled; of packed photos those of a few chunks, which one pass can read."""
        rows = self.photos.labels
        chunks = None if self.cache is None else self.cache.chunks_of(rows["path"].tolist())
        if chunks is None:
            return rows
        first = np.sort(np.argsort(chunks, kind="stable")[: CLEAN_TRAIN_POOL * self.settings.data.clean_train_photos])
        return rows.iloc[first].reset_index(drop=True)

    def build_data(self) -> FaceDataModule:
        """Build the data module over the split."""
        settings, photos = self.settings, self.photos
        return FaceDataModule(
            Split(self.train_rows, photos.split.val),
            tasks=photos.space.names,
            spec=self.transform,
            augment=settings.augment,
            batch_size=settings.data.batch_size,
            seed=settings.seed,
            clean_train_photos=settings.data.clean_train_photos,
            num_workers=settings.data.num_workers,
            sample_weights=self.sample_weights,
            mix=settings.mix,
            clean_train=self._clean_train_rows(),
            numbers=number_reader(settings.head, settings.labels.age),
            cache=self.cache,
            device_augment=augments_on_device(settings),
            soft=self.soft.targets if self.soft else None,
            in_pairs=settings.data.two_per_person,
        )

    def build_module(self, *, found_lr: float | None = None) -> MultiTaskModule:
        """Build a module with random weights in channels_last.

        Args:
            found_lr: takes the place of `optim.lr=auto`; without it, the module's learning rates are relative to 1.
        """
        settings, photos, plain = self.settings, self.photos, self.settings.model_dump(mode="json")
        ages, drawn = settings.labels.age, self.sample_weights
        weights = None if drawn is None else drawn[: len(photos.targets)]
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
            loss={
                **plain["loss"],
                "numbers": number_loss_options(settings.head, ages, photos.labels, weights),
                "soft_temperature": settings.loss.distill_temperature if settings.distill else 1.0,
            },
            optim={**plain["optim"], "lr": lr},
            schedule=plain["schedule"],
            phases=plain["finetune"]["phases"],
            weighting=settings.weighting.options,
            config=plain,
            sizes=dict(self.sizes),
        )
        if settings.model.compile:
            module.network.compile()  # in place: state-dict names stay the same
        return module.to(memory_format=torch.channels_last)

    def build_pretrained_module(self) -> MultiTaskModule:
        """Build the module of a first fit: heads drawn from the seed, weights as `model.pretrained` says.

        Raises:
            WeightsError: pretrained weights are required and cannot be found, or are those of another architecture.
            SplitError: the run to start from was trained on people whom this run holds out; see `allow_leak`.
        """
        pl.seed_everything(self.settings.seed, workers=True, verbose=False)
        module, model = self.build_module(), self.settings.model
        if isinstance(model.pretrained, Path):
            self._start_from(module, read_weights(model.pretrained))
        else:
            backbones = module.network.sharing.backbones
            origin = load_pretrained(backbones, model.backbone, model.pretrained, image_size=self.transform.size)
            module.lineage.append(origin)
        return module

    def _start_from(self, module: MultiTaskModule, file: WeightsFile) -> None:
        """Load a file into the module, log what was loaded, and note where it comes from."""
        model, settings = self.settings.model, self.settings
        loaded = load_weights(
            module.network,
            file,
            backbone=model.backbone,
            tasks=module.space.to_plain(),
            heads=module.hparams["network"]["heads"],
            keep_heads=model.keep_heads,
            image_size=self.transform.size,
        )
        log.info("%s: loaded %s", file.path, loaded)
        leaked = 0
        if file.run is not None:
            leaked = check_leaks([file.run], self.photos.split.val, allowed=settings.allow_leak)
        origin = file.describe()
        module.lineage.append(" -> ".join([*([origin["weights"]] if origin.get("weights") else []), str(file.named)]))
        module.pretrained = {
            **origin,
            **asdict(loaded),
            "mean": list(self.transform.mean),
            "std": list(self.transform.std),
            "leaked_photos": leaked,
        }


def prepare_run(
    settings: TrainSettings,
    found: Photos | None = None,
    *,
    look_for_broken: bool = True,
    recorded: RunResult | None = None,
) -> PreparedRun:
    """Find and split the photos, decode them into the cache, and replace those that cannot be decoded.

    Args:
        settings: all options of the run.
        found: the photos, if they are known already.
        look_for_broken: False if another process of the same run has looked.
        recorded: record of the run if it has one already; its normalisation holds, whatever became of the file of
            `model.pretrained`.

    Raises:
        ConfigError: the options do not fit the backbone, or there is no such optimizer.
        WeightsError: the file of `model.pretrained` cannot be read.
        MaskLightningError: the photos are not as expected, or cannot be cached with `data.cache=on`.
    """
    transform = choose_transform(settings, recorded)  # first: a wrong backbone is reported before portraits are drawn
    check_optimizer(settings.optim)
    found = found or find_photos(settings)
    extra = read_extra_photos(settings, found)
    cache = open_cache(settings, found, transform, [] if extra is None else extra.rows["path"].tolist())
    if not look_for_broken:
        soft = make_soft_targets(settings, found, extra, cache)
        return PreparedRun(settings, transform, found, found, cache, soft=soft)
    photos = replace_broken(settings, found, cache)
    if transform.crop != "face":
        paths = photos.labels["path"].tolist()
        sizes = sample_sizes(paths) if cache is None else sample_sizes(paths, cache.size_of)
    else:
        paths = list(dict.fromkeys([*photos.labels["path"], *photos.split.val["path"]]))
        known = find_faces(paths, transform, cache)
        missing = [path for path in paths if not known[path].face]
        if missing:
            names = [short_name(path) for path in missing]
            log.warning("%s", describe_missing_faces(names, len(names), len(paths)))
            photos = replace(photos, without_face=tuple(names))
        sizes = [known[path] for path in dict.fromkeys(photos.labels["path"])]
    soft = make_soft_targets(settings, photos, extra, cache)
    return PreparedRun(settings, transform, found, photos, cache, describe_sizes(sizes), soft)


def choose_transform(settings: TrainSettings, recorded: RunResult | None = None) -> TransformSpec:
    """Choose how a photo is prepared: crop from the data, size from the backbone, normalisation from the weights.

    The weights of a run expect its mean and std. Its crop and size are not taken over: they follow from the photos and
    the wanted speed, and a network adapts to them.

    Args:
        settings: all options of the run.
        recorded: as in `prepare_run`.

    Raises:
        ConfigError: a phase trains on larger photos than that, or the backbone takes photos of one size only.
        WeightsError: the file of `model.pretrained` cannot be read.
        DetectorError: data.crop=face without the extra `faces`.
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
    if data.crop == "face" and data.name != "packed":
        require_detector()
    mean, std = _choose_normalisation(settings, recorded, native)
    return TransformSpec(size=size, mean=mean, std=std, **_choose_crop(data))


def _choose_crop(data: DataSettings) -> dict[str, Any]:
    """Return the options of the crop; packed photos have their own, and another that is named is refused later."""
    if data.name != "packed" or data.crop_options != DataSettings().crop_options:
        return data.crop_options
    assert data.root is not None
    return read_manifest(data.root).crop


def _choose_normalisation(
    settings: TrainSettings, recorded: RunResult | None, native: InputSpec
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std: of the run to start from if it records them, else those of timm's weights."""
    own = native.mean, native.std
    if recorded is not None:
        known = recorded.pretrained
        return (tuple(known["mean"]), tuple(known["std"])) if known else own
    path = settings.model.pretrained_path
    if path is None:
        return own
    file = read_weights(path)
    check_architecture(file, settings.model.backbone)
    return file.normalisation or own


def open_cache(
    settings: TrainSettings, photos: Photos, transform: TransformSpec, further: Sequence[str] = ()
) -> PreparedPhotos | None:
    """Open the cache of prepared photos, and decode into it what no earlier run did; None with `data.cache=off`.

    With `data.cache=auto`, None if there is no room for it, with a warning in the log. Packed photos are opened.

    Args:
        settings: all options of the run.
        photos: labelled photos.
        transform: prepares a photo.
        further: paths of photos without labels.

    Raises:
        CacheError: `data.cache=on`, and the cache cannot be written.
        PackedError: packed photos cannot be read, or were prepared otherwise.
    """
    data = settings.data
    if data.name == "packed":
        packed = open_packed(photos.root, folder=settings.cache_folder, cache_gb=data.cache_gb)
        packed.require(transform)
        return packed
    if data.cache == "off":
        return None
    try:
        return cached_photos(
            [*photos.everyone["path"], *further],
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


def find_faces(paths: Sequence[str], transform: TransformSpec, cache: PreparedPhotos | None) -> dict[str, PhotoSize]:
    """Return the sizes of photos and their faces by path, from the cache; photos that it lacks are read."""
    found = {path: None if cache is None else cache.size_of(path) for path in paths}
    with ThreadPoolExecutor(share_of_cores()) as pool:
        missing = [path for path, size in found.items() if size is None]
        read = pool.map(lambda path: read_prepared(path, [transform]).size, missing)
        return {path: size for path, size in found.items() if size is not None} | dict(zip(missing, read, strict=True))


def augments_on_device(settings: TrainSettings) -> bool:
    """Return True if RandAugment runs on the device; auto: if a GPU trains, as it would wait for the cores.

    TrivialAugment and erasing work on single photos, so with them nothing runs on the device.
    """
    chosen = settings.data.device_augment
    if settings.augment.cpu_only:
        return False
    on_gpu = torch.cuda.is_available() and settings.trainer.accelerator in ("auto", "gpu")
    return chosen == "on" or (chosen == "auto" and on_gpu)
