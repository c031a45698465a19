"""The shapes of masks, in (u, v) on the face, and the coordinates (s, t) of the cloth inside a shape."""

from dataclasses import dataclass

import numpy as np

Curve = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Outline:
    """A mask's right half: its top edge and its bottom edge, each from the middle to the side.

    `bulge` curves the side between the ends of both edges outward (positive) or inward.
    """

    top: Curve
    bottom: Curve
    bulge: float = 0.0

    def polygon(self) -> np.ndarray:
        """(N, 2) of (u, v) around the whole mask."""
        top, bottom = _smooth(self.top), _smooth(self.bottom)[::-1]
        side = np.linspace(top[-1], bottom[0], 12)[1:-1]
        side[:, 0] += self.bulge * np.sin(np.linspace(0, np.pi, 12))[1:-1]
        half = np.concatenate([top, side, bottom])
        return np.concatenate([half, half[::-1] * (-1, 1)])

    def cloth(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(u, v) to (s, t): s is -1..1 from side to side, t is 0 on the top edge, 1 on the bottom edge."""
        u, v = np.abs(points[..., 0]), points[..., 1]
        top, bottom = _smooth(self.top), _smooth(self.bottom)
        upper, lower = np.interp(u, *top.T), np.interp(u, *bottom.T)
        t = (v - upper) / np.maximum(lower - upper, 0.15)
        return points[..., 0] / max(top[-1, 0], bottom[-1, 0]), t

    @property
    def corners(self) -> tuple[np.ndarray, np.ndarray]:
        """The upper and the lower corner of the right side."""
        return np.array(self.top[-1]), np.array(self.bottom[-1])


OUTLINES = {
    "surgical": Outline(
        top=((0, 0.11), (0.13, 0.125), (0.42, 0.2), (0.88, 0.25)),
        bottom=((0, 1.08), (0.3, 1.06), (0.58, 0.95), (0.82, 0.72)),
        bulge=-0.02,
    ),
    "cloth": Outline(
        top=((0, 0.08), (0.13, 0.11), (0.42, 0.24), (0.93, 0.28)),
        bottom=((0, 1.1), (0.3, 1.07), (0.58, 0.97), (0.8, 0.82), (0.93, 0.62)),
    ),
    "kn95": Outline(
        top=((0, 0.07), (0.12, 0.105), (0.5, 0.27), (0.94, 0.34)),
        bottom=((0, 1.15), (0.2, 1.1), (0.5, 0.97), (0.78, 0.78), (0.94, 0.58)),
        bulge=0.02,
    ),
    "fabric": Outline(
        top=((0, 0.1), (0.14, 0.125), (0.5, 0.26), (0.97, 0.25)),
        bottom=((0, 1.09), (0.3, 1.06), (0.6, 0.93), (0.82, 0.72), (0.97, 0.48)),
    ),
    "cone": Outline(
        top=((0, 0.1), (0.22, 0.15), (0.5, 0.3), (0.7, 0.52)),
        bottom=((0, 1.05), (0.35, 1.0), (0.6, 0.86), (0.72, 0.68)),
        bulge=0.03,
    ),
}
OUTLINES["patterned"] = OUTLINES["cloth"]


def _smooth(curve: Curve, *, between: int = 10) -> np.ndarray:
    """A Catmull-Rom curve through the points; it starts level, since the other half mirrors it."""
    points = np.array(curve, dtype=float)
    points = np.concatenate([[points[1] * (-1, 1)], points, [2 * points[-1] - points[-2]]])
    before, start, end, after = points[:-3, None], points[1:-2, None], points[2:-1, None], points[3:, None]
    t = np.linspace(0, 1, between, endpoint=False)[:, None]
    cubic = (3 * (start - end) + after - before) * t**3
    square = (2 * before - 5 * start + 4 * end - after) * t**2
    curves = start + ((end - before) * t + square + cubic) / 2
    return np.concatenate([curves.reshape(-1, 2), points[-2:-1]])
