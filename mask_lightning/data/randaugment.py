"""RandAugment (Cubuk et al. 2020, https://arxiv.org/abs/1909.13719), on one PIL image or on a batch on its device.

Both give a photo the operations that torchvision draws from the same seed, and the same pixels except for rounding:
Color, Contrast and AutoContrast differ by 1 of 255 in some pixels, which a later operation may enlarge.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample
from torchvision.transforms import RandAugment
from torchvision.transforms.v2 import functional as TF

NUM_BINS = 31  # torchvision's scale of magnitudes is 0 to 30

_SPACE: dict[str, tuple[Tensor, bool]] = RandAugment()._augmentation_space(NUM_BINS, (1, 1))
OPERATIONS = tuple(_SPACE)
GEOMETRIC = tuple(OPERATIONS.index(name) for name in ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"))

Operations = npt.NDArray[np.int8]  # the result of `draw_operations`


class CachedRandAugment(RandAugment):  # type: ignore[misc]
    """torchvision's RandAugment with a cached table of magnitudes, which else costs a fifth of the time per photo."""

    def __init__(self, num_ops: int, magnitude: int, num_magnitude_bins: int) -> None:
        super().__init__(num_ops, magnitude, num_magnitude_bins)
        self._tables: dict[tuple[Any, ...], Any] = {}

    def _augmentation_space(self, *key: Any) -> Any:
        if key not in self._tables:
            self._tables[key] = super()._augmentation_space(*key)
        return self._tables[key]


def draw_operations(num_ops: int, flip: float) -> Operations:
    """Draw one photo's operations from torch's global generator, as RandAugment and RandomHorizontalFlip draw them.

    Args:
        num_ops: operations per photo.
        flip: probability of a mirror image.

    Returns:
        (num_ops + 1,): indices in OPERATIONS, negative for a negated magnitude; the last value is 1 for a mirror image,
        else 0.
    """
    drawn = []
    for _ in range(num_ops):
        op = int(torch.randint(len(OPERATIONS), (1,)))
        is_signed = _SPACE[OPERATIONS[op]][1]
        drawn.append(-op if is_signed and torch.randint(2, (1,)) else op)
    return np.array([*drawn, bool(torch.rand(1) < flip)], dtype=np.int8)


def augment_batch(images: Tensor, operations: Operations, *, magnitude: int) -> Tensor:
    """Apply every photo's drawn operations, for all photos with the same operation at once.

    The host never waits for the device, and launches hardly more kernels for 128 photos than for 32.

    Args:
        images: uint8 squares (B, 3, S, S).
        operations: one row of `draw_operations` per photo (B, num_ops + 1).
        magnitude: strength of the operations, 0 to 30.

    Returns:
        uint8 squares (B, 3, S, S) in the same order.

    Example:
        >>> images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
        >>> operations = np.stack([draw_operations(num_ops=3, flip=0.5) for _ in images])
        >>> augment_batch(images, operations, magnitude=6).shape
        torch.Size([4, 3, 32, 32])
    """
    *steps, mirrored = operations.T
    strengths = _strengths(magnitude, images.shape[-1])
    order = np.arange(len(images))  # position -> original row: sorting makes every group of photos a slice
    for step in steps:
        by_group = np.argsort(_groups(step[order]), kind="stable")
        order = order[by_group]
        images = _apply(images[send(by_group, images.device)], step[order], strengths)
    images = images[send(np.argsort(order), images.device)]
    if not mirrored.any():
        return images
    return torch.where(send(mirrored.astype(bool), images.device)[:, None, None, None], images.flip(-1), images)


def _groups(ops: Operations) -> Operations:
    """Return the groups computed at once: all geometric operations together, else one per signed operation."""
    return np.where(np.isin(np.abs(ops), GEOMETRIC), np.int8(GEOMETRIC[0]), ops)


def _apply(images: Tensor, ops: Operations, strengths: dict[int, float]) -> Tensor:
    """Apply one operation (B,) to each photo (B, 3, S, S), which are sorted by group."""
    starts = np.unique(_groups(ops), return_index=True)[1][1:].tolist()
    parts = []
    for part, part_ops in zip(images.tensor_split(starts), np.split(ops, starts), strict=True):
        op = int(part_ops[0])
        if abs(op) in GEOMETRIC:
            parts.append(_warp(part, [_affine(each, strengths[each], part.shape[-1]) for each in part_ops.tolist()]))
        else:
            parts.append(_COLOURS[OPERATIONS[abs(op)]](part, strengths[op]))
    return torch.cat(parts)


@cache
def _strengths(magnitude: int, size: int) -> dict[int, float]:
    """Map each signed index in OPERATIONS to its strength at `magnitude`, for squares of `size` pixels."""
    space = RandAugment()._augmentation_space(NUM_BINS, (size, size))
    tables = [table for table, _ in space.values()]
    strengths = [float(table[magnitude]) if table.ndim else 0.0 for table in tables]
    return {sign * op: sign * strength for op, strength in enumerate(strengths) for sign in (-1, 1)}


def _affine(op: int, strength: float, size: int) -> list[list[float]]:
    """Build the matrix (2, 3) from output to input coordinates (x, y, 1), which run from -1 to 1 across the photo."""
    match OPERATIONS[abs(op)]:
        case "ShearX":
            return [[1, strength, strength], [0, 1, 0]]  # the upper edge stays
        case "ShearY":
            return [[1, 0, 0], [strength, 1, strength]]
        case "TranslateX":
            return [[1, 0, -2 * int(strength) / size], [0, 1, 0]]
        case "TranslateY":
            return [[1, 0, 0], [0, 1, -2 * int(strength) / size]]
        case _:
            cos, sin = math.cos(math.radians(strength)), math.sin(math.radians(strength))
            return [[cos, -sin, 0], [sin, cos, 0]]


def _warp(images: Tensor, matrices: list[list[list[float]]]) -> Tensor:
    """Warp each photo (B, 3, S, S) by its own matrix (B, 2, 3), black outside; torchvision takes one for all."""
    theta = send(np.array(matrices, dtype=np.float32), images.device)
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images.float(), grid, mode="nearest", align_corners=False).to(images.dtype)


def _sharpen(images: Tensor, factor: float) -> Tensor:
    """Compute torchvision's `adjust_sharpness` without copying a filter to the device, which would block the host."""
    values = images.float()
    inner = values[..., 1:-1, 1:-1]
    smooth = ((9 * avg_pool2d(values, 3, stride=1) + 4 * inner) / 13).round_()  # weight 5 in the middle, 1 around it
    inner.add_(smooth.sub_(inner), alpha=1 - factor)
    return values.clamp_(0, 255).to(images.dtype)


_COLOURS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "Identity": lambda images, _: images,
    "Brightness": lambda images, strength: TF.adjust_brightness(images, 1 + strength),
    "Color": lambda images, strength: TF.adjust_saturation(images, 1 + strength),
    "Contrast": lambda images, strength: TF.adjust_contrast(images, 1 + strength),
    "Sharpness": lambda images, strength: _sharpen(images, 1 + strength),
    "Posterize": lambda images, strength: TF.posterize(images, int(strength)),
    "Solarize": lambda images, strength: TF.solarize(images, strength),
    "AutoContrast": lambda images, _: TF.autocontrast(images),
    "Equalize": lambda images, _: TF.equalize(images),
}


def send(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Copy an array to the device without waiting for the work queued there."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
