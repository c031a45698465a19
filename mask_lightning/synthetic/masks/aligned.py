"""Where a face lies in an aligned crop, and whether there is one.

Face sets are published as crops that put the eyes at a fixed place. A schematic face (dark eyes, brows and
mouth, bright cheeks and nose) is compared with the photo around that place: the best match says how far
this face is off it, a poor match that nobody is there.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

GRID = 24  # pixels per eye distance in which faces are compared
REACH = 5  # a face is looked for this many grid pixels around its place
MATCH_SURE, MATCH_WITH_SKIN, SKIN_SHARE = 0.25, 0.08, 0.3

# The average face around the middle of its eyes, in eye distances (outer corner to outer corner).
AVERAGE_FACE = {
    "eye_left": (-0.5, 0.0),
    "eye_right": (0.5, 0.0),
    "bridge": (0.0, 0.035),
    "nose_tip": (0.0, 0.425),
    "mouth_left": (-0.316, 0.69),
    "mouth_right": (0.316, 0.69),
    "chin": (0.0, 1.206),
    "jaw_left": (-0.61, 0.823),
    "jaw_right": (0.61, 0.823),
    "ear_left": (-0.752, 0.19),
    "ear_right": (0.752, 0.19),
}

# (x, y, width, height, brightness) of the soft spots that make up the schematic face, in eye distances.
SPOTS = (
    (-0.345, 0.0, 0.13, 0.07, -1.0),
    (0.345, 0.0, 0.13, 0.07, -1.0),
    (-0.37, -0.2, 0.17, 0.05, -0.6),
    (0.37, -0.2, 0.17, 0.05, -0.6),
    (0.0, 0.69, 0.22, 0.05, -0.8),
    (-0.1, 0.47, 0.06, 0.04, -0.5),
    (0.1, 0.47, 0.06, 0.04, -0.5),
    (0.0, 0.25, 0.07, 0.2, 0.5),
    (-0.42, 0.36, 0.15, 0.13, 0.5),
    (0.42, 0.36, 0.15, 0.13, 0.5),
    (0.0, -0.35, 0.35, 0.1, 0.4),
    (0.0, 0.95, 0.2, 0.08, 0.3),
)
# The schematic eyes (with lids and brows) sit a little lower than the corners that are measured.
SPOT_OFFSET = (0.017, 0.031)


@dataclass(frozen=True)
class AlignedCrop:
    """The middle of the eyes (x by width, y by height) and the eye distance (by width) in a set's crops."""

    eye_x: float
    eye_y: float
    eye_distance: float


# dlib's face chips (FairFace): eye corners .739 of a box apart, .2135 below its top; padding widens the box.
CROPS = {
    "fairface_025": AlignedCrop(eye_x=0.493, eye_y=0.309, eye_distance=0.493),
    "fairface_125": AlignedCrop(eye_x=0.497, eye_y=0.418, eye_distance=0.211),
    "utkface": AlignedCrop(eye_x=0.5, eye_y=0.42, eye_distance=0.43),
    "portrait": AlignedCrop(eye_x=0.5, eye_y=0.402, eye_distance=0.367),
}


@dataclass(frozen=True)
class FaceMatch:
    """A face found around its place: middle and distance of the eyes in pixels, likeness (-1 to 1)."""

    x: float
    y: float
    eye_distance: float
    score: float


def match_face(photo: Image.Image, crop: AlignedCrop) -> FaceMatch | None:
    """The face near the crop's place in an RGB photo, or None if nothing there looks like one."""
    width, height = photo.size
    x, y, unit = crop.eye_x * width, crop.eye_y * height, crop.eye_distance * width
    scores = _scores_around(photo, x, y, unit)
    dy, dx = (np.indices(scores.shape) - REACH) / GRID
    best = np.unravel_index(np.argmax(scores - dx**2 - dy**2), scores.shape)
    score = float(scores[best])
    if score < MATCH_WITH_SKIN or (score < MATCH_SURE and _skin_share(photo, x, y, unit) < SKIN_SHARE):
        return None
    x += (float(dx[best]) + SPOT_OFFSET[0]) * unit
    y += (float(dy[best]) + SPOT_OFFSET[1]) * unit
    return FaceMatch(x, y, unit, score)


def aligned_points(match: FaceMatch) -> dict[str, tuple[float, float]]:
    """The average face's points in pixels, at the place and size of `match`."""
    unit = match.eye_distance
    return {name: (match.x + x * unit, match.y + y * unit) for name, (x, y) in AVERAGE_FACE.items()}


def _scores_around(photo: Image.Image, x: float, y: float, unit: float) -> np.ndarray:
    face = _schematic_face()
    height, width = face.shape[0] + 2 * REACH, face.shape[1] + 2 * REACH
    step = unit / GRID
    corner = (x - 0.7 * unit - REACH * step, y - 0.45 * unit - REACH * step)
    smooth = photo.convert("L").filter(ImageFilter.GaussianBlur(step / 3))
    matrix = (step, 0, corner[0], 0, step, corner[1])
    patch = smooth.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    windows = np.lib.stride_tricks.sliding_window_view(_local_contrast(patch), face.shape)
    windows = windows - windows.mean((-1, -2), keepdims=True)
    lengths = np.sqrt((windows**2).sum((-1, -2)))
    return np.asarray(np.einsum("abij,ij->ab", windows, face) / np.maximum(lengths, 1e-6))


def _local_contrast(patch: Image.Image) -> np.ndarray:
    """The patch without its light: each pixel against its surroundings, in units of the contrast there."""
    grey = np.asarray(patch, dtype=np.float32) / 255
    detail = _blurred(grey, GRID * 0.03) - _blurred(grey, GRID * 0.45)
    return np.asarray(detail / np.sqrt(_blurred(detail**2, GRID * 0.6) + 1e-4))


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    reach = max(1, round(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    for axis in (0, 1):
        padded = np.pad(values, [(reach, reach) if i == axis else (0, 0) for i in (0, 1)], mode="symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(weights), axis=axis)
        values = np.asarray(windows @ (weights / weights.sum()))
    return values


@lru_cache(maxsize=1)
def _schematic_face() -> np.ndarray:
    y, x = np.mgrid[-0.45 : 1.15 : 1 / GRID, -0.7 : 0.7001 : 1 / GRID]
    spots = [w * np.exp(-(((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2) / 2) for cx, cy, sx, sy, w in SPOTS]
    face = np.sum(spots, axis=0)
    face -= face.mean()
    return np.asarray(face / np.linalg.norm(face))


def _skin_share(photo: Image.Image, x: float, y: float, unit: float) -> float:
    """How much of the face's middle has a colour between red and yellow, as skin of every tone has."""
    box = (int(x - 0.5 * unit), int(y), int(x + 0.5 * unit), int(y + 0.9 * unit))
    red, green, blue = np.asarray(photo.convert("RGB").crop(box), dtype=np.float32).reshape(-1, 3).T
    return float(np.mean((red > green) & (green > 0.9 * blue) & (red > 1.1 * blue)))
