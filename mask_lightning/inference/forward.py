"""The one pass of trained networks over photos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

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
from mask_lightning.data.loading import LeanLoader, worker_errors_in_one_line
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.errors import LabelError
from mask_lightning.inference.predictions import Predictions, no_targets
from mask_lightning.inference.temperatures import fitting_temperatures
from mask_lightning.inference.trained import Trained
from mask_lightning.inference.views import Tta, ViewDataset, average_views
from mask_lightning.labels import UNLABELLED, LabelSpace
from mask_lightning.utils.system import keep_memory


def predict(
    trained: Trained,
    rows: pd.DataFrame,
    *,
    tta: Tta = "none",
    calibrated: bool = False,
    batch_size: int = 64,
    num_workers: int | None = None,
    progress: bool = False,
) -> Predictions:
    """Pass the photos of `rows` through one network: `predict_many` of one."""
    return predict_many(
        [trained],
        rows,
        tta=tta,
        calibrated=calibrated,
        batch_size=batch_size,
        num_workers=num_workers,
        progress=progress,
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
) -> list[Predictions]:
    """Pass the photos of `rows` through the networks, preprocessed as in the training of each.

    A photo is decoded once for all networks of one TransformSpec.

    Args:
        networks: on one device.
        rows: a row per photo with `path`, and `photo` (its name) where that is not the path. A column named like a
            task holds its targets, negative or missing where not known; other columns are kept as they are.
        tta: which views of each photo are averaged, see `inference.views`.
        calibrated: whether to apply the temperatures that lie beside a checkpoint; they change no answer.
        batch_size: photos at a time.
        num_workers: worker processes that decode, None: what the cores bear.
        progress: whether to show a bar on stderr.

    Raises:
        PhotoError: a photo cannot be decoded.
        WorkerError: a process that decodes was killed.
        LabelError: a target that a network's task does not have.
        CheckpointError: temperatures that cannot be read.
    """
    keep_memory()
    networks = [_asked(network, tta, calibrated=calibrated) for network in networks]
    targets = [known_targets(rows, network.space) for network in networks]
    parts: list[list[dict[str, Tensor]]] = [[] for _ in networks]
    for spec in dict.fromkeys(network.spec for network in networks):
        alike = [i for i, network in enumerate(networks) if network.spec == spec]
        loader = _loader(rows, spec, tta, batch_size, num_workers)
        for views in _views(loader, spec, [networks[i] for i in alike], progress):
            for i in alike:
                parts[i].append(_log_probs(networks[i], views, tta))
    return [_said(*each, rows) for each in zip(networks, parts, targets, strict=True)]


def _asked(trained: Trained, tta: Tta, *, calibrated: bool) -> Trained:
    """The network with a source that tells how it is asked."""
    temperatures = fitting_temperatures(trained.source, tta) if calibrated else {}
    return replace(trained, source=replace(trained.source, tta=tta, temperatures=temperatures))


def _said(
    trained: Trained, parts: Sequence[dict[str, Tensor]], targets: dict[str, npt.NDArray[np.int64]], rows: pd.DataFrame
) -> Predictions:
    """The log probabilities of every batch -> Predictions for all rows."""
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
        photos=_described(rows, space),
        probs={task: np.exp(values) for task, values in log_probs.items()},
        targets=targets,
        losses=losses,
        sources=(trained.source,),
    )


def known_targets(rows: pd.DataFrame, space: LabelSpace) -> dict[str, npt.NDArray[np.int64]]:
    """Task -> targets (N,) from the columns named like tasks, UNLABELLED where there are none.

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


def _described(rows: pd.DataFrame, space: LabelSpace) -> pd.DataFrame:
    """The rows without their targets."""
    photos = rows.drop(columns=[task for task in space.names if task in rows]).reset_index(drop=True)
    return photos if "photo" in photos else photos.assign(photo=photos["path"])


def _loader(
    rows: pd.DataFrame, spec: TransformSpec, tta: Tta, batch_size: int, num_workers: int | None
) -> DataLoader[Tensor]:
    return LeanLoader(
        ViewDataset(rows["path"].tolist(), spec, tta),
        batch_size=batch_size,
        num_workers=default_workers() if num_workers is None else num_workers,
        pin_memory=torch.cuda.is_available(),
    )


def _views(
    loader: DataLoader[Tensor], spec: TransformSpec, networks: Sequence[Trained], progress: bool
) -> Iterator[list[Tensor]]:
    """Of each batch its views: normalised images (B, 3, H, W) on the networks' device, in the order of the rows."""
    first = networks[0]
    whose = ", ".join(first.space.names) if len(networks) == 1 else f"with {len(networks)} networks"
    console = Console(stderr=True)
    with worker_errors_in_one_line():
        for batch in track(loader, description=f"predicting {whose}", console=console, disable=not progress):
            views = batch.to(first.module.device, non_blocking=True).unbind(dim=1)
            yield [normalise(images, spec.mean, spec.std) for images in views]


@torch.inference_mode()
def _log_probs(trained: Trained, views: Sequence[Tensor], tta: Tta) -> dict[str, Tensor]:
    """Task -> log probabilities (B, C), float32, still on the device: fetching them would make it wait."""
    network = trained.module.network
    answers = [network.log_probs(network(images)) for images in views]
    return {task: average_views([answer[task] for answer in answers], tta) for task in trained.space.names}
