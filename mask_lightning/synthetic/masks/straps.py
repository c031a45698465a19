"""The straps from a mask's corners to the ears."""

import numpy as np

from mask_lightning.synthetic.masks.landmarks import FaceLandmarks
from mask_lightning.synthetic.masks.outlines import Outline
from mask_lightning.synthetic.masks.surface import Surface

# Where a strap meets the ear, from the landmark at the edge of the face, in eye distances (outward, down).
UPPER_EAR, LOWER_EAR = (-0.015, -0.1), (-0.015, 0.17)
STRAPS: dict[str, tuple[float, tuple[float, float, float]]] = {
    "cone": (0.022, (0.8, 0.77, 0.66)),
    "fabric": (0.036, (0.13, 0.13, 0.14)),
    "cloth": (0.03, (0.7, 0.7, 0.7)),
    "patterned": (0.03, (0.3, 0.3, 0.32)),
}


def strap_look(kind: str) -> tuple[float, np.ndarray]:
    """How wide this kind's straps are, in eye distances, and their colour."""
    width, colour = STRAPS.get(kind, (0.024, (0.84, 0.84, 0.84)))
    return width, np.array(colour)


def ear_straps(outline: Outline, surface: Surface, face: FaceLandmarks) -> list[np.ndarray]:
    """Curves (n, 2) in pixels, two for each ear."""
    return [
        strap_curve(surface.to_pixels(corner * (side, 1)), ear_point(face, side, place), sag)
        for side in (-1, 1)
        for corner, place, sag in zip(outline.corners, (UPPER_EAR, LOWER_EAR), (0.02, 0.08), strict=True)
    ]


def ear_point(face: FaceLandmarks, side: int, place: tuple[float, float]) -> np.ndarray:
    """A place at the picture's left (-1) or right (1) ear, turned with the head."""
    ear = np.array(face.ear_left if side < 0 else face.ear_right)
    right = np.array(face.eye_right) - np.array(face.eye_left)
    down = np.array([-right[1], right[0]])
    return np.asarray(ear + side * place[0] * right + place[1] * down)


def strap_curve(start: np.ndarray, end: np.ndarray, sag: float) -> np.ndarray:
    """A hanging curve from `start` to `end`; `sag` is a part of its length."""
    middle = (start + end) / 2 + (0, sag * float(np.linalg.norm(end - start)))
    t = np.linspace(0, 1, 16)[:, None]
    return np.asarray((1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end)
