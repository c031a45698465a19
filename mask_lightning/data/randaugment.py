"""RandAugment (Cubuk et al. 2020) with torchvision's draws: on one PIL image, or on a whole batch where that is.

Either way a photo gets the operations that torchvision draws from the same seed, and the same pixels but for rounding:
Color, Contrast and AutoContrast differ by 1 of 255 here and there, which a later operation may enlarge.
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

NUM_BINS = 31  # torchvision's scale of magnitudes: 6 means 6 of 30

_SPACE: dict[str, tuple[Tensor, bool]] = RandAugment()._augmentation_space(NUM_BINS, (1, 1))
OPERATIONS = tuple(_SPACE)
GEOMETRIC = tuple(OPERATIONS.index(name) for name in ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"))

Changes = npt.NDArray[np.int8]  # see `draw_changes`


class TabledRandAugment(RandAugment):  # type: ignore[misc]
    """torchvision's, except that it keeps its table of magnitudes: making it anew is a fifth of the work on a photo."""

    def __init__(self, num_ops: int, magnitude: int, num_magnitude_bins: int) -> None:
        super().__init__(num_ops, magnitude, num_magnitude_bins)
        self._tables: dict[tuple[Any, ...], Any] = {}

    def _augmentation_space(self, *key: Any) -> Any:
        if key not in self._tables:
            self._tables[key] = super()._augmentation_space(*key)
        return self._tables[key]


def draw_changes(num_ops: int, flip: float) -> Changes:
    """What torchvision's RandAugment and then RandomHorizontalFlip draw from torch's global generator.

    Returns:
        (num_ops + 1,): places in OPERATIONS, negative where the magnitude is negated; last 1 for a mirror image or 0.
    """
    drawn = []
    for _ in range(num_ops):
        place = int(torch.randint(len(OPERATIONS), (1,)))
        is_signed = _SPACE[OPERATIONS[place]][1]
        drawn.append(-place if is_signed and torch.randint(2, (1,)) else place)
    return np.array([*drawn, bool(torch.rand(1) < flip)], dtype=np.int8)


def change_batch(images: Tensor, changes: Changes, *, magnitude: int) -> Tensor:
    """Change photos as was drawn for each, all photos that get the same operation at once.

    The host never waits for the device, and launches hardly more kernels for 128 photos than for 32.

    Args:
        images: uint8 squares (B, 3, S, S).
        changes: what `draw_changes` drew for each photo (B, num_ops + 1).
        magnitude: strength of the operations, 0..30.
    """
    *steps, mirrored = changes.T
    strengths = _strengths(magnitude, images.shape[-1])
    order = np.arange(len(images))  # which photo lies where: each group of photos is a slice
    for step in steps:
        by_kind = np.argsort(_kinds(step[order]), kind="stable")
        order = order[by_kind]
        images = _change(images[_send(by_kind, images.device)], step[order], strengths)
    images = images[_send(np.argsort(order), images.device)]
    if not mirrored.any():
        return images
    return torch.where(_send(mirrored.astype(bool), images.device)[:, None, None, None], images.flip(-1), images)


def _kinds(ops: Changes) -> Changes:
    """One number for all that move pixels, which can be done at once; else each operation and sign is a kind."""
    return np.where(np.isin(np.abs(ops), GEOMETRIC), np.int8(GEOMETRIC[0]), ops)


def _change(images: Tensor, ops: Changes, strengths: dict[int, float]) -> Tensor:
    """One operation on each photo (B, 3, S, S) -> the same shape; photos of one kind lie together."""
    starts = np.unique(_kinds(ops), return_index=True)[1][1:].tolist()
    changed = []
    for some, which in zip(images.tensor_split(starts), np.split(ops, starts), strict=True):
        op = int(which[0])
        if abs(op) in GEOMETRIC:
            changed.append(_move(some, [_source(each, strengths[each], some.shape[-1]) for each in which.tolist()]))
        else:
            changed.append(_COLOURS[OPERATIONS[abs(op)]](some, strengths[op]))
    return torch.cat(changed)


@cache
def _strengths(magnitude: int, size: int) -> dict[int, float]:
    """Place of an operation, negative where it is negated -> its strength at `magnitude`, for squares of `size`."""
    space = RandAugment()._augmentation_space(NUM_BINS, (size, size))
    tables = [table for table, _ in space.values()]
    strengths = [float(table[magnitude]) if table.ndim else 0.0 for table in tables]
    return {sign * place: sign * strength for place, strength in enumerate(strengths) for sign in (-1, 1)}


def _source(op: int, strength: float, size: int) -> list[list[float]]:
    """Where each pixel comes from, as (2, 3): x and y from (x, y, 1), all of which go from -1 to 1 across the photo."""
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


def _move(images: Tensor, sources: list[list[list[float]]]) -> Tensor:
    """Photos (B, 3, S, S) whose pixels come from their own sources (B, 2, 3); black where that is outside.

    torchvision's functions take one source for all.
    """
    theta = _send(np.array(sources, dtype=np.float32), images.device)
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images.float(), grid, mode="nearest", align_corners=False).to(images.dtype)


def _sharpen(images: Tensor, factor: float) -> Tensor:
    """torchvision's `adjust_sharpness`, which makes the host wait for the device: it sends a filter each time."""
    values = images.float()
    inner = values[..., 1:-1, 1:-1]
    smooth = ((9 * avg_pool2d(values, 3, stride=1) + 4 * inner) / 13).round_()  # the middle counts 5, its neighbours 1
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


def _send(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    """To the device, without waiting for what it still has to do."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
