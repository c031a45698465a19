"""Photos as the models of a prediction take them: from a cache, from packed photos, or decoded once for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mask_lightning.data.cache import FileStamp, PhotoCache, PreparedPhotos, cache_file_name, cache_key
from mask_lightning.data.packed import PackedPhotos, open_packed
from mask_lightning.data.prepared import PhotoSize, read_prepared
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.errors import PhotoError
from mask_lightning.inference.tta import stack_pixels, tta_pixels, tta_weights
from mask_lightning.settings.data import DataSettings
from mask_lightning.settings.inference import Tta


@dataclass(frozen=True)
class CacheLocation:
    """Place of a run's photo cache; the cache files in it are used where they are up to date.

    Attributes:
        folder: folder of the cache files.
        root: folder of the photos, which determines the file's name.
    """

    folder: Path
    root: Path


PhotoPlace = CacheLocation | PackedPhotos


def place_of(data: DataSettings, folder: Path, root: Path) -> PhotoPlace | None:
    """Return where prepared photos are: packed ones, or the cache below `folder`; None with `data.cache=off`.

    Raises:
        PackedError: packed photos cannot be read.
    """
    if data.name == "packed":
        return open_packed(root, folder=folder, cache_gb=data.cache_gb)
    return None if data.cache == "off" else CacheLocation(folder, root)


class PreparedPhoto(NamedTuple):
    """One photo, prepared for every transform; or the error that it cannot be decoded.

    Attributes:
        images: one uint8 tensor (V, 3, S, S) per transform, with V versions for TTA; zeros if there is an error.
        error: (path, message), None for a photo that was decoded.
        size: (path, sizes of the photo and its face); None if they are unknown, as for most photos in the cache.
    """

    images: list[Tensor]
    error: tuple[str, str] | None
    size: tuple[str, PhotoSize] | None = None


class Batch(NamedTuple):
    """A batch of prepared photos.

    Attributes:
        images: one uint8 tensor (B, V, 3, S, S) per transform.
        errors: path -> message of the photos that cannot be decoded.
        sizes: (path, sizes) of the photos whose sizes are known.
    """

    images: list[Tensor]
    errors: dict[str, str]
    sizes: list[tuple[str, PhotoSize]]


class PredictionDataset(Dataset[PreparedPhoto]):
    """Photos prepared for one or more transforms; a photo that cannot be decoded is reported, not raised.

    Args:
        paths: of the N photos.
        specs: transforms, all different.
        tta: test-time augmentation.
        cache: photo cache to use where it is up to date, or packed photos; None decodes every photo.

    Raises:
        PackedError: packed photos were prepared by other transforms.
    """

    def __init__(
        self, paths: Sequence[str], specs: Sequence[TransformSpec], tta: Tta, cache: PhotoPlace | None = None
    ) -> None:
        self.paths, self.specs, self.tta = paths, list(specs), tta
        self.caches: Sequence[PreparedPhotos | None]
        if isinstance(cache, PackedPhotos):
            for spec in specs:
                cache.require(spec)
            self.caches, self._cached = [cache] * len(self.specs), [True] * len(paths)
            return
        caches = [None if cache is None else _open_cache(cache, spec) for spec in specs]
        stamps = [{} if each is None else each.stamps() for each in caches]
        self._cached = [
            any(stamps) and all(_is_current(each, known, path) for each, known in zip(caches, stamps, strict=True))
            for path in self.paths
        ]
        self.caches = caches

    @property
    def is_thread_safe(self) -> bool:
        """False for packed photos, whose chunks are opened and removed as they are read."""
        return not any(isinstance(cache, PackedPhotos) for cache in self.caches)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> PreparedPhoto:
        path = self.paths[row]
        try:
            prepared, size = self._from_cache(path) if self._cached[row] else read_prepared(path, self.specs)
        except PhotoError as error:
            count = len(tta_weights(self.tta))
            blank = [torch.zeros(count, 3, spec.size, spec.size, dtype=torch.uint8) for spec in self.specs]
            return PreparedPhoto(blank, (path, str(error)))
        images = [tta_pixels(image, self.tta) for image in prepared]
        return PreparedPhoto(images, None, None if size is None else (path, size))

    def _from_cache(self, path: str) -> tuple[list[Image.Image], PhotoSize | None]:
        caches = [cache for cache in self.caches if cache is not None]
        found = [cache.find(path) for cache in caches]
        sizes = [size for size in (cache.size_of(path) for cache in caches) if size is not None]
        return [Image.fromarray(pixels) for pixels in found if pixels is not None], next(iter(sizes), None)


def _open_cache(cache: CacheLocation, spec: TransformSpec) -> PhotoCache | None:
    try:
        return PhotoCache(cache.folder / cache_file_name(cache.root, spec))
    except (OSError, ValueError):
        return None


def _is_current(cache: PhotoCache | None, stamps: dict[str, FileStamp], path: str) -> bool:
    """Return True if the cache holds the photo as its file is now."""
    return cache is not None and cache.holds(path) and stamps[cache_key(path)] == FileStamp.of(path)


def collate_photos(photos: Sequence[PreparedPhoto]) -> Batch:
    """Stack the images of the photos, and collect errors and sizes."""
    images = [stack_pixels(same) for same in zip(*(photo.images for photo in photos), strict=True)]
    errors = dict(photo.error for photo in photos if photo.error is not None)
    return Batch(images, errors, [photo.size for photo in photos if photo.size is not None])
