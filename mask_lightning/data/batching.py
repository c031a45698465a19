"""What happens to a whole batch, on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 images (B, 3, H, W) -> float32 in channels_last, `(x / 255 - mean) / std` per channel."""
    shape = (1, -1, 1, 1)
    scale = torch.tensor([255.0 * s for s in std], device=images.device).view(shape)
    shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=images.device).view(shape)
    return (images.to(torch.float32, memory_format=torch.channels_last) / scale).sub_(shift)


def denormalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The inverse of `normalise`, as float in 0..1: for pictures of what the network sees."""
    shape = (1, -1, 1, 1)
    means, stds = (torch.tensor(list(values), device=images.device).view(shape) for values in (mean, std))
    return (images * stds + means).clamp(0, 1)
