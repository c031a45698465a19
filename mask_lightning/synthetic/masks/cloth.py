"""What masks are made of: the colour of the cloth and the relief that light falls on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mask_lightning.synthetic.masks.noise import smooth_noise
from mask_lightning.synthetic.masks.patterns import paint_pattern

Colour = tuple[float, float, float]

COLOURS: dict[str, tuple[Colour, ...]] = {
    "surgical": (
        (0.58, 0.76, 0.88),
        (0.66, 0.8, 0.86),
        (0.9, 0.91, 0.92),
        (0.66, 0.84, 0.78),
        (0.93, 0.76, 0.8),
        (0.17, 0.17, 0.19),
        (0.42, 0.6, 0.86),
        (0.76, 0.74, 0.84),
    ),
    "cloth": (
        (0.85, 0.83, 0.79),
        (0.55, 0.14, 0.18),
        (0.2, 0.28, 0.42),
        (0.42, 0.46, 0.4),
        (0.7, 0.7, 0.72),
        (0.82, 0.66, 0.62),
        (0.32, 0.45, 0.5),
    ),
    "kn95": ((0.92, 0.92, 0.91), (0.92, 0.92, 0.91), (0.16, 0.16, 0.17), (0.62, 0.64, 0.67)),
    "fabric": ((0.13, 0.13, 0.14), (0.17, 0.17, 0.19), (0.28, 0.29, 0.31)),
    "cone": ((0.9, 0.89, 0.86), (0.88, 0.88, 0.88)),
    "patterned": (
        (0.86, 0.84, 0.8),
        (0.2, 0.26, 0.4),
        (0.72, 0.5, 0.55),
        (0.32, 0.42, 0.36),
        (0.15, 0.15, 0.17),
    ),
}


@dataclass(frozen=True)
class ClothGrid:
    """Where each pixel lies: on the face (u, v), in the cloth (s, t); and the randomness of this mask."""

    u: np.ndarray
    v: np.ndarray
    s: np.ndarray
    t: np.ndarray
    rng: np.random.Generator

    def line(self, values: np.ndarray, at: float, width: float) -> np.ndarray:
        """(h, w), 1 where `values` is `at`, fading to 0 within `width`."""
        return np.asarray(np.exp(-(((values - at) / width) ** 2)))

    def creases(self, across: int, along: int) -> np.ndarray:
        """(h, w) of smooth noise that lies in the cloth, `across` bumps wide and `along` bumps tall."""
        sheet = smooth_noise(self.rng, (128, 128), (across, along))
        rows = np.clip(self.t * 96 + 16, 0, 127).astype(int)
        columns = np.clip(self.s * 56 + 64, 0, 127).astype(int)
        return np.asarray(sheet[rows, columns])


@dataclass(frozen=True)
class Cloth:
    """`colour` (h, w, 3) in 0..1 and `relief` (h, w) in eye distances towards the camera."""

    colour: np.ndarray
    relief: np.ndarray


def make_cloth(kind: str, grid: ClothGrid) -> Cloth:
    """The cloth of a mask of this kind."""
    colours = COLOURS[kind]
    base = np.array(colours[grid.rng.integers(len(colours))]) * grid.rng.uniform(0.93, 1.05)
    colour = np.clip(base.astype(np.float32) * np.ones((*grid.u.shape, 1), np.float32), 0, 1)
    return MAKERS[kind](grid, colour)


def _surgical(grid: ClothGrid, colour: np.ndarray) -> Cloth:
    folds = np.zeros_like(grid.t)
    sag = 0.05 * (1 - grid.s**2)  # pleats open in the middle
    for at in (0.3, 0.47, 0.64):
        edge = grid.t - at - sag + grid.rng.normal(0, 0.008)
        # A pleat: the cloth steps back sharply at its lower edge and comes forward slowly below it.
        folds += 0.01 * (1 - np.tanh(edge / 0.012)) + 0.02 * np.clip(edge / 0.17, 0, 1)
        colour = colour * (1 - 0.16 * grid.line(edge, 0.008, 0.012))[..., None]
    band = grid.line(grid.t, 0.09, 0.008) + grid.line(grid.t, 0.94, 0.008)
    colour = colour * (1 - 0.1 * band - 0.05 * (grid.t < 0.09))[..., None]
    wire = 0.012 * grid.line(grid.t, 0.05, 0.025) * (np.abs(grid.s) < 0.35)
    creases = 0.007 * grid.creases(6, 5) + 0.012 * grid.creases(2, 5)
    side = -0.015 * grid.line(np.abs(grid.s), 0.97, 0.03)
    return Cloth(colour, _face_relief(grid, nose=0.1) + folds + wire + creases + side)


def _cloth(grid: ClothGrid, colour: np.ndarray) -> Cloth:
    seam = grid.line(grid.s, 0, 0.012)
    hem = grid.line(grid.t, 0.05, 0.008) + grid.line(grid.t, 0.95, 0.008)
    colour = colour * (1 - 0.22 * seam - 0.12 * hem)[..., None] * _weave(grid)
    tent = -0.2 * np.sqrt(grid.s**2 + 0.02)
    creases = 0.016 * grid.creases(5, 3) + 0.01 * grid.creases(8, 7)
    return Cloth(colour, _face_relief(grid, nose=0.06) + tent + creases - 0.008 * seam)


def _patterned(grid: ClothGrid, colour: np.ndarray) -> Cloth:
    # In eye distances, so that dots are round on the face.
    return _cloth(grid, paint_pattern(grid.u * 0.7, grid.v * 1.2, colour, grid.rng))


def _kn95(grid: ClothGrid, colour: np.ndarray) -> Cloth:
    fold = grid.line(grid.s, 0, 0.012)
    welds = grid.line(grid.t, 0.04, 0.012) + grid.line(grid.t, 0.95, 0.012) + grid.line(np.abs(grid.s), 0.93, 0.012)
    across = grid.line(grid.t, 0.2 + 0.1 * np.abs(grid.s), 0.01) + grid.line(grid.t, 0.68, 0.01)
    dark = 0.14 * fold + 0.13 * welds + 0.1 * across * (np.abs(grid.s) > 0.12)
    tent = -0.42 * np.sqrt(grid.s**2 + 0.003)
    wire = 0.012 * grid.line(grid.t, 0.1, 0.03) * (np.abs(grid.s) < 0.3)
    relief = _face_relief(grid, nose=0.03) * 0.7 + tent + wire + 0.006 * grid.creases(6, 6)
    return Cloth(colour * (1 - dark)[..., None], relief - 0.006 * welds)


def _fabric(grid: ClothGrid, colour: np.ndarray) -> Cloth:
    seam = grid.line(grid.s, 0, 0.01)
    tent = -0.16 * np.sqrt(grid.s**2 + 0.03)
    relief = _face_relief(grid, nose=0.1) + tent + 0.014 * grid.creases(4, 3) - 0.01 * seam
    return Cloth(colour * (1 - 0.3 * seam)[..., None], relief)


def _cone(grid: ClothGrid, colour: np.ndarray) -> Cloth:
    radius = np.sqrt((grid.u / 0.76) ** 2 + ((grid.v - 0.58) / 0.5) ** 2)
    dome = 0.42 * np.sqrt(np.clip(1.15 - radius**2, 0.02, None))
    rim = grid.line(radius, 0.93, 0.02)
    ring = grid.line(radius, 0.62, 0.015)
    clip = (np.abs(grid.s) < 0.3) * grid.line(grid.t, 0.09, 0.035)
    colour = colour * (1 - 0.1 * rim - 0.06 * ring)[..., None]
    colour = colour + clip[..., None] * (np.array([0.66, 0.67, 0.69]) - colour)
    texture = 0.0007 * smooth_noise(grid.rng, grid.u.shape[::-1], (110, 110))
    return Cloth(colour, dome + texture - 0.012 * ring + 0.012 * clip)


def _face_relief(grid: ClothGrid, *, nose: float) -> np.ndarray:
    """The cloth over a head: round from side to side, tented over the nose, falling back to the chin."""
    cheeks = 0.55 * np.sqrt(np.clip(1.08 - grid.u**2, 0.05, None))
    tip = nose * np.exp(-((grid.u / 0.24) ** 2) - ((grid.v - 0.36) / 0.25) ** 2)
    fall = -0.3 * np.clip(grid.v - 0.5, 0, None) ** 2
    return np.asarray(cheeks + tip + fall)


def _weave(grid: ClothGrid) -> np.ndarray:
    """(h, w, 1) of threads, and of cloth that took its dye unevenly."""
    threads = 0.02 * np.sin(grid.u * 230) * np.sin(grid.v * 380)
    return np.asarray(1 + threads + 0.025 * grid.creases(24, 24))[..., None]


MAKERS: dict[str, Callable[[ClothGrid, np.ndarray], Cloth]] = {
    "surgical": _surgical,
    "cloth": _cloth,
    "kn95": _kn95,
    "fabric": _fabric,
    "cone": _cone,
    "patterned": _patterned,
}
