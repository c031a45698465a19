"""What happens to one photo, from one TransformSpec: the eval and the train pipeline cannot drift apart.

Both end in uint8; normalisation happens on the device, for a whole batch (`data/batching.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, RandomHorizontalFlip, RandomResizedCrop
from torchvision.transforms import functional as TF

from mask_lightning.data.randaugment import NUM_BINS, Changes, TabledRandAugment, draw_changes
from mask_lightning.errors import ConfigError

Transform = Callable[[Image.Image], Image.Image]

ZOOM_RATIO = (0.85, 1 / 0.85)  # width to height of an enlarged part: faces stay faces


@dataclass(frozen=True)
class TransformSpec:
    """How a photo becomes the network's input; travels in the checkpoint.

    Attributes:
        crop_height, crop_width: the centre crop, in pixels of the photo; a smaller photo is padded by reflection. Both
            None: the largest centre square of each photo, which is the whole of an aligned face crop.
        size: the square that the crop is resized to (its aspect is not kept).
        mean, std: per channel, of values in 0..1.
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
        """Plain values for a checkpoint."""
        plain = asdict(self)
        return {**plain, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> TransformSpec:
        """The inverse of `to_plain`."""
        return cls(**{**plain, "mean": tuple(plain["mean"]), "std": tuple(plain["std"])})


@dataclass(frozen=True)
class AugmentSpec:
    """Random changes to a training photo: a part of it enlarged, RandAugment (Cubuk et al. 2020), a mirror image.

    Attributes:
        min_area: the least share of the photo's area that is kept and enlarged (torchvision's RandomResizedCrop,
            after Szegedy et al. 2015, "Going deeper with convolutions"); 1 leaves it out.
        num_ops: how many operations of RandAugment each photo gets; 0 leaves it out.
        magnitude: their strength on torchvision's scale of 0..30.
        flip: probability of a mirror image.
    """

    num_ops: int = 3
    magnitude: int = 6
    flip: float = 0.0
    min_area: float = 1.0


@dataclass(frozen=True)
class Pipeline:
    """RGB photo -> square of the spec's size.

    Attributes:
        prepare: the part that gives the same photo the same pixels each time, so that they can be kept (`data.cache`).
        change: the random part, drawn from torch's global generator; None where there is none.
        draw: draws the rest of it from there, too, which waits until the photo lies in a batch (`data.randaugment`);
            None where nothing waits.
    """

    prepare: Transform
    change: Transform | None = None
    draw: Callable[[], Changes] | None = None

    def __call__(self, photo: Image.Image) -> Image.Image:
        """All of it, but for what waits."""
        return self.finish(self.prepare(photo))

    def finish(self, prepared: Image.Image) -> Image.Image:
        """What becomes of a prepared photo."""
        return prepared if self.change is None else self.change(prepared)


def eval_pipeline(spec: TransformSpec) -> Pipeline:
    """RGB photo -> centre crop -> square of `spec.size`."""
    return Pipeline(partial(_prepare, spec=spec))


def train_pipeline(spec: TransformSpec, augment: AugmentSpec, *, batched: bool = False) -> Pipeline:
    """The eval pipeline, then random augmentation on the PIL image.

    Where it is `batched`, the operations and the mirror image are drawn alike, but wait for `randaugment.change_batch`.
    """
    prepare = partial(_prepare, spec=spec)
    if not batched or not (augment.num_ops or augment.flip):
        return Pipeline(prepare, augmentation(augment, spec.size))
    enlarge = augmentation(replace(augment, num_ops=0, flip=0.0), spec.size)
    return Pipeline(prepare, enlarge, partial(draw_changes, augment.num_ops, augment.flip))


def _prepare(photo: Image.Image, spec: TransformSpec) -> Image.Image:
    return crop(photo, spec).resize((spec.size, spec.size), Image.Resampling.BILINEAR)


def crop(photo: Image.Image, spec: TransformSpec) -> Image.Image:
    """The part of an RGB photo that the network sees, in its own size and proportions."""
    side = min(photo.size)
    return centre_crop(photo, spec.crop_height or side, spec.crop_width or side)


def augmentation(augment: AugmentSpec, size: int) -> Transform:
    """Prepared square of `size` -> another of that size, drawn from torch's global generator."""
    steps: list[Transform] = []
    if augment.min_area < 1:
        steps.append(RandomResizedCrop(size, (augment.min_area, 1.0), ZOOM_RATIO))
    if augment.num_ops:
        steps.append(TabledRandAugment(augment.num_ops, augment.magnitude, NUM_BINS))
    if augment.flip:
        steps.append(RandomHorizontalFlip(augment.flip))
    return Compose(steps)  # type: ignore[no-any-return]


def centre_crop(photo: Image.Image, height: int, width: int) -> Image.Image:
    """The middle `height` x `width` pixels; where the photo is smaller, its border is mirrored outwards."""
    short_x, short_y = max(width - photo.width, 0), max(height - photo.height, 0)
    if short_x or short_y:
        margins = ((short_y // 2, short_y - short_y // 2), (short_x // 2, short_x - short_x // 2), (0, 0))
        photo = Image.fromarray(np.pad(np.asarray(photo), margins, mode="symmetric"))
    left, top = (photo.width - width) // 2, (photo.height - height) // 2
    return photo.crop((left, top, left + width, top + height))


def to_uint8(image: Image.Image) -> Tensor:
    """RGB image -> uint8 tensor of shape (3, H, W)."""
    tensor: Tensor = TF.pil_to_tensor(image)
    return tensor
