"""Test-time augmentation (TTA): average the predictions for several versions of each photo.

A photo is decoded, cropped and resized once; its versions are made from the result.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as TF

from mask_lightning.data.transforms import augmentation
from mask_lightning.settings.augment import AugmentSettings
from mask_lightning.settings.inference import Tta

MILD = AugmentSettings(num_ops=2, magnitude=4, flip=0.5)  # weaker than training, so that the class stays visible
DRAWS = 4  # augmented versions per photo, as in fastai's Learner.tta
PLAIN_SHARE = 0.25  # weight of the plain photo with tta=blend: fastai's beta


def tta_weights(tta: Tta) -> tuple[float, ...]:
    """Weights of the versions of a photo; they sum to 1.

    Args:
        tta: none: the photo alone. flip: the photo and its mirror image. randaugment: DRAWS mildly augmented versions.
            blend: the photo and these, weighted as in fastai's `Learner.tta`.

    Example:
        >>> tta_weights("blend")
        (0.25, 0.1875, 0.1875, 0.1875, 0.1875)
    """
    drawn = (1 / DRAWS,) * DRAWS
    return {
        "none": (1.0,),
        "flip": (0.5, 0.5),
        "randaugment": drawn,
        "blend": (PLAIN_SHARE, *((1 - PLAIN_SHARE) * weight for weight in drawn)),
    }[tta]


def tta_images(image: Image.Image, tta: Tta) -> list[Image.Image]:
    """Make the versions of a prepared photo, in the order of `tta_weights`; equal pixels always give equal versions."""
    if tta == "none":
        return [image]
    if tta == "flip":
        return [image, TF.hflip(image)]
    return ([image] if tta == "blend" else []) + _draw(image)


def tta_pixels(image: Image.Image, tta: Tta) -> Tensor:
    """Return the versions of a prepared photo of S x S pixels as one tensor, uint8 (V, 3, S, S).

    Its memory has the order of a photo (V, S, S, 3), in which networks and runtimes take it.
    """
    versions = np.stack([np.asarray(version) for version in tta_images(image, tta)])
    return torch.from_numpy(versions).permute(0, 3, 1, 2)


def stack_pixels(photos: Sequence[Tensor]) -> Tensor:
    """Stack tensors (V, 3, S, S) of `tta_pixels` to (B, V, 3, S, S), with the same order in memory."""
    return torch.stack([photo.permute(0, 2, 3, 1) for photo in photos]).permute(0, 1, 4, 2, 3)


def average_log_probs(log_probs: Sequence[Tensor], tta: Tta) -> Tensor:
    """Average probabilities over the versions, in log space.

    Args:
        log_probs: one tensor (B, C) per version, in the order of `tta_weights`.
        tta: determines the weights.

    Returns:
        Log of the weighted mean probabilities (B, C).

    Example:
        >>> plain, mirrored = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.7, 0.3]]).log()
        >>> average_log_probs([plain, mirrored], "flip").exp()
        tensor([[0.8000, 0.2000]])
    """
    if len(log_probs) == 1:
        return log_probs[0]
    weighted = [values + math.log(weight) for values, weight in zip(log_probs, tta_weights(tta), strict=True)]
    return torch.stack(weighted).logsumexp(dim=0)


def _draw(image: Image.Image) -> list[Image.Image]:
    augment = augmentation(MILD, image.height)
    with torch.random.fork_rng(devices=[]):
        # Seeded by the pixels: predictions do not depend on other photos or on the order.
        torch.manual_seed(zlib.crc32(image.tobytes()))
        return [augment(image) for _ in range(DRAWS)]
