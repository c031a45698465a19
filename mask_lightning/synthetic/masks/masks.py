"""Draws one mask on a photo of a face: shape, cloth, the photo's own light, shadow, straps, grain."""

from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageDraw

from mask_lightning.synthetic.masks.cloth import ClothGrid, make_cloth
from mask_lightning.synthetic.masks.landmarks import FaceLandmarks
from mask_lightning.synthetic.masks.light import PhotoLight, read_light
from mask_lightning.synthetic.masks.noise import blur
from mask_lightning.synthetic.masks.outlines import OUTLINES, Outline
from mask_lightning.synthetic.masks.straps import strap_look
from mask_lightning.synthetic.masks.surface import Surface, mask_coordinates
from mask_lightning.synthetic.masks.wearing import Worn, put_on

MaskKind = Literal["surgical", "cloth", "kn95", "fabric", "cone", "patterned"]
MASK_KINDS: tuple[MaskKind, ...] = get_args(MaskKind)

OVERSAMPLE = 2  # edges and folds are drawn finer and scaled down
Box = tuple[int, int, int, int]


def draw_mask(
    photo: Image.Image, face: FaceLandmarks, *, kind: MaskKind, worn: Worn, rng: np.random.Generator
) -> Image.Image:
    """The RGB photo with a mask on it; everything outside the mask and its shadow stays as it is."""
    pixels = np.asarray(photo.convert("RGB"), dtype=np.float32) / 255
    light = read_light(pixels, face)
    outline = OUTLINES[kind]
    surface, straps = put_on(kind, worn, outline, face, rng)
    polygon = surface.to_pixels(outline.polygon())
    box = _box_around([polygon, *straps], photo.size, margin=0.15 * face.eye_distance)
    cover = _rasterise([polygon], box, width=None)
    strap_width, strap_colour = strap_look(kind)
    strings = _rasterise(straps, box, width=strap_width * face.eye_distance)
    mask = _lit_mask(kind, outline, surface, cover, box, light, face.eye_distance, rng)
    patch = pixels[box[1] : box[3], box[0] : box[2]]
    patch = _with_shadow(patch, np.maximum(cover, 0.7 * strings), light, face.eye_distance)
    patch = _over(patch, strap_colour * _illumination(light, box), strings * (1 - cover), light, rng)
    pixels = pixels.copy()
    pixels[box[1] : box[3], box[0] : box[2]] = _over(patch, mask, cover, light, rng)
    return Image.fromarray(np.asarray(np.clip(pixels, 0, 1) * 255 + 0.5, dtype=np.uint8))


def _lit_mask(
    kind: MaskKind,
    outline: Outline,
    surface: Surface,
    cover: np.ndarray,
    box: Box,
    light: PhotoLight,
    unit: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """(h, w, 3): the cloth in the photo's light, for all pixels of the box."""
    size = ((box[2] - box[0]) * OVERSAMPLE, (box[3] - box[1]) * OVERSAMPLE)
    points = mask_coordinates(surface, box[:2], size, 1 / OVERSAMPLE)
    s, t = outline.cloth(points)
    cloth = make_cloth(kind, ClothGrid(points[..., 0], points[..., 1], s, t, rng))
    shade = _shading(cloth.relief * unit * OVERSAMPLE, light)
    colour = _scaled_down(cloth.colour * shade[..., None])
    # Towards its edges the cloth is thin, hemmed and turned away.
    rim = 0.82 + 0.18 * np.clip(blur(cover, 0.03 * unit) * 2 - 1, 0, 1)
    return np.asarray(colour * rim[..., None] * _illumination(light, box))


def _shading(relief: np.ndarray, light: PhotoLight) -> np.ndarray:
    """(h, w), 1 where the cloth faces the camera: a soft light from where the face is brightest."""
    down, across = np.gradient(relief)
    down, across = np.clip(down, -3, 3), np.clip(across, -3, 3)
    facing = 1 - across * light.slope[0] - down * light.slope[1]
    facing = facing / np.sqrt(1 + across**2 + down**2)
    return np.asarray(np.clip(0.5 + 0.5 * facing, 0.3, 1.18))


def _illumination(light: PhotoLight, box: Box) -> np.ndarray:
    field = light.field[box[1] : box[3], box[0] : box[2], None]
    return np.asarray(np.clip(field * light.level, 0.05, 1.05) * light.tint)


def _with_shadow(patch: np.ndarray, cover: np.ndarray, light: PhotoLight, unit: float) -> np.ndarray:
    """A soft shadow around the mask, on the side away from the light."""
    shift = np.array([-light.slope[1], -light.slope[0]]) * 0.05 * unit
    moved = np.roll(cover, np.round(shift).astype(int), axis=(0, 1))
    close, wide = blur(moved, 0.02 * unit), blur(moved, 0.06 * unit)
    return np.asarray(patch * (1 - 0.3 * close - 0.25 * wide)[..., None])


def _over(
    patch: np.ndarray,
    colour: np.ndarray,
    cover: np.ndarray,
    light: PhotoLight,
    rng: np.random.Generator,
) -> np.ndarray:
    """`colour` laid over `patch`, as soft and as grainy as the photo."""
    grain = blur(rng.standard_normal(patch.shape[:2], dtype=np.float32), 0.6) * light.grain * 1.6
    alpha = blur(cover, light.softness * 0.7)[..., None]
    return np.asarray(patch + alpha * (blur(colour, light.softness) + grain[..., None] - patch))


def _rasterise(shapes: list[np.ndarray], box: Box, *, width: float | None) -> np.ndarray:
    """(h, w) in 0..1: filled polygons, or lines if a width in pixels is given."""
    scale = 2 * OVERSAMPLE
    size = (box[2] - box[0], box[3] - box[1])
    image = Image.new("L", (size[0] * scale, size[1] * scale))
    draw = ImageDraw.Draw(image)
    for shape in shapes:
        points = [(float(x), float(y)) for x, y in (shape - box[:2]) * scale]
        if width is None:
            draw.polygon(points, fill=255)
        else:
            draw.line(points, fill=255, width=max(scale, round(width * scale)), joint="curve")
    return np.asarray(image.resize(size, Image.Resampling.BOX), dtype=np.float32) / 255


def _scaled_down(values: np.ndarray) -> np.ndarray:
    height, width = values.shape[0] // OVERSAMPLE, values.shape[1] // OVERSAMPLE
    return np.asarray(values.reshape(height, OVERSAMPLE, width, OVERSAMPLE, -1).mean(axis=(1, 3)))


def _box_around(shapes: list[np.ndarray], size: tuple[int, int], *, margin: float) -> Box:
    """The part of the photo that a mask and its shadow can touch."""
    points = np.concatenate(shapes)
    low = np.clip(points.min(axis=0) - margin, 0, np.array(size) - 16).astype(int)
    high = np.clip(points.max(axis=0) + margin, low + 16, size).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
