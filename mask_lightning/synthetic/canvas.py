"""Drawing primitives shared by the portraits and the masks on photos: colours, curves, shapes, float images.

A `Canvas` is drawn on in face units: the middle of the face is (0, 0), the cheekbones are at x = -1 and x = 1.
y grows downwards: brows at about -0.4, eyes at -0.1, nose tip at 0.4, mouth at 0.75, chin at 1.35.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Colour: TypeAlias = tuple[int, int, int]  # red, green, blue from 0 to 255
Points: TypeAlias = NDArray[np.float64]
PointsLike: TypeAlias = Points | Sequence[tuple[float, float]]

BLACK: Colour = (18, 16, 18)
WHITE: Colour = (250, 249, 246)
GREY: Colour = (196, 194, 192)


@dataclass(frozen=True)
class Pose:
    """Position and rotation of a head on the canvas.

    Attributes:
        x: Column of the middle of the face, in canvas pixels.
        y: Row of the middle of the face, in canvas pixels.
        scale: Canvas pixels per face unit.
        tilt: Rotation in the image plane, in radians.
        yaw: Rotation to the side, in radians.
        pitch: Downward shift of the parts in front (nose, mouth), in face units.
    """

    x: float
    y: float
    scale: float
    tilt: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0

    def project(self, points: Points) -> Points:
        """Map face units to canvas pixels; nose and mouth move more than the outline.

        Args:
            points: (N, 2), in face units.

        Returns:
            (N, 2), in canvas pixels.
        """
        depth = np.clip(1.0 - (points[:, 0] / 1.15) ** 2 - (points[:, 1] / 1.55) ** 2, 0.0, None)
        x = points[:, 0] * math.cos(self.yaw) + depth * math.sin(self.yaw)
        y = points[:, 1] + depth * self.pitch
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        return np.stack([self.x + self.scale * (cos * x - sin * y), self.y + self.scale * (sin * x + cos * y)], 1)


class Canvas:
    """An RGB image that is drawn on in face units.

    Args:
        image: RGB; changed in place or replaced, so read the result from ``canvas.image``.
        pose: Maps face units to pixels of ``image``.
    """

    def __init__(self, image: Image.Image, pose: Pose) -> None:
        self.image = image
        self.pose = pose

    def fill(self, outline: Points, colour: Colour, *, opacity: float = 1.0, soft: float = 0.0) -> None:
        """Fill a polygon.

        Args:
            outline: (N, 2), in face units.
            colour: Fill colour.
            opacity: 0 (invisible) to 1.
            soft: Blur of the edge, in face units.
        """
        self._paint(outline, colour, opacity=opacity, soft=soft, width=None)

    def stroke(self, path: Points, colour: Colour, *, width: float, opacity: float = 1.0, soft: float = 0.0) -> None:
        """Draw a line.

        Args:
            path: (N, 2), in face units.
            colour: Line colour.
            width: Line width, in face units.
            opacity: 0 (invisible) to 1.
            soft: Blur of the edge, in face units.
        """
        self._paint(path, colour, opacity=opacity, soft=soft, width=width)

    def strands(self, paths: Points, colours: Sequence[Colour], *, width: float) -> None:
        """Draw many opaque lines at once, such as hairs.

        Args:
            paths: (S, N, 2), in face units.
            colours: One per line, S in all.
            width: Width of each line, in face units.
        """
        pixels = self.pose.project(paths.reshape(-1, 2)).reshape(paths.shape)
        draw = ImageDraw.Draw(self.image)
        thickness = max(round(width * self.pose.scale), 1)
        for path, colour in zip(pixels, colours, strict=True):
            draw.line(_coordinates(path), fill=colour, width=thickness)

    @contextmanager
    def within(self, outline: Points) -> Iterator[None]:
        """Clip everything that is drawn inside this context to the polygon ``outline`` ((N, 2), in face units)."""
        image, pose = self.image, self.pose
        pixels = pose.project(outline)
        left, top = (int(value) for value in np.floor(pixels.min(0)))
        right, bottom = (int(value) + 1 for value in np.ceil(pixels.max(0)))
        self.image = image.crop((left, top, right, bottom))
        self.pose = replace(pose, x=pose.x - left, y=pose.y - top)
        yield
        mask = Image.new("L", self.image.size, 0)
        draw_shape(mask, pixels - (left, top), 255)
        image.paste(self.image, (left, top), mask)
        self.image, self.pose = image, pose

    def _paint(self, points: Points, colour: Colour, *, opacity: float, soft: float, width: float | None) -> None:
        pixels = self.pose.project(points)
        thickness = None if width is None else max(width * self.pose.scale, 1.0)
        if opacity >= 1.0 and soft == 0.0:
            draw_shape(self.image, pixels, colour, width=thickness)
        elif opacity > 0.01:
            self._blend(pixels, colour, opacity, soft * self.pose.scale, thickness)

    def _blend(self, pixels: Points, colour: Colour, opacity: float, sigma: float, thickness: float | None) -> None:
        # A wide blur hides the resolution of the mask: drawing it smaller makes soft shading cheap.
        step = 4 if sigma > 4.0 else 2 if sigma > 2.0 else 1
        margin = 2.5 * sigma + (thickness or 0.0) + step
        corner = np.floor(pixels.min(0) - margin)
        width, height = (int(v) for v in np.ceil((pixels.max(0) + margin - corner) / step))
        mask = Image.new("L", (width, height), 0)
        ink = round(255 * min(opacity, 1.0))
        draw_shape(mask, (pixels - corner) / step, ink, width=thickness and thickness / step)
        if sigma:
            mask = mask.filter(ImageFilter.GaussianBlur(sigma / step))
        if step > 1:
            mask = mask.resize((width * step, height * step), Image.Resampling.BILINEAR)
        self.image.paste(colour, (int(corner[0]), int(corner[1])), mask)


def draw_shape(image: Image.Image, points: Points, ink: Colour | int, *, width: float | None = None) -> None:
    """Draw a filled polygon, or a line if ``width`` is given, without antialiasing.

    Args:
        image: Changed in place.
        points: (N, 2), in pixels of ``image``.
        ink: Colour, or a grey level for an image of mode L.
        width: Line width in pixels, rounded, at least 1.
    """
    draw = ImageDraw.Draw(image)
    if width is None:
        draw.polygon(_coordinates(points), fill=ink)
    else:
        draw.line(_coordinates(points), fill=ink, width=max(round(width), 1), joint="curve")


def _coordinates(points: Points) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points.tolist()]


def smooth(points: PointsLike, *, closed: bool = False, steps: int = 6) -> Points:
    """Run a Catmull-Rom curve through points.

    Args:
        points: (N, 2).
        closed: Join the last point to the first.
        steps: Points per segment of the curve.

    Returns:
        (N * steps, 2) if closed, else ((N - 1) * steps + 1, 2).
    """
    knots = np.asarray(points, dtype=np.float64)
    if closed:
        ring = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        ring = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    a, b, c, d = (ring[i : len(ring) - 3 + i, None, :] for i in range(4))
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[None, :, None]
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, knots[-1:]])


def ellipse(x: float, y: float, radius_x: float, radius_y: float | None = None) -> Points:
    """Outline (24, 2) of an ellipse around (x, y); a circle without ``radius_y``."""
    angle = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    return np.stack([x + radius_x * np.cos(angle), y + (radius_y or radius_x) * np.sin(angle)], 1)


def mirrored(points: PointsLike, side: float = -1.0) -> Points:
    """Points (N, 2) mirrored to the other side of the face (``side`` -1) or unchanged (``side`` 1)."""
    return np.asarray(points, dtype=np.float64) * (side, 1.0)


def symmetric(right: PointsLike) -> Points:
    """Return the closed smooth outline through the right half (N, 2), from axis to axis, and its mirror image."""
    half = np.asarray(right, dtype=np.float64)
    return smooth(np.concatenate([half, mirrored(half[-2:0:-1])]), closed=True)


def shifted(points: Points, x: float, y: float) -> Points:
    """Points (N, 2) moved by (x, y)."""
    moved: Points = points + np.array([x, y])
    return moved


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Mix two colours.

    Args:
        first: Result at share 0.
        second: Result at share 1.
        share: Weight of ``second``, clipped to [0, 1].
    """
    share = min(max(share, 0.0), 1.0)
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """Darken (factor < 1) or lighten (factor > 1) a colour; channels are clipped to 0..255."""
    red, green, blue = (min(max(round(value * factor), 0), 255) for value in colour)
    return red, green, blue


def colour_at(scale: Sequence[Colour], position: float) -> Colour:
    """Interpolate in a colour scale; ``position`` is a fractional index, clipped to the ends."""
    position = min(max(position, 0.0), len(scale) - 1.0)
    lower = min(int(position), len(scale) - 2)
    return mix(scale[lower], scale[lower + 1], position - lower)


def to_pixels(image: Image.Image) -> np.ndarray:
    """Float image (H, W, 3) in [0, 1] of a Pillow image."""
    return np.asarray(image.convert("RGB"), dtype=np.float32) / 255


def to_image(pixels: np.ndarray) -> Image.Image:
    """Pillow image of a float image (H, W, 3), clipped to [0, 1]."""
    return Image.fromarray(np.asarray(np.clip(pixels, 0, 1) * 255 + 0.5, dtype=np.uint8))


def blur(values: np.ndarray, sigma: float) -> np.ndarray:
    """Blur (H, W) or (H, W, C) over H and W with a Gaussian of ``sigma`` pixels."""
    if values.ndim == 3:
        return np.stack([blur(values[..., i], sigma) for i in range(values.shape[2])], axis=-1)
    # Pillow blurs only 8-bit images: scale the range of the values to 0..255 and back.
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6:
        return np.asarray(values, dtype=np.float32)
    scaled = Image.fromarray(np.asarray((values - low) / (high - low) * 255 + 0.5, dtype=np.uint8))
    blurred = np.asarray(scaled.filter(ImageFilter.GaussianBlur(sigma)), dtype=np.float32)
    return blurred / 255 * (high - low) + low


def smooth_noise(rng: np.random.Generator, size: tuple[int, int], bumps: tuple[int, int]) -> np.ndarray:
    """Smooth noise (H, W) with a standard deviation of about 1.

    Args:
        rng: Source of randomness.
        size: Width and height in pixels.
        bumps: Number of bumps across and along the image.
    """
    coarse = rng.normal(size=(bumps[1] + 2, bumps[0] + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
