"""Shapes of masks, their position on a face, and their straps.

A mask is described in face coordinates: u is -1 at the left edge of the face and 1 at its right edge (of the photo),
v is 0 at the eyes and 1 at the chin. A `Surface` maps (u, v) to pixels; the cloth has its own coordinates (s, t).
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from PIL import Image

from mask_lightning.synthetic.canvas import smooth
from mask_lightning.synthetic.masks.landmarks import FaceLandmarks

MaskKind = Literal["surgical", "cloth", "kn95", "fabric", "cone", "patterned", "gaiter"]
MASK_KINDS: tuple[MaskKind, ...] = get_args(MaskKind)
Worn = Literal["right", "nose_out", "chin", "eyes", "one_ear"]
WRONG_WAYS: tuple[Worn, ...] = ("nose_out", "chin", "eyes", "one_ear")

Curve = tuple[tuple[float, float], ...]

# Ends of the straps relative to the landmark of the ear, in eye distances (outward, down).
UPPER_EAR, LOWER_EAR = (-0.015, -0.05), (-0.015, 0.17)
# Width in eye distances and colour, of the kinds that differ from the usual white strap.
STRAPS: dict[MaskKind, tuple[float, tuple[float, float, float]]] = {
    "cone": (0.022, (0.8, 0.77, 0.66)),
    "fabric": (0.07, (0.13, 0.13, 0.14)),
    "cloth": (0.03, (0.7, 0.7, 0.7)),
    "patterned": (0.03, (0.3, 0.3, 0.32)),
}
# v of the landmarks on the average face.
V_BRIDGE, V_TIP, V_MOUTH, V_CHIN, V_EAR, V_JAW = 0.03, 0.355, 0.57, 1.0, 0.157, 0.682


@dataclass(frozen=True)
class Outline:
    """Outline of a mask's right half in (u, v); the left half mirrors it.

    Attributes:
        top: Points of the top edge, from the middle to the side.
        bottom: Points of the bottom edge, from the middle to the side.
        bulge: Curvature of the side, outward (positive) or inward (negative).
    """

    top: Curve
    bottom: Curve
    bulge: float = 0.0

    def polygon(self) -> np.ndarray:
        """Return the closed outline (N, 2) of the whole mask, in (u, v)."""
        top, bottom = _half_curve(self.top), _half_curve(self.bottom)[::-1]
        side = np.linspace(top[-1], bottom[0], 12)[1:-1]
        side[:, 0] += self.bulge * np.sin(np.linspace(0, np.pi, 12))[1:-1]
        half = np.concatenate([top, side, bottom])
        return np.concatenate([half, half[::-1] * (-1, 1)])

    def cloth(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map face coordinates to cloth coordinates.

        Args:
            points: (..., 2) of (u, v).

        Returns:
            s, from -1 (left side) to 1 (right side), and t, from 0 (top edge) to 1 (bottom edge), both (...).
        """
        u, v = np.abs(points[..., 0]), points[..., 1]
        top, bottom = _half_curve(self.top), _half_curve(self.bottom)
        upper, lower = np.interp(u, *top.T), np.interp(u, *bottom.T)
        t = (v - upper) / np.maximum(lower - upper, 0.15)
        return points[..., 0] / max(top[-1, 0], bottom[-1, 0]), t

    @property
    def corners(self) -> tuple[np.ndarray, np.ndarray]:
        """Upper and lower corner of the right side, each (2,) in (u, v)."""
        return np.array(self.top[-1]), np.array(self.bottom[-1])


def _half_curve(edge: Curve) -> np.ndarray:
    # Smooth at the middle of the mask, where the mirrored half continues it.
    return smooth([(-edge[1][0], edge[1][1]), *edge], steps=10)[10:]


OUTLINES: dict[MaskKind, Outline] = {
    "surgical": Outline(
        top=((0, 0.11), (0.13, 0.125), (0.42, 0.2), (0.93, 0.25)),
        bottom=((0, 1.09), (0.32, 1.08), (0.65, 1.0), (0.91, 0.76)),
        bulge=-0.02,
    ),
    "cloth": Outline(
        top=((0, 0.08), (0.13, 0.11), (0.42, 0.24), (0.93, 0.28)),
        bottom=((0, 1.1), (0.3, 1.08), (0.62, 1.0), (0.86, 0.84), (0.96, 0.6)),
    ),
    "kn95": Outline(
        top=((0, 0.07), (0.12, 0.105), (0.5, 0.27), (0.94, 0.34)),
        bottom=((0, 1.15), (0.2, 1.1), (0.5, 0.97), (0.78, 0.78), (0.94, 0.58)),
        bulge=0.02,
    ),
    "fabric": Outline(
        top=((0, 0.1), (0.14, 0.125), (0.5, 0.26), (0.97, 0.25)),
        bottom=((0, 1.09), (0.3, 1.07), (0.62, 0.97), (0.86, 0.77), (1.0, 0.48)),
    ),
    "cone": Outline(
        top=((0, 0.1), (0.22, 0.15), (0.5, 0.3), (0.7, 0.52)),
        bottom=((0, 1.05), (0.35, 1.0), (0.6, 0.86), (0.72, 0.68)),
        bulge=0.03,
    ),
    "gaiter": Outline(
        top=((0, 0.12), (0.14, 0.14), (0.5, 0.22), (1.02, 0.2)),
        bottom=((0, 1.55), (0.4, 1.55), (0.85, 1.53), (1.2, 1.47), (1.32, 1.3)),  # the sides of the face converge here
    ),
}
OUTLINES["patterned"] = OUTLINES["cloth"]


class Surface(Protocol):
    """Surface that a mask lies on: a map from (u, v) to pixels."""

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 2) of (u, v) to (..., 2) of (x, y) in pixels."""
        ...


@dataclass(frozen=True)
class MaskPose:
    """Displacement of a mask on the face: v becomes `down` + `tall` v - `lift` u^2, u becomes `wide` u."""

    down: float = 0.0
    tall: float = 1.0
    wide: float = 1.0
    lift: float = 0.0


# The cone is narrow and stiff: it keeps its height and slides farther than soft masks.
MASK_POSES: dict[Worn, MaskPose] = {
    "right": MaskPose(),
    "nose_out": MaskPose(down=0.42, tall=0.69, lift=0.2),
    "chin": MaskPose(down=0.69, tall=0.46, wide=0.86, lift=0.3),
    "eyes": MaskPose(down=-0.33, tall=0.74),
}
CONE_POSES: dict[Worn, MaskPose] = {
    "right": MaskPose(),
    "nose_out": MaskPose(down=0.41, tall=0.7, wide=1.2, lift=0.12),
    "chin": MaskPose(down=0.69, tall=0.6, wide=0.85),
    "eyes": MaskPose(down=-0.37, tall=0.75, wide=1.2),
}


def fit_mask(
    kind: MaskKind, worn: Worn, outline: Outline, face: FaceLandmarks, rng: np.random.Generator
) -> tuple[Surface, list[np.ndarray]]:
    """Place a mask on a face.

    Args:
        kind: Kind of mask.
        worn: How it is worn.
        outline: Outline of this kind.
        face: Landmarks in pixels.
        rng: Source of small variations.

    Returns:
        Surface on which the mask lies, and its straps, if it has any: curves (16, 2) in pixels.
    """
    if worn == "one_ear":
        return _hang_from_ear(outline, face, rng)
    pose = (CONE_POSES if kind == "cone" else MASK_POSES)[worn]
    # A mask that is worn right may be small or large, and end anywhere on the bridge of the nose. With a range down to
    # the tip of the nose, a network called more real masks incorrect.
    slack, size = ((-0.04, 0.08), (0.92, 1.08)) if worn == "right" else ((-0.012, 0.012), (0.97, 1.03))
    pose = MaskPose(
        down=pose.down + rng.uniform(*slack),
        tall=pose.tall * rng.uniform(*size),
        wide=pose.wide * rng.uniform(0.93, 1.08),
        lift=pose.lift,
    )
    surface = FaceSurface(face, pose)
    return surface, [] if kind == "gaiter" else ear_straps(outline, surface, face)


def _hang_from_ear(outline: Outline, face: FaceLandmarks, rng: np.random.Generator) -> tuple[Surface, list[np.ndarray]]:
    """Let the mask hang below one ear, seen from its narrow side, with the other straps loose."""
    side = int(rng.choice([-1, 1]))
    unit = face.eye_distance
    turn = math.radians(rng.uniform(65, 100))
    across = unit * rng.uniform(0.5, 0.62) * np.array([side * math.cos(turn), math.sin(turn)])
    along = unit * rng.uniform(0.5, 0.7) * np.array([-side * math.sin(turn), math.cos(turn)])
    held, loose = outline.corners[0] * (-1, 1), outline.corners[1]
    ear = ear_point(face, side, UPPER_EAR)
    # The nearest corner hangs one strap length below the ear.
    origin = ear + unit * np.array([0.1 * side, rng.uniform(0.25, 0.38)]) - held[0] * across - held[1] * along
    surface = FlatSurface(origin, across, along)
    lower = outline.corners[1] * (-1, 1)
    straps = [strap_curve(surface.to_pixels(corner), ear, 0.0) for corner in (held, lower)]
    ends = [surface.to_pixels(corner) for corner in (outline.corners[0], loose)]
    loop = (ends[0] + ends[1]) / 2 + unit * np.array([0.0, 0.22])
    return surface, [*straps, *(strap_curve(end, loop, 0.35) for end in ends)]


class FaceSurface:
    """Surface through the landmarks: both sides of the face and the curve from nose bridge to chin.

    Args:
        face: Landmarks in pixels.
        pose: Displacement of the mask on the face.
    """

    def __init__(self, face: FaceLandmarks, pose: MaskPose = MaskPose()) -> None:
        self.pose = pose
        middle = np.array([face.bridge, face.nose_tip, face.mouth, face.chin])
        # Less weight for the mouth: its corners move down when it opens.
        self._middle = np.polyfit([V_BRIDGE, V_TIP, V_MOUTH, V_CHIN], middle, deg=2, w=[1, 1, 0.5, 1])
        self._left = _side_line(face.ear_left, face.jaw_left)
        self._right = _side_line(face.ear_right, face.jaw_right)

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 2) of (u, v) to (..., 2) of (x, y) in pixels."""
        u = points[..., :1] * self.pose.wide
        v = self.pose.down + self.pose.tall * points[..., 1:] - self.pose.lift * u**2
        middle = self._middle[0] * v**2 + self._middle[1] * v + self._middle[2]
        left, right = self._left[0] * v + self._left[1], self._right[0] * v + self._right[1]
        return np.asarray(middle + u * (right - left) / 2 + u**2 * ((right + left) / 2 - middle))


class FlatSurface:
    """Plane, for a mask that hangs free.

    Args:
        origin: Pixel (2,) of (u, v) = (0, 0).
        across: One unit of u, (2,) in pixels.
        along: One unit of v, (2,) in pixels.
    """

    def __init__(self, origin: np.ndarray, across: np.ndarray, along: np.ndarray) -> None:
        self.origin, self.across, self.along = origin, across, along

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 2) of (u, v) to (..., 2) of (x, y) in pixels."""
        return np.asarray(self.origin + points[..., :1] * self.across + points[..., 1:] * self.along)


def mask_coordinates(surface: Surface, corner: tuple[float, float], size: tuple[int, int], step: float) -> np.ndarray:
    """Invert a surface on a grid of pixels: by Newton's method at every eighth pixel, interpolated in between.

    Args:
        surface: Map from (u, v) to pixels.
        corner: Upper left corner (x, y) of the grid.
        size: Width and height of the grid.
        step: Distance of the grid's points, in pixels.

    Returns:
        (height, width, 2) of (u, v).
    """
    width, height = size
    coarse = (width + 15) // 8, (height + 15) // 8
    scale = np.array([width / coarse[0], height / coarse[1]])
    grid = np.stack(np.meshgrid(np.arange(coarse[0]), np.arange(coarse[1])), axis=-1)
    pixels = np.asarray(corner) + (grid + 0.5) * scale * step
    points = _newton(surface, pixels)
    channels = [Image.fromarray(points[..., i].astype(np.float32)) for i in (0, 1)]
    return np.stack([np.asarray(c.resize(size, Image.Resampling.BICUBIC)) for c in channels], axis=-1)


def _newton(surface: Surface, pixels: np.ndarray, *, steps: int = 6, eps: float = 1e-3) -> np.ndarray:
    points = np.zeros_like(pixels) + np.array([0.0, 0.5])
    for _ in range(steps):
        here = surface.to_pixels(points)
        du = (surface.to_pixels(points + np.array([eps, 0])) - here) / eps
        dv = (surface.to_pixels(points + np.array([0, eps])) - here) / eps
        gap = pixels - here
        det = du[..., 0] * dv[..., 1] - du[..., 1] * dv[..., 0]
        det = np.where(np.abs(det) < 1e-3, 1e-3, det)
        step_u = (gap[..., 0] * dv[..., 1] - gap[..., 1] * dv[..., 0]) / det
        step_v = (du[..., 0] * gap[..., 1] - du[..., 1] * gap[..., 0]) / det
        points = np.clip(points + np.stack([step_u, step_v], axis=-1), -3, 3)
    return np.asarray(points)


def _side_line(ear: tuple[float, float], jaw: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Slope and intercept, each (2,), of the straight line along one side of the face as a function of v."""
    slope = (np.asarray(jaw) - np.asarray(ear)) / (V_JAW - V_EAR)
    return slope, np.asarray(ear) - slope * V_EAR


def strap_look(kind: MaskKind) -> tuple[float, np.ndarray]:
    """Width of the straps in eye distances and their colour (3,) in [0, 1]."""
    width, colour = STRAPS.get(kind, (0.024, (0.84, 0.84, 0.84)))
    return width, np.array(colour)


def ear_straps(outline: Outline, surface: Surface, face: FaceLandmarks) -> list[np.ndarray]:
    """Straps from the corners of a mask to the ears: four curves (16, 2) in pixels."""
    return [
        strap_curve(surface.to_pixels(corner * (side, 1)), ear_point(face, side, place), sag)
        for side in (-1, 1)
        for corner, place, sag in zip(outline.corners, (UPPER_EAR, LOWER_EAR), (0.02, 0.08), strict=True)
    ]


def ear_point(face: FaceLandmarks, side: int, place: tuple[float, float]) -> np.ndarray:
    """Pixel (2,) at the left (`side` -1) or right (1) ear; `place` is (outward, down) and turns with the head."""
    ear = np.array(face.ear_left if side < 0 else face.ear_right)
    right = np.array(face.eye_right) - np.array(face.eye_left)
    down = np.array([-right[1], right[0]])
    return np.asarray(ear + side * place[0] * right + place[1] * down)


def strap_curve(start: np.ndarray, end: np.ndarray, sag: float) -> np.ndarray:
    """Hanging curve (16, 2) between two pixels; `sag` is a fraction of their distance."""
    middle = (start + end) / 2 + (0, sag * float(np.linalg.norm(end - start)))
    t = np.linspace(0, 1, 16)[:, None]
    return np.asarray((1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end)
