"""Heat maps of the image regions that raised a class score, per task.

Grad-CAM (Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391) by the library torchcam.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isqrt
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn
from torchcam.methods import GradCAM

from mask_lightning.data.batching import normalise
from mask_lightning.data.dataset import FaceDataset
from mask_lightning.data.transforms import eval_pipeline
from mask_lightning.errors import ConfigError
from mask_lightning.inference.trained import Trained
from mask_lightning.models.network import MultiTaskNetwork
from mask_lightning.models.sharing import MapSource, Sharing

Maps = npt.NDArray[np.float32]

BATCH = 16  # photos per batch


class FeatureMap(NamedTuple):
    """Last layer with spatial output, and a function that turns this output into (B, C, h, w)."""

    layer: nn.Module
    to_grid: Callable[[Tensor], Tensor]


def heat_maps(trained: Trained, rows: pd.DataFrame, classes: Mapping[str, npt.NDArray[np.int64]]) -> dict[str, Maps]:
    """Compute coarse heat maps over the model's input image.

    Args:
        trained: the model.
        rows: one row per photo with `path`.
        classes: task -> class index to explain (N,).

    Returns:
        Task -> maps (N, h, w) in 0..1; 1 is the region that raised the score most, and a map without any is all 0.

    Raises:
        ConfigError: the backbone has no spatial features.
        PhotoError: a photo cannot be decoded.
    """
    photos = FaceDataset(rows, (), eval_pipeline(trained.spec))
    layers = find_feature_maps(trained.module.network.sharing, list(classes), trained.spec.size)
    parts: dict[str, list[Tensor]] = {task: [] for task in classes}
    for start in range(0, len(photos), BATCH):
        chosen = range(start, min(start + BATCH, len(photos)))
        images = torch.stack([photos[i]["image"] for i in chosen]).to(trained.module.device)
        images = normalise(images, trained.spec.mean, trained.spec.std)
        for found, tasks in layers:
            batch = {task: classes[task][start : chosen.stop] for task in tasks}
            for task, maps in grad_cam(trained.module.network, found, images, batch).items():
                parts[task].append(maps.cpu())
    return {task: torch.cat(maps).numpy() for task, maps in parts.items()}


def grad_cam(
    network: MultiTaskNetwork, found: FeatureMap, images: Tensor, classes: Mapping[str, npt.NDArray[np.int64]]
) -> dict[str, Tensor]:
    """Compute Grad-CAM of one layer.

    Args:
        network: in eval mode.
        found: the layer.
        images: normalised (B, 3, H, W).
        classes: task -> class index to explain (B,).

    Returns:
        Task -> maps (B, h, w) in 0..1.
    """
    # Gradients start at this layer: the layers below need not store activations.
    hook = found.layer.register_forward_hook(lambda *call: call[-1].detach().requires_grad_())
    try:
        with torch.enable_grad(), GradCAM(network, found.layer, reshape_transform=found.to_grid) as extractor:
            outputs = network(images)
            maps = {}
            for task, chosen in classes.items():
                scores = network.head(task).scores(outputs[task])
                maps[task] = extractor(chosen.tolist(), scores, normalized=False, retain_graph=True)[0]
    finally:
        hook.remove()
    return {task: _to_unit(each.detach()) for task, each in maps.items()}


def find_feature_maps(sharing: Sharing, tasks: Sequence[str], size: int) -> list[tuple[FeatureMap, list[str]]]:
    """Find the layers to explain.

    Returns:
        Each layer with its tasks: tasks with common features share one layer.

    Raises:
        ConfigError: a backbone has no spatial features.
    """
    explained: dict[MapSource, list[str]] = {}
    for task in tasks:
        explained.setdefault(sharing.map_source(task), []).append(task)
    return [(_feature_map(source, size), its_tasks) for source, its_tasks in explained.items()]


def _feature_map(source: MapSource, size: int) -> FeatureMap:
    if source.channel_dim is None:
        return find_feature_map(source.module, size)
    channel_dim = source.channel_dim
    return FeatureMap(source.module, lambda maps: maps.movedim(channel_dim, 1))


def find_feature_map(backbone: nn.Module, size: int) -> FeatureMap:
    """Find the layer to explain: a CNN's last feature map, or the tokens that enter a transformer's last block.

    After that block only the class token matters, so the other tokens would have no gradient.

    Raises:
        ConfigError: the backbone has no spatial features.
    """
    blocks, prefix = getattr(backbone, "blocks", None), getattr(backbone, "num_prefix_tokens", 0)
    last = blocks[-1] if isinstance(blocks, (nn.Sequential, nn.ModuleList)) and len(blocks) else None
    norm = getattr(last, "norm1", None)
    if isinstance(norm, nn.Module):
        return FeatureMap(norm, lambda tokens: tokens_to_grid(tokens, prefix))
    channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
    height = 1 if channels_last else 2
    maps = [layer for layer, shape in _output_shapes(backbone, size) if len(shape) == 4 and shape[height] > 1]
    if not maps:
        raise ConfigError(
            f"expected a backbone with spatial features, found {type(backbone).__name__}; "
            "heat maps need a CNN or a transformer of patches"
        )
    return FeatureMap(maps[-1], (lambda x: x.permute(0, 3, 1, 2)) if channels_last else (lambda x: x))


def tokens_to_grid(tokens: Tensor, prefix: int) -> Tensor:
    """Arrange the tokens of a square image in a grid.

    Args:
        tokens: (B, prefix + h * h, C).
        prefix: number of class and register tokens, which are dropped.

    Returns:
        (B, C, h, h).

    Raises:
        ConfigError: the number of tokens is not a square.
    """
    count = tokens.shape[1]
    first = prefix if _is_square(count - prefix) else 0  # some backbones, such as xcit, add their class token later
    if not _is_square(count - first):
        raise ConfigError(f"expected tokens of a square grid, found {count}; heat maps need square patches")
    side = isqrt(count - first)
    return tokens[:, first:].transpose(1, 2).reshape(len(tokens), -1, side, side)


def _is_square(count: int) -> bool:
    return isqrt(count) ** 2 == count


@torch.no_grad()
def _output_shapes(backbone: nn.Module, size: int) -> list[tuple[nn.Module, tuple[int, ...]]]:
    """Run one image through the backbone; return its layers with their output shapes, in the order of execution."""
    shapes: list[tuple[nn.Module, tuple[int, ...]]] = []

    def note(layer: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            shapes.append((layer, tuple(output.shape)))

    hooks = [layer.register_forward_hook(note) for layer in backbone.modules() if layer is not backbone]
    try:
        device = next(backbone.parameters()).device
        backbone(torch.zeros(1, 3, size, size, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def _to_unit(maps: Tensor) -> Tensor:
    """Scale non-negative maps (B, h, w) so that the largest value of each is 1."""
    largest = maps.amax(dim=(1, 2), keepdim=True)
    return maps / torch.where(largest > 0, largest, 1)
