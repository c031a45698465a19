"""Predict photos with one or more trained models, in one pass that decodes every photo once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from mask_lightning.data.batching import normalise
from mask_lightning.data.datamodule import default_workers
from mask_lightning.data.images import raise_if_broken
from mask_lightning.data.loading import LeanLoader, worker_errors_in_one_line
from mask_lightning.data.prepared import PhotoSize, SizeTally
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.errors import LabelError
from mask_lightning.inference.dataset import Batch, PhotoPlace, PredictionDataset, PreparedPhoto, collate_photos
from mask_lightning.inference.exported import ExportedModel, Model, effective_tta
from mask_lightning.inference.temperatures import fitting_temperatures
from mask_lightning.inference.tta import average_log_probs
from mask_lightning.labels import UNLABELLED, LabelSpace
from mask_lightning.metrics.predictions import Predictions, join_rows, no_targets
from mask_lightning.settings.inference import Tta
from mask_lightning.utils.system import keep_memory, map_in_order, share_of_cores

log = logging.getLogger(__name__)

CHUNK_ROWS = 2**14  # photos whose predictions stay on the device before they are fetched
MAX_THREADS = 8  # that decode and compute side by side
PART = 16  # photos that such a thread decodes and computes at once


def predict(
    trained: Model,
    rows: pd.DataFrame,
    *,
    tta: Tta = "none",
    calibrated: bool = False,
    batch_size: int = 64,
    num_workers: int | None = None,
    progress: bool = False,
    cache: PhotoPlace | None = None,
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
    networks: Sequence[Model],
    rows: pd.DataFrame,
    *,
    tta: Tta = "none",
    calibrated: bool = False,
    batch_size: int = 64,
    num_workers: int | None = None,
    progress: bool = False,
    cache: PhotoPlace | None = None,
) -> list[Predictions]:
    """Predict photos with several models, each with the preprocessing of its training.

    Every photo is decoded once, even if the models preprocess it differently; photos in the cache are not decoded.

    Args:
        networks: models; those of checkpoints on one device.
        rows: one row per photo with `path`, and `photo` (its name) if that differs from the path. A column named like a
            task holds its targets, negative or missing where unknown. Other columns are kept as they are.
        tta: test-time augmentation, see `inference.tta`.
        calibrated: apply the temperatures stored beside the checkpoints; preds do not change.
        batch_size: photos per batch.
        num_workers: loader processes; None: threads that decode and compute side by side, if the models are exported
            ones for onnxruntime or OpenVINO, else see `default_workers`.
        progress: show a progress bar on stderr.
        cache: photo cache of a training run, which is used where it has the photo with the same preprocessing; or
            packed photos, which must have all.

    Returns:
        One entry per model.

    Raises:
        PhotoError: photos that cannot be decoded, all of them named; raised after the pass.
        WorkerError: a loader process was killed.
        LabelError: a target that a model's task does not have.
        CheckpointError: temperatures that cannot be read.
    """
    chunks = list(
        predict_chunks(
            [with_options(network, tta, calibrated=calibrated) for network in networks],
            rows,
            tta=tta,
            batch_size=batch_size,
            num_workers=num_workers,
            progress=progress,
            cache=cache,
        )
    )
    return [join_rows(parts) for parts in zip(*chunks, strict=True)]


def predict_chunks(
    networks: Sequence[Model],
    rows: pd.DataFrame,
    *,
    tta: Tta = "none",
    batch_size: int = 64,
    num_workers: int | None = None,
    progress: bool = False,
    cache: PhotoPlace | None = None,
) -> Iterator[list[Predictions]]:
    """Predict photos as `predict_many`, and yield the predictions of about CHUNK_ROWS photos at a time.

    Args:
        networks: models of `with_options`.
        rows: one row per photo, see `predict_many`.
        tta: test-time augmentation.
        batch_size: photos per batch.
        num_workers: loader processes.
        progress: show a progress bar.
        cache: photo cache of a training run.

    Yields:
        One entry per model for the next photos, in order. After a photo that cannot be decoded nothing more is yielded.

    Raises:
        PhotoError, WorkerError, LabelError, CheckpointError: as `predict_many`.
    """
    keep_memory()
    for network in networks:
        known_targets(rows, network.space)  # raise before the pass
    specs = list(dict.fromkeys(network.spec for network in networks))
    dataset = PredictionDataset(rows["path"].array, specs, tta, cache)
    parts: list[list[dict[str, Tensor]]] = [[] for _ in networks]
    errors: dict[str, str] = {}
    tally = SizeTally()
    done = waiting = 0
    for scored in _score_batches(dataset, networks, batch_size, num_workers, progress):
        errors |= scored.errors
        for path, size in scored.sizes:
            tally.add(path, size)
        if errors or not scored.log_probs:
            continue
        for part, log_probs in zip(parts, scored.log_probs, strict=True):
            part.append(log_probs)
        waiting += len(next(iter(scored.log_probs[0].values())))
        if waiting >= CHUNK_ROWS or done + waiting == len(rows):
            chunk = rows.iloc[done : done + waiting]
            yield [_to_predictions(network, part, chunk) for network, part in zip(networks, parts, strict=True)]
            parts, done, waiting = [[] for _ in networks], done + waiting, 0
    raise_if_broken(errors, len(rows))
    for line in tally.notes({network.spec.crop: network.sizes for network in networks}):
        log.warning("%s", line)


def predict_prepared(
    networks: Sequence[Model], images: Sequence[Tensor], rows: pd.DataFrame, *, tta: Tta = "none"
) -> list[Predictions]:
    """Predict images that are prepared already.

    Args:
        networks: models of `with_options`.
        images: one uint8 tensor (B, V, 3, S, S) per transform of the networks, in the order in which they first have
            it, with V versions for TTA, see `inference.tta.tta_images`.
        rows: one row per image, see `predict_many`.
        tta: test-time augmentation.

    Returns:
        One entry per model.
    """
    specs = list(dict.fromkeys(network.spec for network in networks))
    found = _score(images, specs, networks, tta)
    return [_to_predictions(each, [log_probs], rows) for each, log_probs in zip(networks, found, strict=True)]


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


class _Scored(NamedTuple):
    """Predictions of a batch.

    Attributes:
        errors, sizes: as of the `Batch`.
        log_probs: one entry per network, see `_log_probs`; empty once a photo cannot be decoded, because the pass then
            fails and only looks for further broken photos.
    """

    errors: dict[str, str]
    sizes: list[tuple[str, PhotoSize]]
    log_probs: list[dict[str, Tensor]]


def _score_batches(
    dataset: PredictionDataset, networks: Sequence[Model], batch_size: int, num_workers: int | None, progress: bool
) -> Iterator[_Scored]:
    """Decode and predict all batches, in order."""
    broken = threading.Event()

    def score(batch: Batch, networks: Sequence[Model]) -> _Scored:
        if batch.errors:
            broken.set()
        log_probs = [] if broken.is_set() else _score(batch.images, dataset.specs, networks, dataset.tta)
        return _Scored(batch.errors, batch.sizes, log_probs)

    threads = min(share_of_cores(), MAX_THREADS)
    copies = _side_by_side(networks, threads) if num_workers is None and dataset.is_thread_safe else None
    scored: Iterator[_Scored]
    if copies is not None:
        parts = _part_batches(len(dataset), batch_size)
        total = len(parts)
        scored = map_in_order(
            lambda rows: score(collate_photos([dataset[row] for row in rows]), copies), parts, threads
        )
    else:
        on_gpu = networks[0].device.type == "cuda"
        loader: DataLoader[PreparedPhoto] = LeanLoader(
            dataset,
            batch_size=batch_size,
            num_workers=default_workers(on_gpu=on_gpu) if num_workers is None else num_workers,
            pin_memory=on_gpu,
            collate_fn=collate_photos,
        )
        total = len(loader)
        scored = (score(batch, networks) for batch in loader)
    names = ", ".join(networks[0].space.names) if len(networks) == 1 else f"with {len(networks)} networks"
    console = Console(stderr=True)
    with worker_errors_in_one_line():
        yield from track(scored, f"predicting {names}", total=total, console=console, disable=not progress)


def _part_batches(photos: int, batch_size: int) -> list[range]:
    """Divide batches into parts of at most PART photos, so that threads finish together.

    Example:
        >>> _part_batches(50, 24)
        [range(0, 16), range(16, 24), range(24, 40), range(40, 48), range(48, 50)]
    """
    batches = [range(start, min(start + batch_size, photos)) for start in range(0, photos, batch_size)]
    return [rows[start : start + PART] for rows in batches for start in range(0, len(rows), PART)]


def _side_by_side(networks: Sequence[Model], calls: int) -> list[Model] | None:
    """Return the models for threads that call them at once; None if there is one thread, or a model cannot."""
    if calls == 1:
        return None
    copies: list[Model] = []
    for network in networks:
        copy = network.side_by_side(calls) if isinstance(network, ExportedModel) else None
        if copy is None:
            return None
        copies.append(copy)
    return copies


def _score(
    images: Sequence[Tensor], specs: Sequence[TransformSpec], networks: Sequence[Model], tta: Tta
) -> list[dict[str, Tensor]]:
    """Compute the log probabilities of each network for one tensor of images (B, V, 3, S, S) per transform."""
    device = networks[0].device
    versions = [each.to(device, non_blocking=True).unbind(dim=1) for each in images]
    inputs = {spec: _Inputs(spec, each) for spec, each in zip(specs, versions, strict=True)}
    return [_log_probs(network, inputs[network.spec], tta) for network in networks]


@dataclass(frozen=True)
class _Inputs:
    """Versions of a batch for one transform: `pixels`, uint8 (B, 3, S, S), and the same normalised."""

    spec: TransformSpec
    pixels: Sequence[Tensor]

    @cached_property
    def normalised(self) -> list[Tensor]:
        """Normalised once for all networks of the transform."""
        return [normalise(version, self.spec.mean, self.spec.std) for version in self.pixels]


@torch.inference_mode()
def _log_probs(model: Model, inputs: _Inputs, tta: Tta) -> dict[str, Tensor]:
    """Compute task -> log probabilities (B, C), float32; they stay on the device, which fetching would make wait."""
    versions = inputs.pixels if isinstance(model, ExportedModel) else inputs.normalised
    outputs = [model.log_probs(images) for images in versions]
    return {task: average_log_probs([each[task] for each in outputs], tta) for task in model.space.names}


def with_options(model: Model, tta: Tta, *, calibrated: bool) -> Model:
    """Record TTA and temperatures in the model's source. Raises ConfigError if an exported model contains TTA, too."""
    averaged = effective_tta(model, tta)
    temperatures = fitting_temperatures(model.source, averaged) if calibrated else {}
    return replace(model, source=replace(model.source, tta=averaged, temperatures=temperatures))


def _to_predictions(trained: Model, parts: Sequence[dict[str, Tensor]], rows: pd.DataFrame) -> Predictions:
    """Join the log probabilities of several batches, and apply the temperatures."""
    space, targets = trained.space, known_targets(rows, trained.space)
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
