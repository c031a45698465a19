"""Preparation and augmentation of one photo; training and evaluation share one TransformSpec, so they cannot differ.

Both pipelines end in uint8. Normalisation happens on the device for a whole batch (`data/batching.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, RandomHorizontalFlip, RandomResizedCrop
from torchvision.transforms import functional as TF

from mask_lightning.data.randaugment import NUM_BINS, CachedRandAugment, Operations, draw_operations
from mask_lightning.errors import ConfigError
from mask_lightning.settings.augment import AugmentSettings

Transform = Callable[[Image.Image], Image.Image]

ZOOM_RATIO = (0.85, 1 / 0.85)  # limits of width / height of the zoomed part, narrow enough to keep a face's proportions


@dataclass(frozen=True)
class TransformSpec:
    """How a photo becomes the network's input; stored in the checkpoint.

    Args:
        crop_height, crop_width: size of the centre crop in the photo's pixels; a smaller photo is padded by reflection.
            None for both: the largest centre square, which is the whole photo for an aligned face crop.
        size: side in pixels of the square that the crop is resized to, without keeping its aspect ratio.
        mean, std: per RGB channel, for values in 0..1.

    Raises:
        ConfigError: only one of crop_height and crop_width is None, or a size is below 8 pixels.
    """

    crop_height: int | None = 380
    crop_width: int | None = 256
    size: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if (self.crop_height is None) != (self.crop_width is None):
            raise ConfigError(
                f"a crop needs height and width or neither, got {self}; set data.crop_height and crop_width"
            )
        sizes = [size for size in (self.crop_height, self.crop_width, self.size) if size is not None]
        if min(sizes) < 8:
            raise ConfigError(
                f"crop and size must be at least 8 pixels, got {self}; set data.crop and model.image_size"
            )

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        plain = asdict(self)
        return {**plain, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> TransformSpec:
        """Restore the spec from the values of `to_plain`."""
        return cls(**{**plain, "mean": tuple(plain["mean"]), "std": tuple(plain["std"])})


@dataclass(frozen=True)
class Pipeline:
    """A function from an RGB photo to a square of the spec's size, in a fixed and a random part.

    Attributes:
        prepare: the deterministic part, whose result `data.cache` stores.
        augment: the random part, drawn from torch's global generator; None without one.
        draw: draws RandAugment's operations from that generator without applying them, which
            `randaugment.augment_batch` does on the device; None if nothing is left to the device.
    """

    prepare: Transform
    augment: Transform | None = None
    draw: Callable[[], Operations] | None = None

    def __call__(self, photo: Image.Image) -> Image.Image:
        """Prepare and augment a photo, without the operations that are left to the device."""
        return self.finish(self.prepare(photo))

    def finish(self, prepared: Image.Image) -> Image.Image:
        """Augment a prepared photo."""
        return prepared if self.augment is None else self.augment(prepared)


def eval_pipeline(spec: TransformSpec) -> Pipeline:
    """Build the pipeline for evaluation: centre crop, then resize to a square of `spec.size`.

    Example:
        >>> pipeline = eval_pipeline(TransformSpec(crop_height=100, crop_width=80, size=64))
        >>> pipeline(Image.new("RGB", (384, 512))).size
        (64, 64)
    """
    return Pipeline(partial(_prepare, spec=spec))


def train_pipeline(spec: TransformSpec, augment: AugmentSettings, *, batched: bool = False) -> Pipeline:
    """Build the pipeline for training: the evaluation pipeline, then random augmentation of the PIL image.

    Args:
        spec: crop, size and normalisation.
        augment: the augmentation's options.
        batched: only draw RandAugment's operations and the mirror image; `randaugment.augment_batch` applies them.
    """
    prepare = partial(_prepare, spec=spec)
    if not batched or not (augment.num_ops or augment.flip):
        return Pipeline(prepare, augmentation(augment, spec.size))
    zoom = augmentation(augment.model_copy(update={"num_ops": 0, "flip": 0.0}), spec.size)
    return Pipeline(prepare, zoom, partial(draw_operations, augment.num_ops, augment.flip))


def augmentation(augment: AugmentSettings, size: int) -> Transform:
    """Build the random part for prepared squares of `size` pixels: zoom, RandAugment and mirror image, in that order.

    It draws from torch's global generator and keeps the size.
    """
    steps: list[Transform] = []
    if augment.min_area < 1:
        steps.append(RandomResizedCrop(size, (augment.min_area, 1.0), ZOOM_RATIO))
    if augment.num_ops:
        steps.append(CachedRandAugment(augment.num_ops, augment.magnitude, NUM_BINS))
    if augment.flip:
        steps.append(RandomHorizontalFlip(augment.flip))
    return Compose(steps)  # type: ignore[no-any-return]


def _prepare(photo: Image.Image, spec: TransformSpec) -> Image.Image:
    return crop(photo, spec).resize((spec.size, spec.size), Image.Resampling.BILINEAR)


def crop(photo: Image.Image, spec: TransformSpec) -> Image.Image:
    """Cut out the part of an RGB photo that the network sees, without resizing it."""
    side = min(photo.size)
    return centre_crop(photo, spec.crop_height or side, spec.crop_width or side)


def centre_crop(photo: Image.Image, height: int, width: int) -> Image.Image:
    """Cut out the middle `height` x `width` pixels; a smaller photo is padded by reflection.

    Example:
        >>> centre_crop(Image.new("RGB", (384, 512)), height=380, width=256).size
        (256, 380)
        >>> centre_crop(Image.new("RGB", (100, 100)), height=380, width=256).size
        (256, 380)
    """
    short_x, short_y = max(width - photo.width, 0), max(height - photo.height, 0)
    if short_x or short_y:
        margins = ((short_y // 2, short_y - short_y // 2), (short_x // 2, short_x - short_x // 2), (0, 0))
        photo = Image.fromarray(np.pad(np.asarray(photo), margins, mode="symmetric"))
    left, top = (photo.width - width) // 2, (photo.height - height) // 2
    return photo.crop((left, top, left + width, top + height))


def to_uint8(image: Image.Image) -> Tensor:
    """Convert an RGB image to a uint8 tensor (3, H, W)."""
    tensor: Tensor = TF.pil_to_tensor(image)
    return tensor
