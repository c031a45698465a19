"""Computations on a whole batch on its device: normalising, resizing, and mixing photos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from mask_lightning.data.randaugment import send
from mask_lightning.data.samples import Mix, Sample
from mask_lightning.settings.augment import MixSettings


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Compute `(x / 255 - mean) / std` per channel, in channels_last.

    Args:
        images: uint8 (B, 3, H, W).
        mean: per channel, for values in 0..1.
        std: per channel, for values in 0..1.

    Returns:
        float32 (B, 3, H, W).

    Example:
        >>> normalise(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8), (0.5,) * 3, (0.5,) * 3)[0, :, 0, 0]
        tensor([1., 1., 1.])
    """
    count, channels, height, width = images.shape
    # One row of pixels at a time: a CPU does not vectorise over the three values of one pixel.
    rows = images.permute(0, 2, 3, 1).reshape(count, height, width * channels)
    scale, shift = _scale_and_shift(tuple(mean), tuple(std), width, images.device)
    normalised = (rows.to(torch.float32) / scale).sub_(shift)
    return normalised.view(count, height, width, channels).permute(0, 3, 1, 2)


@lru_cache(maxsize=64)
def _scale_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Build divisor and subtrahend for a row of pixels (width * C,), once: each copy would wait for the device."""
    with torch.inference_mode(False):  # training uses the tensors, too
        scale = torch.tensor([255.0 * s for s in std], device=device).repeat(width)
        shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=device).repeat(width)
    return scale, shift


def resize(images: Tensor, size: int) -> Tensor:
    """Resize a batch to (B, 3, size, size) with antialiasing; dtype and memory format stay.

    Args:
        images: float or uint8 (B, 3, H, W).
        size: side in pixels.
    """
    resized: Tensor = TF.resize(images, [size, size], antialias=True)
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    return resized.contiguous(memory_format=torch.channels_last) if channels_last else resized


def mixup(images: Tensor, partner: Tensor, share: float) -> Tensor:
    """Blend each image with its partner (Zhang et al. 2018, "mixup", https://arxiv.org/abs/1710.09412).

    Args:
        images: float (B, 3, H, W).
        partner: a permutation of the batch (B,).
        share: weight of the image itself, in 0..1.

    Example:
        >>> images = torch.arange(2.0).view(2, 1, 1, 1)
        >>> mixup(images, torch.tensor([1, 0]), share=0.75).flatten()
        tensor([0.2500, 0.7500])
    """
    return torch.lerp(images[partner], images, share)


class Box(NamedTuple):
    """A rectangle in pixels; bottom and right are exclusive."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> int:
        """Area in pixels."""
        return (self.bottom - self.top) * (self.right - self.left)


def cut_box(height: int, width: int, *, share: float, centre: tuple[int, int]) -> Box:
    """Compute CutMix's box (Yun et al. 2019, "CutMix", section 3.1, https://arxiv.org/abs/1905.04899).

    The box has the image's aspect ratio and about `1 - share` of its area. It is clipped at the border, so at least
    `share` of the image stays, up to rounding.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        share: in 0..1.
        centre: (y, x) in pixels.

    Example:
        >>> cut_box(100, 100, share=0.75, centre=(50, 50))
        Box(top=25, bottom=75, left=25, right=75)
    """
    half = 0.5 * math.sqrt(1 - share)
    (y, x), down, across = centre, int(half * height), int(half * width)
    return Box(max(y - down, 0), min(y + down, height), max(x - across, 0), min(x + across, width))


def cutmix(images: Tensor, partner: Tensor, box: Box) -> Tensor:
    """Replace the pixels in `box` by those of each image's partner.

    Args:
        images: (B, 3, H, W), not changed.
        partner: a permutation of the batch (B,).
        box: the same for all images.
    """
    mixed = images.clone()
    mixed[..., box.top : box.bottom, box.left : box.right] = images[
        partner, :, box.top : box.bottom, box.left : box.right
    ]
    return mixed


def half_cutmix(images: Tensor, partner: Tensor, keeps_left: Tensor) -> Tensor:
    """Put the left half of one face beside the right half of another.

    Args:
        images: (B, 3, H, W); for an odd width the middle column belongs to the right half.
        partner: a permutation of the batch (B,).
        keeps_left: bool (B,), True for an image that keeps its left half, False for its right half.
    """
    is_left = torch.arange(images.shape[-1], device=images.device) < images.shape[-1] // 2
    keeps = is_left == keeps_left[:, None, None, None]
    return torch.where(keeps, images, images[partner])


def mix_batch(batch: Sample, mix: MixSettings, rng: np.random.Generator) -> Sample:
    """Mix the photos of a batch and record how under the key `mix`; with probability `1 - mix.probability` do nothing.

    Args:
        batch: float images (B, 3, H, W); targets stay as they are.
        mix: the method and its options.
        rng: source of every random number. A photo is rarely its own partner.
    """
    if mix.name == "none" or rng.random() >= mix.probability:
        return batch
    images = batch["image"]
    count, _, height, width = images.shape
    partner = send(rng.permutation(count), images.device)
    share = 0.5 if mix.alpha is None else float(rng.beta(mix.alpha, mix.alpha))
    if mix.name == "mixup":
        mixed = mixup(images, partner, share)
    elif mix.name == "cutmix":
        box = cut_box(height, width, share=share, centre=(int(rng.integers(height)), int(rng.integers(width))))
        mixed = cutmix(images, partner, box)
        share = 1 - box.area / (height * width)
    else:
        mixed = half_cutmix(images, partner, send(rng.random(count) < 0.5, images.device))
    return cast(Sample, {**batch, "image": mixed, "mix": Mix(partner, share)})
