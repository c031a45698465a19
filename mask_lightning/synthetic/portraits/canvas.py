"""A canvas that is drawn on in face units.

The middle of the face is (0, 0), the cheekbones lie at x = -1 and 1.
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

from mask_lightning.synthetic.portraits.colours import Colour

Points: TypeAlias = NDArray[np.float64]
PointsLike: TypeAlias = Points | Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Pose:
    """Where a head stands on the canvas and how it is held.

    Attributes:
        x: Column of the middle of the face, in canvas pixels.
        y: Row of the middle of the face, in canvas pixels.
        scale: Canvas pixels per face unit.
        tilt: Rotation in the picture, in radians.
        yaw: How far the face is turned aside, in radians.
        pitch: How far what is in front moves down, in face units.
    """

    x: float
    y: float
    scale: float
    tilt: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0

    def project(self, points: Points) -> Points:
        """Map face units to canvas pixels.

        Args:
            points: (N, 2), in face units.

        Returns:
            (N, 2), in canvas pixels. What lies in front (nose, mouth) moves more than the outline.
        """
        depth = np.clip(1.0 - (points[:, 0] / 1.15) ** 2 - (points[:, 1] / 1.55) ** 2, 0.0, None)
        x = points[:, 0] * math.cos(self.yaw) + depth * math.sin(self.yaw)
        y = points[:, 1] + depth * self.pitch
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        return np.stack([self.x + self.scale * (cos * x - sin * y), self.y + self.scale * (sin * x + cos * y)], 1)


class Canvas:
    """An RGB image and the pose through which it is drawn on.

    Args:
        image: Drawn on in place or replaced; read the result from ``canvas.image``.
        pose: Maps face units to pixels of ``image``.
    """

    def __init__(self, image: Image.Image, pose: Pose) -> None:
        self.image = image
        self.pose = pose

    def fill(self, outline: Points, colour: Colour, *, opacity: float = 1.0, soft: float = 0.0) -> None:
        """Fill an outline; ``soft`` is the blur of its edge in face units."""
        self._lay(outline, colour, opacity=opacity, soft=soft, width=None)

    def stroke(self, path: Points, colour: Colour, *, width: float, opacity: float = 1.0, soft: float = 0.0) -> None:
        """Draw along a path; ``width`` and ``soft`` are in face units."""
        self._lay(path, colour, opacity=opacity, soft=soft, width=width)

    def strands(self, paths: Points, colours: Sequence[Colour], *, width: float) -> None:
        """Draw many opaque paths at once, such as hairs.

        Args:
            paths: (S, N, 2), in face units.
            colours: S of them.
            width: Of each strand, in face units.
        """
        pixels = self.pose.project(paths.reshape(-1, 2)).reshape(paths.shape)
        draw = ImageDraw.Draw(self.image)
        thickness = max(round(width * self.pose.scale), 1)
        for path, colour in zip(pixels, colours, strict=True):
            draw.line(_pixels(path), fill=colour, width=thickness)

    @contextmanager
    def within(self, outline: Points) -> Iterator[None]:
        """Keep inside of ``outline`` what is drawn in the body of this context."""
        image, pose = self.image, self.pose
        pixels = pose.project(outline)
        left, top = (int(value) for value in np.floor(pixels.min(0)))
        right, bottom = (int(value) + 1 for value in np.ceil(pixels.max(0)))
        self.image = image.crop((left, top, right, bottom))
        self.pose = replace(pose, x=pose.x - left, y=pose.y - top)
        yield
        mask = Image.new("L", self.image.size, 0)
        ImageDraw.Draw(mask).polygon(_pixels(pixels - (left, top)), fill=255)
        image.paste(self.image, (left, top), mask)
        self.image, self.pose = image, pose

    def _lay(self, points: Points, colour: Colour, *, opacity: float, soft: float, width: float | None) -> None:
        pixels = self.pose.project(points)
        thickness = None if width is None else max(width * self.pose.scale, 1.0)
        if opacity >= 1.0 and soft == 0.0:
            _draw(self.image, pixels, colour, thickness)
        elif opacity > 0.01:
            self._blend(pixels, colour, opacity, soft * self.pose.scale, thickness)

    def _blend(self, pixels: Points, colour: Colour, opacity: float, blur: float, thickness: float | None) -> None:
        # A wide blur needs no fine mask: it is drawn smaller, which is what makes soft shading cheap.
        step = 4 if blur > 4.0 else 2 if blur > 2.0 else 1
        margin = 2.5 * blur + (thickness or 0.0) + step
        corner = np.floor(pixels.min(0) - margin)
        width, height = (int(v) for v in np.ceil((pixels.max(0) + margin - corner) / step))
        mask = Image.new("L", (width, height), 0)
        _draw(mask, (pixels - corner) / step, round(255 * min(opacity, 1.0)), thickness and thickness / step)
        if blur:
            mask = mask.filter(ImageFilter.GaussianBlur(blur / step))
        if step > 1:
            mask = mask.resize((width * step, height * step), Image.Resampling.BILINEAR)
        self.image.paste(colour, (int(corner[0]), int(corner[1])), mask)


def smooth(points: PointsLike, *, closed: bool = False, steps: int = 6) -> Points:
    """Run a Catmull-Rom curve through points.

    Args:
        points: (N, 2).
        closed: Whether the last point is joined to the first.
        steps: Points per piece of the curve.

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
    """Outline of an ellipse around (x, y); a circle without ``radius_y``."""
    angle = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    return np.stack([x + radius_x * np.cos(angle), y + (radius_y or radius_x) * np.sin(angle)], 1)


def mirrored(points: PointsLike, side: float = -1.0) -> Points:
    """Points on the other side of the face (``side`` -1), or as they are (``side`` 1)."""
    return np.asarray(points, dtype=np.float64) * (side, 1.0)


def symmetric(right: PointsLike) -> Points:
    """Smooth outline through a right half, from axis to axis, and its mirror image."""
    half = np.asarray(right, dtype=np.float64)
    return smooth(np.concatenate([half, mirrored(half[-2:0:-1])]), closed=True)


def shifted(points: Points, x: float, y: float) -> Points:
    """Points moved by (x, y)."""
    moved: Points = points + np.array([x, y])
    return moved


def _draw(image: Image.Image, pixels: Points, ink: Colour | int, thickness: float | None) -> None:
    draw = ImageDraw.Draw(image)
    if thickness is None:
        draw.polygon(_pixels(pixels), fill=ink)
    else:
        draw.line(_pixels(pixels), fill=ink, width=max(round(thickness), 1), joint="curve")


def _pixels(points: Points) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points.tolist()]
