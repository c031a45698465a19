"""What happens to a whole batch, on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from mask_lightning.data.dataset import Mix, Sample


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 images (B, 3, H, W) -> float32 in channels_last, `(x / 255 - mean) / std` per channel."""
    count, channels, height, width = images.shape
    # By whole lines of pixels: a CPU does not vectorise over the three values of one.
    lines = images.permute(0, 2, 3, 1).reshape(count, height, width * channels)
    scale = torch.tensor([255.0 * s for s in std], device=images.device).repeat(width)
    shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=images.device).repeat(width)
    normalised = (lines.to(torch.float32) / scale).sub_(shift)
    return normalised.view(count, height, width, channels).permute(0, 3, 1, 2)


def denormalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The inverse of `normalise`, as float in 0..1: for pictures of what the network sees."""
    shape = (1, -1, 1, 1)
    means, stds = (torch.tensor(list(values), device=images.device).view(shape) for values in (mean, std))
    return (images * stds + means).clamp(0, 1)


def resize(images: Tensor, size: int) -> Tensor:
    """Float or uint8 images (B, 3, H, W) -> (B, 3, size, size) of the same type and memory format, antialiased."""
    resized: Tensor = TF.resize(images, [size, size], antialias=True)
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    return resized.contiguous(memory_format=torch.channels_last) if channels_last else resized


def mixup(images: Tensor, partner: Tensor, share: float) -> Tensor:
    """Float images (B, 3, H, W) -> `share` of each and the rest of its partner (Zhang et al. 2018, "mixup").

    Args:
        images: the batch.
        partner: a permutation of the batch (B,).
        share: in 0..1.
    """
    return torch.lerp(images[partner], images, share)


class Box(NamedTuple):
    """A rectangle of pixels; bottom and right are just outside."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> int:
        """In pixels."""
        return (self.bottom - self.top) * (self.right - self.left)


def cut_box(height: int, width: int, *, share: float, centre: tuple[int, int]) -> Box:
    """A box of the image's shape and about `1 - share` of its area, cut off at the image's border.

    What is left of the image is thus at least `share` (up to rounding): Yun et al. 2019, "CutMix", section 3.1.
    """
    half = 0.5 * math.sqrt(1 - share)
    (y, x), down, across = centre, int(half * height), int(half * width)
    return Box(max(y - down, 0), min(y + down, height), max(x - across, 0), min(x + across, width))


def cutmix(images: Tensor, partner: Tensor, box: Box) -> Tensor:
    """Images (B, 3, H, W) with the pixels in `box` replaced by those of each one's partner (B,)."""
    mixed = images.clone()
    mixed[..., box.top : box.bottom, box.left : box.right] = images[
        partner, :, box.top : box.bottom, box.left : box.right
    ]
    return mixed


def half_cutmix(images: Tensor, partner: Tensor, keeps_left: Tensor) -> Tensor:
    """The left half of one face beside the right half of another.

    Args:
        images: the batch (B, 3, H, W); of an odd width the middle column goes to the right half.
        partner: a permutation of the batch (B,).
        keeps_left: bool (B,), True where a photo keeps its left half, False where its right half.
    """
    is_left = torch.arange(images.shape[-1], device=images.device) < images.shape[-1] // 2
    keeps = is_left == keeps_left[:, None, None, None]
    return torch.where(keeps, images, images[partner])


@dataclass(frozen=True)
class MixSpec:
    """Whether and how the photos of a training batch are mixed with each other.

    Attributes:
        name: what `mixup`, `cutmix` or `half_cutmix` does; "none" leaves every batch as it is.
        alpha: a batch's share is drawn from Beta(alpha, alpha): near 0 or 1 where alpha is small, near a half where
            it is large; half_cutmix needs none.
        probability: share of the batches that are mixed.
    """

    name: Literal["none", "mixup", "cutmix", "half_cutmix"] = "none"
    alpha: float | None = None
    probability: float = 1.0


def mix_batch(batch: Sample, spec: MixSpec, rng: np.random.Generator) -> Sample:
    """A batch of float images, mixed as `spec` says and with `mix` set, or as it is.

    All draws come from `rng`. The partner of a photo is another, rarely the photo itself.
    """
    if spec.name == "none" or rng.random() >= spec.probability:
        return batch
    images = batch["image"]
    count, _, height, width = images.shape
    partner = torch.from_numpy(rng.permutation(count)).to(images.device)
    share = 0.5 if spec.alpha is None else float(rng.beta(spec.alpha, spec.alpha))
    if spec.name == "mixup":
        mixed = mixup(images, partner, share)
    elif spec.name == "cutmix":
        box = cut_box(height, width, share=share, centre=(int(rng.integers(height)), int(rng.integers(width))))
        mixed = cutmix(images, partner, box)
        share = 1 - box.area / (height * width)
    else:
        mixed = half_cutmix(images, partner, torch.from_numpy(rng.random(count) < 0.5).to(images.device))
    return cast(Sample, {**batch, "image": mixed, "mix": Mix(partner, share)})
