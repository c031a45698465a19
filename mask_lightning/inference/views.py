"""Test-time augmentation: the views of one photo that a network is asked about, and how their answers are averaged.

A photo is decoded, cropped and resized once; its views are made from the result.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Literal

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import functional as TF

from mask_lightning.data.images import open_photo
from mask_lightning.data.transforms import AugmentSpec, TransformSpec, augmentation, eval_pipeline, to_uint8

Tta = Literal["none", "flip", "randaugment", "blend"]

MILD = AugmentSpec(num_ops=2, magnitude=4, flip=0.5)  # weaker than any training: the photo must stay itself
DRAWS = 4  # augmented views of a photo, as many as fastai's Learner.tta makes
PLAIN_SHARE = 0.25  # of the photo as it is in a blend: fastai's beta


def view_weights(tta: Tta) -> tuple[float, ...]:
    """What the answer to each view counts; they sum to 1.

    none: the photo alone. flip: it and its mirror image. randaugment: DRAWS mildly augmented views. blend: the photo
    and these, weighted as in fastai's `Learner.tta`.
    """
    drawn = (1 / DRAWS,) * DRAWS
    return {
        "none": (1.0,),
        "flip": (0.5, 0.5),
        "randaugment": drawn,
        "blend": (PLAIN_SHARE, *((1 - PLAIN_SHARE) * weight for weight in drawn)),
    }[tta]


def make_views(image: Image.Image, tta: Tta) -> list[Image.Image]:
    """Views of a prepared photo, in the order of `view_weights`; equal pixels always give equal views."""
    if tta == "none":
        return [image]
    if tta == "flip":
        return [image, TF.hflip(image)]
    return ([image] if tta == "blend" else []) + _draw(image)


def average_views(log_probs: Sequence[Tensor], tta: Tta) -> Tensor:
    """Log probabilities (B, C) for each view -> log of their weighted mean probability (B, C)."""
    if len(log_probs) == 1:
        return log_probs[0]
    shares = [values + math.log(weight) for values, weight in zip(log_probs, view_weights(tta), strict=True)]
    return torch.stack(shares).logsumexp(dim=0)


class ViewDataset(Dataset[Tensor]):
    """Photo i -> its views, uint8 (V, 3, H, W)."""

    def __init__(self, paths: Sequence[str], spec: TransformSpec, tta: Tta) -> None:
        self.paths, self.tta = list(paths), tta
        self.prepare = eval_pipeline(spec)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor:
        views = make_views(self.prepare(open_photo(self.paths[row])), self.tta)
        return torch.stack([to_uint8(view) for view in views])


def _draw(image: Image.Image) -> list[Image.Image]:
    augment = augmentation(MILD, image.height)
    with torch.random.fork_rng(devices=[]):
        # Seeded by the pixels: the answer does not depend on which other photos are asked about, or in what order.
        torch.manual_seed(zlib.crc32(image.tobytes()))
        return [augment(image) for _ in range(DRAWS)]
