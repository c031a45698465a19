"""Puts a face into the competition's frame, a little differently in each shot."""

import math

import numpy as np
from PIL import Image

from mask_lightning.synthetic.masks.landmarks import FaceLandmarks
from mask_lightning.synthetic.masks.noise import blur

FRAME = (384, 512)  # width, height of the competition's photos
EYES_AT, EYE_DISTANCE = (192.0, 206.0), 138.0  # where a face stands in its frame, in pixels


def placement(size: tuple[int, int], face: FaceLandmarks) -> np.ndarray:
    """(2, 3), photo to frame: upright, in the usual place and size; a photo of the frame's size stays."""
    if size == FRAME:
        return np.array([[1.0, 0, 0], [0, 1, 0]])
    right = np.array(face.eye_right) - np.array(face.eye_left)
    turn = -math.atan2(right[1], right[0])
    return about(face.eye_centre, EYES_AT, turn, EYE_DISTANCE / face.eye_distance)


def jittered(matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another framing of the same person: shifted, tilted, nearer or farther."""
    target = (EYES_AT[0] + rng.normal(0, 7), EYES_AT[1] + rng.normal(0, 8))
    change = about(EYES_AT, target, math.radians(rng.normal(0, 2.5)), rng.uniform(0.92, 1.06))
    return np.column_stack([change[:, :2] @ matrix[:, :2], change[:, :2] @ matrix[:, 2] + change[:, 2]])


def about(source: tuple[float, float], target: tuple[float, float], turn: float, scale: float) -> np.ndarray:
    """(2, 3): turns (radians) and scales around `source`, which lands on `target`."""
    cos, sin = scale * math.cos(turn), scale * math.sin(turn)
    linear = np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([linear, np.array(target) - linear @ np.array(source)])


def framed(photo: Image.Image, matrix: np.ndarray) -> Image.Image:
    """The 384 x 512 portrait that `matrix` (photo to frame) cuts out; what lies beyond it is made up."""
    inverse = np.linalg.inv(matrix[:, :2])
    offset = -inverse @ matrix[:, 2]
    corners = np.array([(x, y) for x in (0, FRAME[0]) for y in (0, FRAME[1])]) @ inverse.T + offset
    before = np.ceil(np.maximum(0, -corners.min(axis=0))).astype(int)
    after = np.ceil(np.maximum(0, corners.max(axis=0) - photo.size)).astype(int)
    if before.any() or after.any():
        photo = _extended(photo, before, after)
    offset = offset + before
    coefficients = (*inverse[0], offset[0], *inverse[1], offset[1])
    return photo.transform(FRAME, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)


def _extended(photo: Image.Image, before: np.ndarray, after: np.ndarray) -> Image.Image:
    """The photo with (x, y) more pixels around it: its own background mirrored, ever softer outward."""
    pixels = np.asarray(photo, dtype=np.float32) / 255
    sides = ((before[1], 0), (before[0], after[0]), (0, 0))
    wide = np.pad(pixels, sides, mode="symmetric")
    # Below a crop comes the neck or the clothes: the last row goes on, a mirror would show the chin again.
    wide = np.pad(wide, ((0, after[1]), (0, 0), (0, 0)), mode="edge")
    size = max(photo.size)
    distance = _distance_outside(pixels.shape, before, after) / size
    near, far = blur(wide, 0.035 * size), blur(wide, 0.1 * size)
    far[: before[1]] = _behind_the_head(wide[before[1] :], size // 12)
    wide = wide + _ramp(distance, -0.03, 0.05) * (near - wide)
    wide = wide + _ramp(distance, 0.02, 0.18) * (far - wide)
    return Image.fromarray(np.asarray(np.clip(wide, 0, 1) * 255 + 0.5, dtype=np.uint8))


def _behind_the_head(pixels: np.ndarray, patch: int) -> np.ndarray:
    """(1, w, 3): the upper corners' colours and what lies between, for above a crop that ends in the hair."""
    left, right = pixels[:patch, :patch].mean(axis=(0, 1)), pixels[:patch, -patch:].mean(axis=(0, 1))
    across = np.linspace(0, 1, pixels.shape[1], dtype=np.float32)[None, :, None]
    return np.asarray(left + across * (right - left))


def _distance_outside(shape: tuple[int, ...], before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(h, w): pixels beyond the photo's edge, negative inside; edges that were not extended do not count."""
    outside = []
    for length, low, high in zip(shape[:2], before[::-1], after[::-1], strict=True):
        at = np.arange(low + length + high)
        beyond_low = low - at if low else np.full(len(at), -length)
        beyond_high = at - (low + length - 1) if high else np.full(len(at), -length)
        outside.append(np.maximum(beyond_low, beyond_high))
    down, across = outside
    corner = np.hypot(np.maximum(down[:, None], 0), np.maximum(across[None], 0))
    return np.asarray(np.where(corner > 0, corner, np.maximum(down[:, None], across[None])))


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((values - low) / (high - low), 0, 1)[..., None]
    return np.asarray(t * t * (3 - 2 * t))
