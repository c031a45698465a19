"""Sample and apply what room and camera add to a portrait: backdrop, light, colour, blur and noise."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from mask_lightning.synthetic.canvas import Colour, Pose, mix, shade
from mask_lightning.synthetic.layout import PHOTO_SIZE

Floats: TypeAlias = NDArray[np.float32]

WIDTH, HEIGHT = PHOTO_SIZE
OVERSAMPLING = 2  # canvas pixels per pixel of the photo, in each direction

_WALLS: tuple[Colour, ...] = (
    (214, 210, 202), (178, 186, 192), (150, 162, 150), (196, 178, 158), (120, 128, 142), (226, 222, 214),
)  # fmt: skip
_TINTS: tuple[Colour, ...] = (
    (70, 92, 70), (96, 74, 58), (70, 84, 110), (236, 232, 220), (40, 42, 48), (150, 96, 80), (196, 170, 120),
)  # fmt: skip


@dataclass(frozen=True)
class Light:
    """Light of one photo.

    Attributes:
        x: Direction: -1 from the left of the photo, 1 from the right.
        y: Direction: -1 from above, 1 from below.
        strength: 0 leaves the face flat, 1 gives strong shadows.
        warmth: Colour temperature: -1 is blue, 1 is orange.
        exposure: Brightness factor.
    """

    x: float
    y: float
    strength: float
    warmth: float
    exposure: float


@dataclass(frozen=True)
class Camera:
    """Image quality of a camera: blur in pixels, noise in grey levels of 255, contrast as a factor."""

    blur: float
    noise: float
    contrast: float


def sample_light(rng: np.random.Generator) -> Light:
    """Sample a light that comes from above, from the left or the right."""
    return Light(
        x=float(rng.choice([-1, 1]) * rng.uniform(0.1, 1.0)),
        y=float(rng.uniform(-0.8, 0.0)),
        strength=float(rng.uniform(0.1, 1.0)),
        warmth=float(np.clip(rng.normal(0.1, 0.4), -1, 1)),
        exposure=float(np.clip(rng.normal(0.97, 0.10), 0.70, 1.12)),
    )


def sample_camera(rng: np.random.Generator) -> Camera:
    """Sample a camera; half of them are sharp."""
    return Camera(
        blur=float(rng.choice([0.0, 0.6, 1.1], p=(0.5, 0.35, 0.15))),
        noise=float(rng.uniform(0.8, 5.0)),
        contrast=float(rng.uniform(0.88, 1.12)),
    )


@lru_cache(maxsize=2)
def draw_backdrop(scene: int) -> Image.Image:
    """Draw an out-of-focus room, ``OVERSAMPLING`` times as large as the photo.

    Args:
        scene: Seed of the room. The result is cached: copy it before drawing on it.
    """
    # Enlarging an eight times smaller drawing puts it out of focus.
    rng = np.random.default_rng(scene)
    size = (WIDTH * OVERSAMPLING // 8, HEIGHT * OVERSAMPLING // 8)
    wall = shade(_WALLS[int(rng.integers(len(_WALLS)))], float(rng.uniform(0.7, 1.08)))
    image = Image.new("RGB", size, wall)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 9))):
        x, y = rng.uniform(-10, size[0]), rng.uniform(-10, size[1])
        w, h = rng.uniform(8, 50), rng.uniform(8, 70)
        tint = _TINTS[int(rng.integers(len(_TINTS)))]
        draw_outline = draw.ellipse if rng.random() < 0.35 else draw.rectangle
        draw_outline((x, y, x + w, y + h), fill=mix(wall, tint, float(rng.uniform(0.15, 0.5))))
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(1.5, 4.0))))
    return image.resize((size[0] * 8, size[1] * 8), Image.Resampling.BILINEAR)


def apply_light_and_camera(
    photo: Image.Image, *, pose: Pose, light: Light, camera: Camera, rng: np.random.Generator
) -> Image.Image:
    """Apply light, colour temperature, contrast, blur and noise to a drawn photo.

    Args:
        photo: RGB, 384 x 512 (width x height).
        pose: Pose of the head on the canvas, which is ``OVERSAMPLING`` times as large.
        light: Light in the room.
        camera: Image quality.
        rng: Source of the noise.
    """
    if camera.blur:
        photo = photo.filter(ImageFilter.GaussianBlur(camera.blur))
    warm = np.array([1 + 0.09 * light.warmth, 1.0, 1 - 0.11 * light.warmth], dtype=np.float32)
    pixels: Floats = np.array(photo, dtype=np.float32)
    pixels *= _illumination(pose, light)[..., None]
    pixels *= warm * np.float32(light.exposure * camera.contrast)
    grain = rng.standard_normal((HEIGHT, WIDTH, 1), dtype=np.float32) * np.float32(camera.noise)
    tints = rng.standard_normal((HEIGHT // 4, WIDTH // 4, 3), dtype=np.float32) * np.float32(0.5 * camera.noise)
    # Contrast leaves the middle grey (118) unchanged.
    pixels += grain + np.float32(118.0 * (1.0 - camera.contrast))
    pixels += tints.repeat(4, 0).repeat(4, 1)
    return Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))


def _illumination(pose: Pose, light: Light) -> Floats:
    # The head is lit as an ellipsoid, the room by a gradient. Both are smooth: compute them at a quarter of the size.
    rows, columns = np.mgrid[2:HEIGHT:4, 2:WIDTH:4].astype(np.float32)
    x = (columns - pose.x / OVERSAMPLING) * OVERSAMPLING / pose.scale
    y = (rows - pose.y / OVERSAMPLING) * OVERSAMPLING / pose.scale
    cos, sin = math.cos(-pose.tilt), math.sin(-pose.tilt)
    side, height = (cos * x - sin * y) / 1.14, (sin * x + cos * y + 0.06) / 1.56
    radius = side**2 + height**2
    depth = np.sqrt(np.clip(1.0 - radius, 0.0, 1.0))
    facing = (side * light.x + height * light.y + depth * 0.9) / math.hypot(light.x, light.y, 0.9)
    # Blend head and room at the rim, otherwise a halo appears around the head.
    inside = np.clip((1.05 - radius) / 0.35, 0, 1)
    head = 1.0 + light.strength * 0.40 * (np.clip(facing, -0.2, 1.0) - 0.84)
    room = 1.0 + light.strength * 0.08 * np.clip(x * light.x - 0.5 * y * light.y - 0.6, -2, 2)
    field = Image.fromarray((inside * head + (1 - inside) * room).astype(np.float32))
    return np.asarray(field.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.float32)
