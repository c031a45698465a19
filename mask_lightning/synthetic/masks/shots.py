"""Draw the shots of one person: up to five masks worn right, one worn wrong, none.

Each shot has its own framing, light and camera.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image

from mask_lightning.data.index import SHOTS
from mask_lightning.synthetic.canvas import blur, to_image, to_pixels
from mask_lightning.synthetic.layout import PHOTO_SIZE
from mask_lightning.synthetic.masks.landmarks import FaceLandmarks
from mask_lightning.synthetic.masks.render import draw_mask
from mask_lightning.synthetic.masks.shapes import MaskKind, Worn

EYES_AT, EYE_DISTANCE = (192.0, 206.0), 138.0  # place and size of a face in a shot, in pixels
COARSE_SHARE = 0.3  # of the portraits have a lower resolution
TIGHT_SHARE = 0.3  # of the portraits end close to the face
T = TypeVar("T")

# Probabilities of the kinds; a person may own several masks of one kind.
KIND_SHARES: dict[MaskKind, float] = {
    "surgical": 0.32,
    "kn95": 0.18,
    "fabric": 0.16,
    "cloth": 0.11,
    "patterned": 0.12,
    "cone": 0.06,
    "gaiter": 0.05,
}
# Probabilities of the wrong ways to wear a mask.
WRONG_SHARES: dict[Worn, float] = {"nose_out": 0.4, "chin": 0.34, "eyes": 0.12, "one_ear": 0.14}


@dataclass(frozen=True)
class Shot:
    """Plan of one shot: the stem of its file, the mask and how it is worn (both None without a mask)."""

    name: str
    kind: MaskKind | None
    worn: Worn | None


@dataclass(frozen=True)
class DrawnShot:
    """One drawn shot.

    Attributes:
        shot: Its plan.
        portrait: RGB, 384 x 512 (width x height).
        quality: JPEG quality to save it with.
        source: Index of the photo it was drawn on, among the person's photos.
    """

    shot: Shot
    portrait: Image.Image
    quality: int
    source: int


def plan_shots(rng: np.random.Generator) -> list[Shot]:
    """Choose the masks of the seven shots."""
    kinds = rng.choice(list(KIND_SHARES), size=6, p=list(KIND_SHARES.values()))
    worn = rng.choice(list(WRONG_SHARES), p=list(WRONG_SHARES.values()))
    if kinds[5] == "gaiter" and worn in ("eyes", "one_ear"):  # a tube around the neck
        worn = np.str_("nose_out")
    right = [Shot(name, kind.item(), "right") for name, kind in zip(SHOTS, kinds[:5], strict=False)]
    return [*right, Shot("incorrect_mask", kinds[5].item(), worn.item()), Shot("normal", None, None)]


def select_shots(shots: Sequence[T], masks: int) -> list[T]:
    """Select the first `masks` of the five masks worn right, and the other two of the seven shots (or of their parts).

    Example:
        >>> select_shots(SHOTS, masks=1)
        ['mask1', 'incorrect_mask', 'normal']
    """
    return [*shots[:masks], *shots[5:]]


def draw_shots(
    photos: Sequence[tuple[Image.Image, FaceLandmarks]], *, person_id: str, seed: int, masks: int = 5
) -> Iterator[DrawnShot]:
    """Draw the shots of one person, using the photos in turn.

    Args:
        photos: RGB photos of the person, each with its landmarks.
        person_id: Together with `seed` it determines the result.
        seed: Seed of the folder.
        masks: Number of shots with a mask worn right, 1 to 5. With fewer, the other shots are drawn the same.
    """
    digest = hashlib.sha256(person_id.encode()).digest()
    rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
    planned = plan_shots(rng)
    pairs = list(zip(planned, rng.spawn(len(planned)), strict=True))
    for i, (shot, shot_rng) in enumerate(select_shots(pairs, masks)):
        source = i % len(photos)
        portrait = draw_shot(*photos[source], shot, shot_rng)
        yield DrawnShot(shot, portrait, int(shot_rng.integers(60, 96)), source)


def draw_shot(photo: Image.Image, face: FaceLandmarks, shot: Shot, rng: np.random.Generator) -> Image.Image:
    """Draw one shot (RGB, 384 x 512) with random framing, light and camera."""
    matrix = jitter_frame(frame_matrix(photo.size, face), rng)
    portrait, placed = cut_frame(photo, matrix), face.moved(matrix)
    if shot.kind is not None and shot.worn is not None:
        portrait = draw_mask(portrait, placed, kind=shot.kind, worn=shot.worn, rng=rng)
    if rng.random() < TIGHT_SHARE:
        portrait = _end_at_the_face(portrait, placed, rng)
    return vary_exposure(portrait, rng)


def _end_at_the_face(portrait: Image.Image, face: FaceLandmarks, rng: np.random.Generator) -> Image.Image:
    """Repeat the pixels at the border of the face outward, as `faces.alignment.align` does beyond a photo."""
    (x, y), unit = face.eye_centre, face.eye_distance
    left, right = (rng.uniform(0.7, 1.1) * unit for _ in range(2))
    top, bottom = rng.uniform(0.35, 0.9) * unit, rng.uniform(1.15, 1.5) * unit
    low = np.clip(np.round([x - left, y - top]), 0, np.array(portrait.size) - 8).astype(int)
    high = np.clip(np.round([x + right, y + bottom]), low + 8, portrait.size).astype(int)
    inner = np.asarray(portrait)[low[1] : high[1], low[0] : high[0]]
    margins = ((low[1], portrait.height - high[1]), (low[0], portrait.width - high[0]), (0, 0))
    return Image.fromarray(np.pad(inner, margins, mode="edge"))


def frame_matrix(size: tuple[int, int], face: FaceLandmarks) -> np.ndarray:
    """Affine map (2, 3) from a photo to an upright face at the usual place; the identity for portraits of 384 x 512."""
    near = math.dist(face.eye_centre, EYES_AT) < 0.5 * EYE_DISTANCE
    if size == PHOTO_SIZE and near and 0.6 < face.eye_distance / EYE_DISTANCE < 1.6:
        return np.array([[1.0, 0, 0], [0, 1, 0]])
    right = np.array(face.eye_right) - np.array(face.eye_left)
    turn = -math.atan2(right[1], right[0])
    return similarity(face.eye_centre, EYES_AT, turn, EYE_DISTANCE / face.eye_distance)


def jitter_frame(matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Affine map (2, 3) varied by a small shift, rotation and scale."""
    target = (EYES_AT[0] + rng.normal(0, 7), EYES_AT[1] + rng.normal(0, 8))
    change = similarity(EYES_AT, target, math.radians(rng.normal(0, 2.5)), rng.uniform(0.92, 1.06))
    return np.column_stack([change[:, :2] @ matrix[:, :2], change[:, :2] @ matrix[:, 2] + change[:, 2]])


def similarity(source: tuple[float, float], target: tuple[float, float], turn: float, scale: float) -> np.ndarray:
    """Affine map (2, 3) that rotates by `turn` (radians), scales, and maps `source` to `target`."""
    cos, sin = scale * math.cos(turn), scale * math.sin(turn)
    linear = np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([linear, np.array(target) - linear @ np.array(source)])


def cut_frame(photo: Image.Image, matrix: np.ndarray) -> Image.Image:
    """Cut the frame of 384 x 512 out of a photo; areas outside the photo are filled with a soft background.

    Args:
        photo: RGB.
        matrix: Affine map (2, 3) from photo to frame.
    """
    inverse = np.linalg.inv(matrix[:, :2])
    offset = -inverse @ matrix[:, 2]
    corners = np.array([(x, y) for x in (0, PHOTO_SIZE[0]) for y in (0, PHOTO_SIZE[1])]) @ inverse.T + offset
    before = np.ceil(np.maximum(0, -corners.min(axis=0))).astype(int)
    after = np.ceil(np.maximum(0, corners.max(axis=0) - photo.size)).astype(int)
    if before.any() or after.any():
        photo = _extend(photo, before, after)
    offset = offset + before
    coefficients = (*inverse[0], offset[0], *inverse[1], offset[1])
    return photo.transform(PHOTO_SIZE, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)


def _extend(photo: Image.Image, before: np.ndarray, after: np.ndarray) -> Image.Image:
    """Extend a photo by (x, y) pixels before and after, with its mirrored background, softer further outside."""
    pixels = to_pixels(photo)
    sides = ((before[1], 0), (before[0], after[0]), (0, 0))
    wide = np.pad(pixels, sides, mode="symmetric")
    # Repeat the last row below the photo (neck or clothes): a mirror would show the chin again.
    wide = np.pad(wide, ((0, after[1]), (0, 0), (0, 0)), mode="edge")
    size = max(photo.size)
    distance = _distance_outside(pixels.shape, before, after) / size
    near, far = blur(wide, 0.035 * size), blur(wide, 0.1 * size)
    far[: before[1]] = _background_above(wide[before[1] :], size // 12)
    wide = wide + _ramp(distance, -0.03, 0.05) * (near - wide)
    wide = wide + _ramp(distance, 0.02, 0.18) * (far - wide)
    return to_image(wide)


def _background_above(pixels: np.ndarray, patch: int) -> np.ndarray:
    """Background (1, W, 3) above a photo that ends in the hair: a gradient between its upper corners."""
    left, right = pixels[:patch, :patch].mean(axis=(0, 1)), pixels[:patch, -patch:].mean(axis=(0, 1))
    across = np.linspace(0, 1, pixels.shape[1], dtype=np.float32)[None, :, None]
    return np.asarray(left + across * (right - left))


def _distance_outside(shape: tuple[int, ...], before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Distance (H, W) outside the photo in pixels, negative inside; only extended edges count."""
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


def vary_exposure(portrait: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Vary light and camera of a portrait: brightness, colour temperature, a lamp at one side, blur and grain."""
    pixels = to_pixels(portrait)
    pixels = pixels ** float(np.exp(rng.normal(0, 0.1)))
    warmth = rng.normal(0, 0.045)
    pixels = pixels * np.array([1 + warmth, 1 + rng.normal(0, 0.012), 1 - warmth], dtype=np.float32)
    pixels = pixels * _lamp_light(pixels.shape, rng)[..., None]
    grey = pixels.mean(axis=-1, keepdims=True)
    pixels = grey + (pixels - grey) * rng.uniform(0.85, 1.12)
    if rng.random() < 0.3:
        pixels = blur(pixels, rng.uniform(0.4, 0.9))
    grain = rng.uniform(0, 0.014)
    pixels = pixels + grain * rng.standard_normal(pixels.shape, dtype=np.float32)
    return _coarsen(to_image(pixels), rng)


def _coarsen(portrait: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Reduce the resolution of some portraits, as of faces that are small in their photo."""
    if rng.random() > COARSE_SHARE:
        return portrait
    factor = rng.uniform(1.5, 4)
    small = portrait.resize((round(portrait.width / factor), round(portrait.height / factor)), Image.Resampling.BOX)
    return small.resize(portrait.size, Image.Resampling.BICUBIC)


def _lamp_light(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Brightness factor (H, W) of about 1, brighter on one side."""
    across, along = np.linspace(-0.5, 0.5, shape[1]), np.linspace(-0.5, 0.5, shape[0])[:, None]
    lamp = rng.normal(0, 0.09) + rng.normal(0, 0.16) * across + rng.normal(0, 0.08) * along
    return np.asarray(np.exp(lamp), dtype=np.float32)
