"""Render a mask on a photo: shape, cloth, shadow and straps, in the light and with the grain of the photo."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from mask_lightning.synthetic.canvas import blur, draw_shape, to_image, to_pixels
from mask_lightning.synthetic.masks.cloth import ClothGrid, make_cloth
from mask_lightning.synthetic.masks.landmarks import FaceLandmarks
from mask_lightning.synthetic.masks.shapes import (
    OUTLINES,
    MaskKind,
    Outline,
    Surface,
    Worn,
    fit_mask,
    mask_coordinates,
    strap_look,
)

OVERSAMPLE = 2  # resolution of the cloth: samples per pixel in each direction
Box = tuple[int, int, int, int]  # left, top, right, bottom
DARK = 0.35  # brightness below which a mask's straps have its colour
LUMA = np.array([0.299, 0.587, 0.114])  # weights of red, green and blue


@dataclass(frozen=True)
class PhotoLight:
    """Light and image quality of a photo.

    Attributes:
        level: Brightness of white cloth, 0 to 1.
        tint: (3,), colour of white cloth at brightness 1.
        slope: Relative increase of the brightness across and along the face.
        field: (H, W), brightness at each pixel relative to the face.
        grain: Standard deviation of the noise, of 1.
        softness: Blur of the photo, in pixels.
    """

    level: float
    tint: np.ndarray
    slope: tuple[float, float]
    field: np.ndarray
    grain: float
    softness: float


def draw_mask(
    photo: Image.Image, face: FaceLandmarks, *, kind: MaskKind, worn: Worn, rng: np.random.Generator
) -> Image.Image:
    """Draw a mask on the face in a photo.

    Args:
        photo: RGB.
        face: Landmarks in pixels of the photo.
        kind: Kind of mask.
        worn: How it is worn.
        rng: Source of randomness: colour, folds and position.

    Returns:
        Photo with the mask; pixels away from mask, straps and shadow are unchanged.
    """
    pixels = to_pixels(photo)
    light = estimate_light(pixels, face)
    outline = OUTLINES[kind]
    surface, straps = fit_mask(kind, worn, outline, face, rng)
    polygon = surface.to_pixels(outline.polygon())
    box = _bounding_box([polygon, *straps], photo.size, margin=0.15 * face.eye_distance)
    cover = _rasterise([polygon], box, width=None)
    strap_width, strap_colour = strap_look(kind)
    straps_cover = _rasterise(straps, box, width=strap_width * face.eye_distance)
    mask, dye = _render_cloth(kind, outline, surface, cover, box, light, face.eye_distance, rng)
    if dye @ LUMA < DARK:
        strap_colour = dye
    patch = pixels[box[1] : box[3], box[0] : box[2]]
    patch = _add_shadow(patch, np.maximum(cover, 0.7 * straps_cover), light, face.eye_distance)
    patch = _composite(patch, strap_colour * _light_in(light, box), straps_cover * (1 - cover), light, rng)
    pixels = pixels.copy()
    pixels[box[1] : box[3], box[0] : box[2]] = _composite(patch, mask, cover, light, rng)
    return to_image(pixels)


def _render_cloth(
    kind: MaskKind,
    outline: Outline,
    surface: Surface,
    cover: np.ndarray,
    box: Box,
    light: PhotoLight,
    unit: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Cloth in the light of the photo, (H, W, 3) for all pixels of the box, and its mean colour (3,) in white light."""
    size = ((box[2] - box[0]) * OVERSAMPLE, (box[3] - box[1]) * OVERSAMPLE)
    points = mask_coordinates(surface, box[:2], size, 1 / OVERSAMPLE)
    s, t = outline.cloth(points)
    cloth = make_cloth(kind, ClothGrid(points[..., 0], points[..., 1], s, t, rng))
    shade = _shade(cloth.relief * unit * OVERSAMPLE, light)
    sheen = rng.uniform(0, 0.09) * np.clip(shade, 0, 1.1) ** 8  # which shows the folds of black cloth
    colour = _reduce(cloth.colour * shade[..., None] + sheen[..., None])
    # The cloth is darker near its edges, where it turns away from the camera.
    rim = 0.82 + 0.18 * np.clip(blur(cover, 0.03 * unit) * 2 - 1, 0, 1)
    return np.asarray(colour * rim[..., None] * _light_in(light, box)), cloth.colour.mean(axis=(0, 1))


def _shade(relief: np.ndarray, light: PhotoLight) -> np.ndarray:
    """Brightness factor (H, W) of a relief in soft light from the direction where the face is brightest."""
    down, across = np.gradient(relief)
    down, across = np.clip(down, -3, 3), np.clip(across, -3, 3)
    facing = 1 - across * light.slope[0] - down * light.slope[1]
    facing = facing / np.sqrt(1 + across**2 + down**2)
    return np.asarray(np.clip(0.5 + 0.5 * facing, 0.3, 1.18))


def _light_in(light: PhotoLight, box: Box) -> np.ndarray:
    field = light.field[box[1] : box[3], box[0] : box[2], None]
    return np.asarray(np.clip(field * light.level, 0.05, 1.05) * light.tint)


def _add_shadow(patch: np.ndarray, cover: np.ndarray, light: PhotoLight, unit: float) -> np.ndarray:
    """Darken the photo around the mask, mainly on the side away from the light."""
    shift = np.array([-light.slope[1], -light.slope[0]]) * 0.05 * unit
    moved = np.roll(cover, np.round(shift).astype(int), axis=(0, 1))
    close, wide = blur(moved, 0.02 * unit), blur(moved, 0.06 * unit)
    return np.asarray(patch * (1 - 0.3 * close - 0.25 * wide)[..., None])


def _composite(
    patch: np.ndarray,
    colour: np.ndarray,
    cover: np.ndarray,
    light: PhotoLight,
    rng: np.random.Generator,
) -> np.ndarray:
    """Lay `colour` over `patch` where `cover` is 1, as soft and as grainy as the photo."""
    grain = blur(rng.standard_normal(patch.shape[:2], dtype=np.float32), 0.6) * light.grain * 1.6
    alpha = blur(cover, light.softness * 0.7)[..., None]
    return np.asarray(patch + alpha * (blur(colour, light.softness) + grain[..., None] - patch))


def _rasterise(shapes: list[np.ndarray], box: Box, *, width: float | None) -> np.ndarray:
    """Coverage (H, W) in [0, 1] by filled polygons, or by lines if `width` in pixels is given."""
    scale = 2 * OVERSAMPLE
    size = (box[2] - box[0], box[3] - box[1])
    image = Image.new("L", (size[0] * scale, size[1] * scale))
    for shape in shapes:
        draw_shape(image, (shape - box[:2]) * scale, 255, width=None if width is None else max(width, 1) * scale)
    return np.asarray(image.resize(size, Image.Resampling.BOX), dtype=np.float32) / 255


def _reduce(values: np.ndarray) -> np.ndarray:
    height, width = values.shape[0] // OVERSAMPLE, values.shape[1] // OVERSAMPLE
    return np.asarray(values.reshape(height, OVERSAMPLE, width, OVERSAMPLE, -1).mean(axis=(1, 3)))


def _bounding_box(shapes: list[np.ndarray], size: tuple[int, int], *, margin: float) -> Box:
    """Part of the photo that a mask and its shadow can change, at least 16 pixels wide and high."""
    points = np.concatenate(shapes)
    low = np.clip(points.min(axis=0) - margin, 0, np.array(size) - 16).astype(int)
    high = np.clip(points.max(axis=0) + margin, low + 16, size).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def estimate_light(pixels: np.ndarray, face: FaceLandmarks) -> PhotoLight:
    """Estimate the light on a face in a float image (H, W, 3) in [0, 1]."""
    unit = face.eye_distance
    grey = pixels @ LUMA
    window = _face_window(face, grey.shape)
    skin = grey[window]
    field = blur(grey, 0.28 * unit) / max(float(skin.mean()), 0.02)
    bright, photo = np.percentile(skin, 90), np.percentile(grey, 97)
    grain, softness = _grain_and_softness(skin)
    return PhotoLight(
        level=float(np.clip(0.8 * max(bright, 0.2) ** 0.5 + 0.4 * photo, 0.3, 1.1)),
        tint=_tint(pixels),
        slope=_slope(skin),
        field=np.clip(field, 0.3, 1.6) ** 0.5,
        grain=grain,
        softness=softness,
    )


def _face_window(face: FaceLandmarks, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns from eye to eye and from brow to chin, inside the photo and never empty."""
    (x, y), unit = face.eye_centre, face.eye_distance
    left, top = int(np.clip(x - 0.55 * unit, 0, shape[1] - 9)), int(np.clip(y - 0.1 * unit, 0, shape[0] - 9))
    right, bottom = int(max(x + 0.55 * unit, left + 8)), int(max(y + 1.05 * unit, top + 8))
    return slice(top, bottom), slice(left, right)


def _tint(pixels: np.ndarray) -> np.ndarray:
    """Colour of the light: the cast of the mean and of the bright pixels, damped because objects have colours, too."""
    mean = pixels.reshape(-1, 3).mean(axis=0) + 0.02
    bright = np.percentile(pixels.reshape(-1, 3), 97, axis=0) + 0.02
    cast = np.sqrt((mean / mean.mean()) * (bright / bright.mean()) ** 2)
    cast = np.clip(cast, 0.6, 1.4) ** 0.15  # a close-up has the colour of skin, not of the light
    return np.asarray(cast / (cast @ LUMA))


def _slope(skin: np.ndarray) -> tuple[float, float]:
    """Relative increase of the brightness from left to right and from top to bottom of the face."""
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
