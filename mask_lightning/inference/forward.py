"""The one pass of a trained network over photos."""

from __future__ import annotations

from collections.abc import Iterator

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
from mask_lightning.data.dataset import FaceDataset
from mask_lightning.data.transforms import eval_pipeline
from mask_lightning.errors import LabelError
from mask_lightning.inference.predictions import Predictions, no_targets
from mask_lightning.inference.trained import Trained
from mask_lightning.labels import UNLABELLED, LabelSpace


def predict(
    trained: Trained,
    rows: pd.DataFrame,
    *,
    batch_size: int = 64,
    num_workers: int | None = None,
    progress: bool = False,
) -> Predictions:
    """Pass the photos of `rows` through the network, preprocessed as in its training.

    Args:
        trained: the network.
        rows: a row per photo with `path`, and `photo` (its name) where that is not the path. A column named like a
            task holds its targets, negative or missing where not known; other columns are kept as they are.
        batch_size: photos at a time.
        num_workers: worker processes that decode, None: what the cores bear.
        progress: whether to show a bar on stderr.

    Raises:
        PhotoError: a photo cannot be decoded.
        LabelError: a target that the network's task does not have.
    """
    space = trained.space
    targets = known_targets(rows, space)
    parts: dict[str, list[Tensor]] = {task: [] for task in space.names}
    for logits in _logits(trained, rows, batch_size, num_workers, progress):
        for task in space.names:
            parts[task].append(F.log_softmax(logits[task].float(), dim=1).cpu())
    log_probs = {task: torch.cat(values).numpy() for task, values in parts.items()}
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


@torch.inference_mode()
def _logits(
    trained: Trained, rows: pd.DataFrame, batch_size: int, num_workers: int | None, progress: bool
) -> Iterator[dict[str, Tensor]]:
    """Task -> logits (B, C) of each batch, in the order of the rows."""
    spec, device = trained.spec, trained.module.device
    loader = DataLoader(
        FaceDataset(rows, (), eval_pipeline(spec)),
        batch_size=batch_size,
        num_workers=default_workers() if num_workers is None else num_workers,
        pin_memory=device.type == "cuda",
    )
    bar = track(
        loader,
        description=f"predicting {', '.join(trained.space.names)}",
        console=Console(stderr=True),
        disable=not progress,
    )
    for batch in bar:
        images = batch["image"].to(device, non_blocking=True)
        yield trained.module(normalise(images, spec.mean, spec.std))
