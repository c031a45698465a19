"""The face as a surface that a mask lies on: (u, v) on the face to (x, y) in the photo, and back.

u is -1 at the picture's left edge of the face, 1 at its right edge; v is 0 at the eyes, 1 at the chin.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from mask_lightning.synthetic.masks.landmarks import FaceLandmarks

# Where the landmarks stand on the average face.
V_BRIDGE, V_TIP, V_MOUTH, V_CHIN, V_EAR, V_JAW = 0.03, 0.355, 0.57, 1.0, 0.157, 0.682


class Surface(Protocol):
    """Anything that turns mask coordinates into pixels."""

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) of (u, v) to (..., 2) of (x, y)."""
        ...


@dataclass(frozen=True)
class Pose:
    """How a mask is shifted over the face: v = `down` + `tall` v - `lift` u^2, u = `wide` u."""

    down: float = 0.0
    tall: float = 1.0
    wide: float = 1.0
    lift: float = 0.0


class FaceSurface:
    """The mask follows the face: its sides, and the line from bridge over nose to chin."""

    def __init__(self, face: FaceLandmarks, pose: Pose = Pose()) -> None:
        self.pose = pose
        middle = np.array([face.bridge, face.nose_tip, face.mouth, face.chin])
        # Weighted: nose and chin are seen precisely, an open mouth pulls its corners down.
        self._middle = np.polyfit([V_BRIDGE, V_TIP, V_MOUTH, V_CHIN], middle, deg=2, w=[1, 1, 0.5, 1])
        self._left = _rail(face.ear_left, face.jaw_left)
        self._right = _rail(face.ear_right, face.jaw_right)

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) of (u, v) to (..., 2) of (x, y)."""
        u = points[..., :1] * self.pose.wide
        v = self.pose.down + self.pose.tall * points[..., 1:] - self.pose.lift * u**2
        middle = self._middle[0] * v**2 + self._middle[1] * v + self._middle[2]
        left, right = self._left[0] * v + self._left[1], self._right[0] * v + self._right[1]
        return np.asarray(middle + u * (right - left) / 2 + u**2 * ((right + left) / 2 - middle))


class FlatSurface:
    """The mask hangs free: `origin` is where (0, 0) lies, `across` and `along` are one unit of u and of v."""

    def __init__(self, origin: np.ndarray, across: np.ndarray, along: np.ndarray) -> None:
        self.origin, self.across, self.along = origin, across, along

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) of (u, v) to (..., 2) of (x, y)."""
        return np.asarray(self.origin + points[..., :1] * self.across + points[..., 1:] * self.along)


def mask_coordinates(surface: Surface, corner: tuple[float, float], size: tuple[int, int], step: float) -> np.ndarray:
    """(h, w, 2) of (u, v) for a grid of pixels `step` apart, from `corner` on; `size` is (w, h).

    The way back has no formula: Newton's steps on every eighth pixel, interpolated between them.
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


def _rail(ear: tuple[float, float], jaw: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Slope and start of the straight line along one side of the face, by v."""
    slope = (np.asarray(jaw) - np.asarray(ear)) / (V_JAW - V_EAR)
    return slope, np.asarray(ear) - slope * V_EAR
