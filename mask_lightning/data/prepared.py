"""Read and prepare one photo in one go, at the size that is needed; sizes of photos and faces, and their comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mask_lightning.data.images import LARGE, MAX_NAMED, PhotoSource, Size, decode_photo, photo_size
from mask_lightning.data.transforms import TransformSpec, find_face, middle_size, prepare_with_face
from mask_lightning.faces.alignment import face_frame
from mask_lightning.faces.detector import LONG_SIDES, Face
from mask_lightning.utils.system import trim_memory

DETAIL = 2  # a JPEG is decoded with so many pixels per pixel of the crop, so that resizing it still averages
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SAMPLE = 1_000  # photos whose sizes describe all
TOLERANCE = 1.5  # factor by which a median may lie beyond the training's quantiles .05 and .95

Quantiles = Mapping[str, Sequence[float]]


class PhotoSize(NamedTuple):
    """Size of a photo and of its largest face.

    Attributes:
        width, height: of the upright photo in pixels.
        face: longer side of the box of the largest face in pixels; 0 if none was found, NaN if none was sought.
    """

    width: int
    height: int
    face: float = math.nan


class Prepared(NamedTuple):
    """A photo as networks see it.

    Attributes:
        images: one square per spec.
        size: sizes of the photo and its face.
    """

    images: list[Image.Image]
    size: PhotoSize


def read_prepared(path: PhotoSource, specs: Sequence[TransformSpec]) -> Prepared:
    """Decode a photo once and prepare it for each spec; detect faces once, if a spec needs one.

    A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size if all crops allow it; "centre" needs the photo's own pixels.
    If its face turns out to be small, it is decoded a second time, in more detail.

    Raises:
        PhotoError: the photo cannot be decoded.
        DetectorError: the extra `faces` is not installed.
    """
    decoded = decode_photo(path, lambda size: min(_reduction(size, spec) for spec in specs))
    photo, (width, height) = decoded.photo, decoded.size
    finder = next((spec for spec in specs if spec.crop == "face"), None)
    face = None if finder is None else find_face(photo, finder)
    reduced = width / photo.width
    needed = min(_reduction_for_crop(decoded.size, spec, face, reduced) for spec in specs)
    if reduced > max(needed, 1):
        photo = decode_photo(path, lambda _: needed).photo
        face = face and face.scaled(reduced * photo.width / width)
        reduced = width / photo.width
    images = [prepare_with_face(photo, spec, face if spec.crop == "face" else None) for spec in specs]
    found = math.nan if finder is None else 0.0 if face is None else face.longer_side * reduced
    if photo.width * photo.height > LARGE:
        del photo, decoded
        trim_memory()  # `keep_memory` would keep hundreds of megabytes for the next large photo
    return Prepared(images, PhotoSize(width, height, found))


def _reduction(size: Size, spec: TransformSpec) -> float:
    """Return how many times smaller a photo may be decoded before its face is known."""
    if spec.crop == "face":
        return max(size) / (DETAIL * LONG_SIDES[0])
    return _reduction_for_crop(size, spec, None, 1)


def _reduction_for_crop(size: Size, spec: TransformSpec, face: Face | None, reduced: float) -> float:
    """Return how many times smaller a photo may be decoded for its crop; `face` is `reduced` times smaller already."""
    if spec.crop == "centre":
        return 1
    if spec.crop == "face" and face is not None:
        return face_frame(face, spec.margin).side * reduced / (DETAIL * spec.size)
    return min(middle_size(size, spec)) / (DETAIL * spec.size)


def sample_sizes(paths: Sequence[str], known: Callable[[str], PhotoSize | None] = lambda _: None) -> list[PhotoSize]:
    """Return the sizes of SAMPLE of the photos, always the same ones, as `known` or as their headers say."""
    chosen = np.random.default_rng(0).permutation(len(paths))[:SAMPLE]
    sizes = (known(paths[i]) or photo_size(paths[i]) for i in sorted(chosen.tolist()))
    return [PhotoSize(*size) for size in sizes if size is not None]


def describe_sizes(sizes: Iterable[PhotoSize]) -> dict[str, list[float]]:
    """Return QUANTILES of the sizes as plain values for a checkpoint.

    Returns:
        "photo": square root of width times height, in pixels; "face": longer side of the face, in pixels; "face_share":
        the same relative to "photo". The last two only of photos with a face, and missing if there are none.

    Example:
        >>> describe_sizes([PhotoSize(400, 400, 100.0), PhotoSize(400, 400, 0.0)])["face"]
        [100.0, 100.0, 100.0, 100.0, 100.0]
    """
    table = np.array(list(sizes), np.float64).reshape(-1, 3)
    side, face = np.sqrt(table[:, 0] * table[:, 1]), table[:, 2]
    found = face > 0
    values = {"photo": side, "face": face[found], "face_share": face[found] / side[found]}
    return {
        name: [float(f"{each:.4g}") for each in np.quantile(numbers, QUANTILES)]
        for name, numbers in values.items()
        if len(numbers)
    }


def compare_sizes(sizes: Sequence[PhotoSize], training: Quantiles, *, by_face: bool) -> str | None:
    """Describe in one line how photos differ in size from those of the training; None if they do not clearly.

    Args:
        sizes: of the photos to predict.
        training: result of `describe_sizes`.
        by_face: compare the faces, not the photos: for the crop "face", which makes the photo's size unimportant.

    Example:
        >>> compare_sizes([PhotoSize(3000, 4000)], describe_sizes([PhotoSize(384, 512)]), by_face=False)
        'photos of about 3464 pixels (root of width x height), trained on 443 to 443'
    """
    name = "face" if by_face else "photo"
    found = describe_sizes(sizes)
    if name not in found or name not in training:
        return None
    (low, *_, high), median = training[name], found[name][2]
    if low / TOLERANCE <= median <= high * TOLERANCE:
        return None
    unit = "longer side of the face" if by_face else "root of width x height"
    return f"{name}s of about {median:.0f} pixels ({unit}), trained on {low:.0f} to {high:.0f}"


def describe_missing_faces(names: Sequence[str], count: int, total: int) -> str:
    """Describe photos without a detected face in one line; `names` may be the first of `count` photos.

    Example:
        >>> describe_missing_faces(["1.jpg", "2.jpg"], 3, 7)
        '3 of 7 photos have no detected face, the middle of the photo is used: 1.jpg, 2.jpg and 1 more'
    """
    shown = list(names[:MAX_NAMED])
    more = f" and {count - len(shown)} more" if count > len(shown) else ""
    return f"{count} of {total} photos have no detected face, the middle of the photo is used: {', '.join(shown)}{more}"


class SizeTally:
    """Sizes of photos and missing faces of one pass, in bounded memory: the sizes of the first SAMPLE photos."""

    def __init__(self) -> None:
        self.photos = self.without_face = 0
        self._sizes: list[PhotoSize] = []
        self._names: list[str] = []

    def add(self, path: str, size: PhotoSize) -> None:
        """Count a photo."""
        self.photos += 1
        if len(self._sizes) < SAMPLE:
            self._sizes.append(size)
        if size.face == 0:
            self.without_face += 1
            if len(self._names) < MAX_NAMED:
                self._names.append(Path(path).name)

    def notes(self, training: Mapping[str, Quantiles]) -> list[str]:
        """Return one line about missing faces, and one for each network whose training photos had other sizes.

        Args:
            training: crop -> result of `describe_sizes` for the training photos.
        """
        lines = []
        if self.without_face:
            lines.append(describe_missing_faces(self._names, self.without_face, self.photos))
        for crop, quantiles in training.items():
            found = compare_sizes(self._sizes, quantiles, by_face=crop == "face")
            lines += [f"expected sizes as in training, found {found}: predictions may be worse"] if found else []
        return lines
