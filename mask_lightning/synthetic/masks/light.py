"""The light in a photo, read from the face, so that a mask can be lit by it."""

from dataclasses import dataclass

import numpy as np

from mask_lightning.synthetic.masks.landmarks import FaceLandmarks
from mask_lightning.synthetic.masks.noise import blur

LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class PhotoLight:
    """Where the light comes from and how strong, warm and uneven it is; and how noisy and soft the photo is.

    `level` is what a white cloth would show (0..1), `tint` (3,) its colour, `slope` the direction that grows
    brighter (x, y), `field` (h, w) the brightness at each pixel relative to the face's.
    """

    level: float
    tint: np.ndarray
    slope: tuple[float, float]
    field: np.ndarray
    grain: float
    softness: float


def read_light(pixels: np.ndarray, face: FaceLandmarks) -> PhotoLight:
    """The light on the face in `pixels` (h, w, 3), 0..1."""
    unit = face.eye_distance
    grey = pixels @ LUMA
    window = _face_window(face, grey.shape)
    skin = grey[window]
    field = blur(grey, 0.28 * unit) / max(float(skin.mean()), 0.02)
    bright, photo = np.percentile(skin, 90), np.percentile(grey, 97)
    grain, softness = _grain_and_softness(skin)
    return PhotoLight(
        level=float(np.clip(0.62 * max(bright, 0.25) ** 0.5 + 0.43 * photo, 0.25, 1.0)),
        tint=_tint(pixels),
        slope=_slope(skin),
        field=np.clip(field, 0.3, 1.6) ** 0.75,
        grain=grain,
        softness=softness,
    )


def _face_window(face: FaceLandmarks, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """From eye to eye and from brow to chin, kept inside the photo and never empty."""
    (x, y), unit = face.eye_centre, face.eye_distance
    left, top = int(np.clip(x - 0.55 * unit, 0, shape[1] - 9)), int(np.clip(y - 0.1 * unit, 0, shape[0] - 9))
    right, bottom = int(max(x + 0.55 * unit, left + 8)), int(max(y + 1.05 * unit, top + 8))
    return slice(top, bottom), slice(left, right)


def _tint(pixels: np.ndarray) -> np.ndarray:
    """The photo's mean colour says half of it: the rest is what stands in the photo."""
    mean = pixels.reshape(-1, 3).mean(axis=0) + 0.02
    bright = np.percentile(pixels.reshape(-1, 3), 97, axis=0) + 0.02
    cast = np.sqrt((mean / mean.mean()) * (bright / bright.mean()) ** 2)
    cast = np.clip(cast, 0.6, 1.4) ** 0.36
    return np.asarray(cast / (cast @ LUMA))


def _slope(skin: np.ndarray) -> tuple[float, float]:
    """How much brighter the face grows from side to side and from top to bottom, relative to its mean."""
    y, x = np.indices(skin.shape)
    x, y = x / skin.shape[1] - 0.5, y / skin.shape[0] - 0.5
    mean = max(float(skin.mean()), 0.02)
    across, along = (float(np.mean(skin * axis) / np.mean(axis**2)) / mean for axis in (x, y))
    return float(np.clip(across, -0.9, 0.9)), float(np.clip(along - 0.45, -0.9, 0.1))


def _grain_and_softness(skin: np.ndarray) -> tuple[float, float]:
    fine = skin - blur(skin, 0.8)
    medium = blur(skin, 0.8) - blur(skin, 2.5)
    grain = 1.4826 * float(np.median(np.abs(fine)))
    sharpness = float(fine.std() / max(float(medium.std()), 1e-4))
    return min(grain, 0.03), float(np.clip(1.5 - 1.7 * sharpness, 0.5, 1.4))
