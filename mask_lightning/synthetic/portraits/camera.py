"""What room and camera add: an out-of-focus backdrop, light, colour, blur and noise."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from mask_lightning.synthetic.portraits.canvas import Pose
from mask_lightning.synthetic.portraits.colours import Colour, mix, shade
from mask_lightning.synthetic.portraits.conditions import Light

Floats: TypeAlias = NDArray[np.float32]

WIDTH, HEIGHT = 384, 512
OVERSAMPLING = 2

_WALLS: tuple[Colour, ...] = (
    (214, 210, 202), (178, 186, 192), (150, 162, 150), (196, 178, 158), (120, 128, 142), (226, 222, 214),
)  # fmt: skip
_TINTS: tuple[Colour, ...] = (
    (70, 92, 70), (96, 74, 58), (70, 84, 110), (236, 232, 220), (40, 42, 48), (150, 96, 80), (196, 170, 120),
)  # fmt: skip


@dataclass(frozen=True)
class Film:
    """A camera's weaknesses: blur in pixels, noise in grey levels, contrast as a factor."""

    blur: float
    noise: float
    contrast: float


def sample_film(rng: np.random.Generator) -> Film:
    """Sample a camera, mostly a decent one."""
    return Film(
        blur=float(rng.choice([0.0, 0.6, 1.1], p=(0.5, 0.35, 0.15))),
        noise=float(rng.uniform(0.8, 5.0)),
        contrast=float(rng.uniform(0.88, 1.12)),
    )


@lru_cache(maxsize=2)
def draw_backdrop(scene: int) -> Image.Image:
    """Draw a room out of focus, on a canvas ``OVERSAMPLING`` times as large as the photo."""
    # Drawn eight times smaller: enlarging it is what puts it out of focus.
    rng = np.random.default_rng(scene)
    size = (WIDTH * OVERSAMPLING // 8, HEIGHT * OVERSAMPLING // 8)
    wall = shade(_WALLS[int(rng.integers(len(_WALLS)))], float(rng.uniform(0.7, 1.08)))
    image = Image.new("RGB", size, wall)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 9))):
        x, y = rng.uniform(-10, size[0]), rng.uniform(-10, size[1])
        w, h = rng.uniform(8, 50), rng.uniform(8, 70)
        tint = _TINTS[int(rng.integers(len(_TINTS)))]
        draw_shape = draw.ellipse if rng.random() < 0.35 else draw.rectangle
        draw_shape((x, y, x + w, y + h), fill=mix(wall, tint, float(rng.uniform(0.15, 0.5))))
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(1.5, 4.0))))
    return image.resize((size[0] * 8, size[1] * 8), Image.Resampling.BILINEAR)


def develop(photo: Image.Image, *, pose: Pose, light: Light, film: Film, rng: np.random.Generator) -> Image.Image:
    """Light a drawn photo and add what a camera adds.

    Args:
        photo: 384 x 512 (width x height), RGB.
        pose: Of the head on a canvas ``OVERSAMPLING`` times as large.
        light: Of the room.
        film: Of the camera.
        rng: Of the noise.
    """
    if film.blur:
        photo = photo.filter(ImageFilter.GaussianBlur(film.blur))
    warm = np.array([1 + 0.09 * light.warmth, 1.0, 1 - 0.11 * light.warmth], dtype=np.float32)
    pixels: Floats = np.array(photo, dtype=np.float32)
    pixels *= _illumination(pose, light)[..., None]
    pixels *= warm * np.float32(light.exposure * film.contrast)
    grain = rng.standard_normal((HEIGHT, WIDTH, 1), dtype=np.float32) * np.float32(film.noise)
    tints = rng.standard_normal((HEIGHT // 4, WIDTH // 4, 3), dtype=np.float32) * np.float32(0.5 * film.noise)
    # Contrast turns around the middle of the greys.
    pixels += grain + np.float32(118.0 * (1.0 - film.contrast))
    pixels += tints.repeat(4, 0).repeat(4, 1)
    return Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))


def _illumination(pose: Pose, light: Light) -> Floats:
    # The head is lit as an ellipsoid, all else by a gradient; smooth, so a quarter of the size will do.
    rows, columns = np.mgrid[2:HEIGHT:4, 2:WIDTH:4].astype(np.float32)
    x = (columns - pose.x / OVERSAMPLING) * OVERSAMPLING / pose.scale
    y = (rows - pose.y / OVERSAMPLING) * OVERSAMPLING / pose.scale
    cos, sin = math.cos(-pose.tilt), math.sin(-pose.tilt)
    side, height = (cos * x - sin * y) / 1.14, (sin * x + cos * y + 0.06) / 1.56
    radius = side**2 + height**2
    depth = np.sqrt(np.clip(1.0 - radius, 0.0, 1.0))
    facing = (side * light.x + height * light.y + depth * 0.9) / math.hypot(light.x, light.y, 0.9)
    # The light on the rim goes over into that of the room, lest the head wear a halo.
    inside = np.clip((1.05 - radius) / 0.35, 0, 1)
    head = 1.0 + light.strength * 0.40 * (np.clip(facing, -0.2, 1.0) - 0.84)
    room = 1.0 + light.strength * 0.08 * np.clip(x * light.x - 0.5 * y * light.y - 0.6, -2, 2)
    field = Image.fromarray((inside * head + (1 - inside) * room).astype(np.float32))
    return np.asarray(field.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.float32)
