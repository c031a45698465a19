"""Predict photos with one or more trained models, in one pass that decodes every photo once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from mask_lightning.data.batching import normalise
from mask_lightning.data.cache import FileStamp, PhotoCache, cache_file_name, cache_key
from mask_lightning.data.datamodule import default_workers
from mask_lightning.data.images import open_photo, raise_if_broken
from mask_lightning.data.loading import LeanLoader, worker_errors_in_one_line
from mask_lightning.data.transforms import Pipeline, TransformSpec, eval_pipeline, to_uint8
from mask_lightning.errors import LabelError, PhotoError
from mask_lightning.inference.temperatures import fitting_temperatures
from mask_lightning.inference.trained import Trained
from mask_lightning.inference.tta import average_log_probs, tta_images, tta_weights
from mask_lightning.labels import UNLABELLED, LabelSpace
from mask_lightning.metrics.predictions import Predictions, no_targets
from mask_lightning.settings.inference import Tta
from mask_lightning.utils.system import keep_memory


@dataclass(frozen=True)
class CacheLocation:
    """Place of a run's photo cache.

    Attributes:
        folder: folder of the cache files.
        root: folder of the photos, which determines the file's name.
    """

    folder: Path
    root: Path


def predict(
    trained: Trained,
    rows: pd.DataFrame,
    *,
    tta: Tta = "none",
    calibrated: bool = False,
    batch_size: int = 64,
    num_workers: int | None = None,
    progress: bool = False,
    cache: CacheLocation | None = None,
) -> Predictions:
    """Predict photos with one model; arguments and errors as `predict_many`."""
    return predict_many(
        [trained],
        rows,
        tta=tta,
        calibrated=calibrated,
        batch_size=batch_size,
        num_workers=num_workers,
        progress=progress,
        cache=cache,
    )[0]


def predict_many(
    networks: Sequence[Trained],
    rows: pd.DataFrame,
    *,
    tta: Tta = "none",
    calibrated: bool = False,
    batch_size: int = 64,
    num_workers: int | None = None,
    progress: bool = False,
    cache: CacheLocation | None = None,
) -> list[Predictions]:
    """Predict photos with several models, each with the preprocessing of its training.

    Every photo is decoded once, even if the models preprocess it differently; photos in the cache are not decoded.

    Args:
        networks: models on one device.
        rows: one row per photo with `path`, and `photo` (its name) if that differs from the path. A column named like a
            task holds its targets, negative or missing where unknown. Other columns are kept as they are.
        tta: test-time augmentation, see `inference.tta`.
        calibrated: apply the temperatures stored beside the checkpoints; preds do not change.
        batch_size: photos per batch.
        num_workers: loader processes; None: see `default_workers`.
        progress: show a progress bar on stderr.
        cache: photo cache of a training run, which is used where it has the photo with the same preprocessing.

    Returns:
        One entry per model.

    Raises:
        PhotoError: photos that cannot be decoded, all of them named; raised after the pass.
        WorkerError: a loader process was killed.
        LabelError: a target that a model's task does not have.
        CheckpointError: temperatures that cannot be read.
    """
    keep_memory()
    networks = [_with_options(network, tta, calibrated=calibrated) for network in networks]
    targets = [known_targets(rows, network.space) for network in networks]
    specs = list(dict.fromkeys(network.spec for network in networks))
    dataset = PredictionDataset(rows["path"].tolist(), specs, tta, cache)
    parts: list[list[dict[str, Tensor]]] = [[] for _ in networks]
    errors: dict[str, str] = {}
    for batch in _batches(dataset, networks, batch_size, num_workers, progress):
        errors |= batch.errors
        if errors:  # the pass will fail: only look for further broken photos
            continue
        images = [
            [normalise(version, spec.mean, spec.std) for version in versions]
            for spec, versions in zip(specs, _to_device(batch, networks[0].module.device), strict=True)
        ]
        for network, part in zip(networks, parts, strict=True):
            part.append(_log_probs(network, images[specs.index(network.spec)], tta))
    raise_if_broken(errors, len(rows))
    return [_to_predictions(*each, rows) for each in zip(networks, parts, targets, strict=True)]


def known_targets(rows: pd.DataFrame, space: LabelSpace) -> dict[str, npt.NDArray[np.int64]]:
    """Read targets from the columns named like tasks.

    Returns:
        Task -> targets (N,), UNLABELLED where unknown.

    Raises:
        LabelError: a target beyond the task's classes.
    """
    targets, _ = no_targets(space, len(rows))
    for task in space.tasks:
        if task.name in rows:
            values = rows[task.name].fillna(UNLABELLED).to_numpy(np.int64)
            if (values >= task.num_classes).any():
                raise LabelError(
                    f"expected targets of {task.name} below {task.num_classes}, found {values.max()}; "
                    "label the photos as the network was trained"
                )
            targets[task.name] = np.where(values < 0, UNLABELLED, values)
    return targets


class PreparedPhoto(NamedTuple):
    """One photo, prepared for every transform; or the error that it cannot be decoded.

    Attributes:
        images: one uint8 tensor (V, 3, S, S) per transform, with V versions for TTA; zeros if there is an error.
        error: (path, message), None for a photo that was decoded.
    """

    images: list[Tensor]
    error: tuple[str, str] | None


class Batch(NamedTuple):
    """A batch of prepared photos.

    Attributes:
        images: one uint8 tensor (B, V, 3, S, S) per transform.
        errors: path -> message of the photos that cannot be decoded.
    """

    images: list[Tensor]
    errors: dict[str, str]


class PredictionDataset(Dataset[PreparedPhoto]):
    """Photos prepared for one or more transforms; a photo that cannot be decoded is reported, not raised.

    Args:
        paths: of the N photos.
        specs: transforms, all different.
        tta: test-time augmentation.
        cache: photo cache to use where it is up to date; None decodes every photo.
    """

    def __init__(
        self, paths: Sequence[str], specs: Sequence[TransformSpec], tta: Tta, cache: CacheLocation | None = None
    ) -> None:
        self.paths, self.specs, self.tta = list(paths), list(specs), tta
        self.pipelines: list[Pipeline] = [eval_pipeline(spec) for spec in specs]
        self.caches = [None if cache is None else _open_cache(cache, spec) for spec in specs]
        stamps = [{} if each is None else each.stamps() for each in self.caches]
        self._cached = [
            any(stamps) and all(_is_current(each, known, path) for each, known in zip(self.caches, stamps, strict=True))
            for path in self.paths
        ]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> PreparedPhoto:
        path = self.paths[row]
        try:
            prepared = self._from_cache(path) if self._cached[row] else self._decode(path)
        except PhotoError as error:
            count = len(tta_weights(self.tta))
            blank = [torch.zeros(count, 3, spec.size, spec.size, dtype=torch.uint8) for spec in self.specs]
            return PreparedPhoto(blank, (path, str(error)))
        images = [torch.stack([to_uint8(each) for each in tta_images(image, self.tta)]) for image in prepared]
        return PreparedPhoto(images, None)

    def _decode(self, path: str) -> list[Image.Image]:
        photo = open_photo(path)
        return [pipeline(photo) for pipeline in self.pipelines]

    def _from_cache(self, path: str) -> list[Image.Image]:
        found = [cache.find(path) for cache in self.caches if cache is not None]
        return [Image.fromarray(pixels) for pixels in found if pixels is not None]


def _open_cache(cache: CacheLocation, spec: TransformSpec) -> PhotoCache | None:
    try:
        return PhotoCache(cache.folder / cache_file_name(cache.root, spec))
    except (OSError, ValueError):
        return None


def _is_current(cache: PhotoCache | None, stamps: dict[str, FileStamp], path: str) -> bool:
    """Return True if the cache holds the photo as its file is now."""
    return cache is not None and cache.holds(path) and stamps[cache_key(path)] == FileStamp.of(path)


def collate_photos(photos: Sequence[PreparedPhoto]) -> Batch:
    """Stack the images of the photos, and collect the errors."""
    images = [torch.stack(same) for same in zip(*(photo.images for photo in photos), strict=True)]
    return Batch(images, dict(photo.error for photo in photos if photo.error is not None))


def _batches(
    dataset: PredictionDataset, networks: Sequence[Trained], batch_size: int, num_workers: int | None, progress: bool
) -> Iterator[Batch]:
    on_gpu = networks[0].module.device.type == "cuda"
    loader: DataLoader[PreparedPhoto] = LeanLoader(
        dataset,
        batch_size=batch_size,
        num_workers=default_workers(on_gpu=on_gpu) if num_workers is None else num_workers,
        pin_memory=on_gpu,
        collate_fn=collate_photos,
    )
    names = ", ".join(networks[0].space.names) if len(networks) == 1 else f"with {len(networks)} networks"
    console = Console(stderr=True)
    with worker_errors_in_one_line():
        yield from track(loader, description=f"predicting {names}", console=console, disable=not progress)


def _to_device(batch: Batch, device: torch.device) -> list[tuple[Tensor, ...]]:
    """Move the batch to the device: for each transform, V tensors of images (B, 3, S, S)."""
    return [images.to(device, non_blocking=True).unbind(dim=1) for images in batch.images]


@torch.inference_mode()
def _log_probs(trained: Trained, versions: Sequence[Tensor], tta: Tta) -> dict[str, Tensor]:
    """Compute task -> log probabilities (B, C), float32; they stay on the device, which fetching would make wait."""
    network = trained.module.network
    outputs = [network.log_probs(network(images)) for images in versions]
    return {task: average_log_probs([each[task] for each in outputs], tta) for task in trained.space.names}


def _with_options(trained: Trained, tta: Tta, *, calibrated: bool) -> Trained:
    """Record TTA and temperatures in the model's source."""
    temperatures = fitting_temperatures(trained.source, tta) if calibrated else {}
    return replace(trained, source=replace(trained.source, tta=tta, temperatures=temperatures))


def _to_predictions(
    trained: Trained, parts: Sequence[dict[str, Tensor]], targets: dict[str, npt.NDArray[np.int64]], rows: pd.DataFrame
) -> Predictions:
    """Join the log probabilities of all batches, and apply the temperatures."""
    space = trained.space
    joined = {task: torch.cat([part[task] for part in parts]).cpu() for task in space.names}
    for task, temperature in trained.source.temperatures.items():
        joined[task] = F.log_softmax(joined[task] / temperature, dim=1)
    log_probs = {task: values.numpy() for task, values in joined.items()}
    _, losses = no_targets(space, len(rows))
    for task, known in ((task, targets[task] != UNLABELLED) for task in space.names):
        losses[task][known] = -log_probs[task][known, targets[task][known]]
    return Predictions(
        space=space,
        photos=_without_targets(rows, space),
        probs={task: np.exp(values) for task, values in log_probs.items()},
        targets=targets,
        losses=losses,
        sources=(trained.source,),
    )


def _without_targets(rows: pd.DataFrame, space: LabelSpace) -> pd.DataFrame:
    photos = rows.drop(columns=[task for task in space.names if task in rows]).reset_index(drop=True)
    return photos if "photo" in photos else photos.assign(photo=photos["path"])
