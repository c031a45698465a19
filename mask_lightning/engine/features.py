"""Features of photos by a network's backbones, in one pass."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track

from mask_lightning.data.batching import normalise
from mask_lightning.data.samples import Sample
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.models.fusion import fused_sharing
from mask_lightning.models.sharing import Sharing

Features = dict[str, npt.NDArray[np.float32]]
"""Task -> features (N, F); tasks that share a backbone share the array."""


def compute_features(
    sharing: Sharing,
    batches: Iterable[Sample],
    spec: TransformSpec,
    device: torch.device,
    *,
    mirrored: bool = False,
    progress: bool = False,
) -> Features:
    """Compute the features of photos in eval mode, without gradients.

    Args:
        sharing: backbones of the tasks; left unchanged.
        batches: batches of uint8 images.
        spec: normalisation and size of the photos.
        device: where to compute.
        mirrored: compute the features of each photo's mirror image instead.
        progress: show a progress bar on stderr.
    """
    network = fused_sharing(sharing, spec.size).to(device)
    parts: dict[str, list[npt.NDArray[np.float32]]] = {}
    same: dict[str, str] = {}  # task -> the first task with the same features
    shown = Console(stderr=True)
    with torch.inference_mode():
        for batch in track(batches, "features", console=shown, disable=not progress, transient=True):
            images = normalise(batch["image"].to(device), spec.mean, spec.std)
            found = network(images.flip(-1) if mirrored else images)
            first = {id(values): task for task, values in reversed(found.items())}
            same = {task: first[id(values)] for task, values in found.items()}
            for task in dict.fromkeys(same.values()):
                parts.setdefault(task, []).append(found[task].float().cpu().numpy())
    joined = {task: np.concatenate(values) for task, values in parts.items()}
    return {task: joined[owner] for task, owner in same.items()}
