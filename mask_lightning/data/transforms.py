"""Preparation and augmentation of one photo; training and evaluation share one TransformSpec, so they cannot differ.

Both pipelines end in uint8. Normalisation happens on the device for a whole batch (`data/batching.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, RandomErasing, RandomHorizontalFlip, RandomResizedCrop, TrivialAugmentWide
from torchvision.transforms import functional as TF

from mask_lightning.data.images import Size
from mask_lightning.data.randaugment import NUM_BINS, CachedRandAugment, Operations, draw_operations
from mask_lightning.errors import ConfigError
from mask_lightning.faces.alignment import align, face_frame
from mask_lightning.faces.detector import Face, load_detector
from mask_lightning.settings.augment import AugmentSettings
from mask_lightning.settings.data import MARGIN, CropMode

Transform = Callable[[Image.Image], Image.Image]

ERASED_AREA, ERASED_RATIO, GREY = (0.02, 0.33), (0.3, 3.3), 128  # limits of the area and shape, as torchvision's
ZOOM_RATIO = (0.85, 1 / 0.85)  # limits of width / height of the zoomed part, narrow enough to keep a face's proportions


@dataclass(frozen=True)
class TransformSpec:
    """How a photo becomes the network's input; stored in the checkpoint.

    Args:
        crop_height, crop_width: size of the centre crop in the photo's pixels; a smaller photo is padded by reflection.
            None for both: the largest centre square, which is the whole photo for an aligned face crop.
        size: side in pixels of the square that the crop is resized to.
        mean, std: per RGB channel, for values in 0..1.
        crop: "centre" cuts out `crop_height` x `crop_width` pixels in the middle; "share" cuts out `share_height` and
            `share_width` of the photo in the middle; "face" aligns the largest detected face. Without a face, "face"
            is the crop "share" extended to a square; without shares, the largest centre square.
        share_height, share_width: 0 to 1; None: the whole side.
        margin: of "face", see `faces.alignment.face_frame`.
        keep_aspect: extend the shorter side of the crop to the longer, so that resizing to a square keeps the
            proportions. Padding the crop instead would leave a part of the network's input empty.

    Raises:
        ConfigError: only one of crop_height and crop_width is None, a size is below 8 pixels, a share is not in (0, 1],
            or the crop is unknown.
    """

    crop_height: int | None = 380
    crop_width: int | None = 256
    size: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop: CropMode = "centre"
    share_height: float | None = None
    share_width: float | None = None
    margin: float = MARGIN
    keep_aspect: bool = False

    def __post_init__(self) -> None:
        if self.crop not in get_args(CropMode):
            raise ConfigError(f"expected crop {', '.join(get_args(CropMode))}, got {self.crop!r}; set data.crop to one")
        if any(not 0 < share <= 1 for share in (self.share_height, self.share_width) if share is not None):
            raise ConfigError(f"shares must be in (0, 1], got {self}; set data.share_height and share_width")
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
        spec: crop and size of the deterministic part, `prepare`, whose result `data.cache` stores.
        augment: the random part, drawn from torch's global generator; None without one.
        draw: draws RandAugment's operations from that generator without applying them, which
            `randaugment.augment_batch` does on the device; None if nothing is left to the device.
    """

    spec: TransformSpec
    augment: Transform | None = None
    draw: Callable[[], Operations] | None = None

    def prepare(self, photo: Image.Image) -> Image.Image:
        """Crop and resize an RGB photo. For a file, `data.prepared.read_prepared` may decode it at a smaller size."""
        return prepare_with_face(photo, self.spec, find_face(photo, self.spec))

    def __call__(self, photo: Image.Image) -> Image.Image:
        """Prepare and augment a photo, without the operations that are left to the device."""
        return self.finish(self.prepare(photo))

    def finish(self, prepared: Image.Image) -> Image.Image:
        """Augment a prepared photo."""
        return prepared if self.augment is None else self.augment(prepared)


def eval_pipeline(spec: TransformSpec) -> Pipeline:
    """Build the pipeline for evaluation: crop as the spec says, then resize to a square of `spec.size`.

    Example:
        >>> pipeline = eval_pipeline(TransformSpec(crop_height=100, crop_width=80, size=64))
        >>> pipeline(Image.new("RGB", (384, 512))).size
        (64, 64)
    """
    return Pipeline(spec)


def train_pipeline(spec: TransformSpec, augment: AugmentSettings, *, batched: bool = False) -> Pipeline:
    """Build the pipeline for training: the evaluation pipeline, then random augmentation of the PIL image.

    Args:
        spec: crop, size and normalisation.
        augment: the augmentation's options.
        batched: only draw RandAugment's operations and the mirror image; `randaugment.augment_batch` applies them.
            Ignored with TrivialAugment and erasing, which single photos have.
    """
    if not batched or augment.cpu_only or not (augment.num_ops or augment.flip):
        return Pipeline(spec, augmentation(augment, spec.size))
    zoom = augmentation(augment.model_copy(update={"num_ops": 0, "flip": 0.0}), spec.size)
    return Pipeline(spec, zoom, partial(draw_operations, augment.num_ops, augment.flip))


def augmentation(augment: AugmentSettings, size: int) -> Transform:
    """Build the random part for prepared squares of `size` pixels: zoom, policy, mirror image, erasing, in that order.

    It draws from torch's global generator and keeps the size.
    """
    steps: list[Transform] = []
    if augment.min_area < 1:
        steps.append(RandomResizedCrop(size, (augment.min_area, 1.0), ZOOM_RATIO))
    if augment.num_ops:
        steps.append(CachedRandAugment(augment.num_ops, augment.magnitude, NUM_BINS))
    if augment.trivial:
        steps.append(TrivialAugmentWide())
    if augment.flip:
        steps.append(RandomHorizontalFlip(augment.flip))
    if augment.erase:
        steps.append(partial(erase, probability=augment.erase))
    return Compose(steps)  # type: ignore[no-any-return]


def erase(photo: Image.Image, *, probability: float) -> Image.Image:
    """Cover a random rectangle with grey, about the mean colour of the network's input.

    Source: Zhong et al. 2020, "Random erasing data augmentation", arXiv:1708.04896; size and shape are drawn by
    torchvision's RandomErasing, whose forward pass takes tensors only.

    Args:
        photo: RGB photo, left unchanged.
        probability: of a rectangle.

    Example:
        >>> white = Image.new("RGB", (32, 32), "white")
        >>> sorted(colour for _, colour in erase(white, probability=1.0).getcolors())
        [(128, 128, 128), (255, 255, 255)]
    """
    if torch.rand(1) >= probability:
        return photo
    shape = torch.empty(3, photo.height, photo.width, device="meta")
    top, left, height, width, _ = RandomErasing.get_params(shape, ERASED_AREA, ERASED_RATIO, [float(GREY)])
    erased = photo.copy()
    erased.paste((GREY,) * 3, (left, top, left + width, top + height))
    return erased


def find_face(photo: Image.Image, spec: TransformSpec) -> Face | None:
    """Return the largest face of an RGB photo; None if none is found, or if the crop needs none.

    Raises:
        DetectorError: the crop needs a face, and the extra `faces` is not installed.
    """
    if spec.crop != "face":
        return None
    return load_detector().find_one(photo)


def prepare_with_face(photo: Image.Image, spec: TransformSpec, face: Face | None) -> Image.Image:
    """Crop an RGB photo and resize it to a square of `spec.size`; `face` is the result of `find_face`."""
    if face is not None:
        return align(photo, face_frame(face, spec.margin), spec.size)
    return _middle(photo, spec).resize((spec.size, spec.size), Image.Resampling.BILINEAR)


def crop(photo: Image.Image, spec: TransformSpec) -> Image.Image:
    """Cut out the part of an RGB photo that the network sees, without resizing it; a face becomes upright."""
    face = find_face(photo, spec)
    if face is None:
        return _middle(photo, spec)
    frame = face_frame(face, spec.margin)
    return align(photo, frame, max(round(frame.side), 1))


def _middle(photo: Image.Image, spec: TransformSpec) -> Image.Image:
    return centre_crop(photo, *middle_size(photo.size, spec))


def middle_size(size: Size, spec: TransformSpec) -> Size:
    """Return height and width in pixels of the crop in the middle of a photo whose width and height are `size`.

    Example:
        >>> middle_size((400, 500), TransformSpec(None, None, crop="share", share_height=0.6, share_width=0.5))
        (300, 200)
        >>> middle_size((400, 500), TransformSpec(380, 256, keep_aspect=True))
        (380, 380)
    """
    if spec.crop == "centre":
        height, width = spec.crop_height or min(size), spec.crop_width or min(size)
    elif spec.crop == "face" and spec.share_height is None and spec.share_width is None:
        height = width = min(size)
    else:
        height = max(round(size[1] * (spec.share_height or 1)), 1)
        width = max(round(size[0] * (spec.share_width or 1)), 1)
    if spec.keep_aspect or spec.crop == "face":
        height = width = max(height, width)
    return height, width


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
