"""Cloth of the masks: its colour, its printed patterns, and the relief that the light falls on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mask_lightning.synthetic.canvas import smooth_noise
from mask_lightning.synthetic.masks.shapes import MaskKind

FloatColour = tuple[float, float, float]

COLOURS: dict[MaskKind, tuple[FloatColour, ...]] = {
    "surgical": (
        (0.58, 0.76, 0.88),
        (0.66, 0.8, 0.86),
        (0.9, 0.91, 0.92),
        (0.66, 0.84, 0.78),
        (0.93, 0.76, 0.8),
        (0.93, 0.94, 0.95),
        (0.1, 0.1, 0.11),
        (0.15, 0.15, 0.17),
        (0.07, 0.07, 0.08),
        (0.42, 0.6, 0.86),
        (0.76, 0.74, 0.84),
    ),
    "cloth": (
        (0.09, 0.09, 0.1),
        (0.14, 0.14, 0.16),
        (0.85, 0.83, 0.79),
        (0.55, 0.14, 0.18),
        (0.2, 0.28, 0.42),
        (0.42, 0.46, 0.4),
        (0.7, 0.7, 0.72),
        (0.82, 0.66, 0.62),
        (0.32, 0.45, 0.5),
    ),
    "kn95": ((0.94, 0.94, 0.93), (0.92, 0.92, 0.91), (0.16, 0.16, 0.17), (0.09, 0.09, 0.1), (0.62, 0.64, 0.67)),
    "fabric": ((0.06, 0.06, 0.07), (0.1, 0.1, 0.11), (0.17, 0.17, 0.19), (0.28, 0.29, 0.31), (0.85, 0.8, 0.78)),
    "cone": ((0.93, 0.93, 0.92), (0.88, 0.88, 0.88)),
    "gaiter": ((0.06, 0.06, 0.07), (0.1, 0.1, 0.11), (0.17, 0.17, 0.19), (0.4, 0.41, 0.43), (0.16, 0.2, 0.32)),
    "patterned": (
        (0.86, 0.84, 0.8),
        (0.2, 0.26, 0.4),
        (0.72, 0.5, 0.55),
        (0.32, 0.42, 0.36),
        (0.15, 0.15, 0.17),
    ),
}

DYED: tuple[MaskKind, ...] = ("surgical", "cloth", "patterned", "gaiter")  # kinds that are sold in any colour
LOGO_SHARE = 0.15  # probability of a mark on the cloth

# Colours of printed patterns.
INKS = (
    (0.93, 0.92, 0.9),
    (0.12, 0.14, 0.2),
    (0.75, 0.25, 0.25),
    (0.9, 0.75, 0.35),
    (0.3, 0.5, 0.7),
    (0.85, 0.55, 0.65),
)


@dataclass(frozen=True)
class ClothGrid:
    """Coordinates of each pixel of a mask, all (H, W), and its source of randomness.

    Attributes:
        u: Across the face; see `shapes`.
        v: Along the face.
        s: Across the cloth, -1 to 1.
        t: Along the cloth, 0 to 1.
        rng: Source of randomness.
    """

    u: np.ndarray
    v: np.ndarray
    s: np.ndarray
    t: np.ndarray
    rng: np.random.Generator

    def creases(self, across: int, along: int) -> np.ndarray:
        """Smooth noise (H, W) that moves with the cloth, with `across` bumps in its width and `along` in its height."""
        sheet = smooth_noise(self.rng, (128, 128), (across, along))
        rows = np.clip(self.t * 96 + 16, 0, 127).astype(int)
        columns = np.clip(self.s * 56 + 64, 0, 127).astype(int)
        return np.asarray(sheet[rows, columns]) * self.rng.lognormal(0.1, 0.5)


@dataclass(frozen=True)
class Cloth:
    """Cloth of a mask: `colour` (H, W, 3) in [0, 1]; `relief` (H, W) towards the camera, in eye distances."""

    colour: np.ndarray
    relief: np.ndarray


def make_cloth(kind: MaskKind, grid: ClothGrid) -> Cloth:
    """Create the cloth of a mask of this kind, with a random colour."""
    colours, rng = COLOURS[kind], grid.rng
    base = np.array(colours[rng.integers(len(colours))]) * rng.uniform(0.9, 1.06)
    if kind in DYED and rng.random() < 0.2:
        base = rng.uniform(0.05, 0.95, 3)
    colour = np.clip(base.astype(np.float32) * np.ones((*grid.u.shape, 1), np.float32), 0, 1)
    cloth = MAKERS[kind](grid, colour)
    return _add_logo(cloth, grid) if rng.random() < LOGO_SHARE else cloth


def _add_logo(cloth: Cloth, grid: ClothGrid) -> Cloth:
    """Add a small round or angular mark, such as a logo or valve, at one side of the mask."""
    rng = grid.rng
    x, y = grid.s - rng.choice([-1, 1]) * rng.uniform(0.25, 0.6), grid.t - rng.uniform(0.35, 0.75)
    height = rng.uniform(0.04, 0.12)
    power = rng.choice([2, 8])  # of the ellipse: 8 is nearly a rectangle
    distance = (np.abs(x) / (height * rng.uniform(0.5, 1.6))) ** power + (np.abs(y) / height) ** power
    cover = np.clip(1.5 - distance, 0, 1)[..., None] * rng.uniform(0.6, 1)
    ink = np.full(3, 0.9) if cloth.colour.mean() < 0.45 else rng.uniform(0.1, 0.8, 3)
    return Cloth(cloth.colour + cover * (ink - cloth.colour), cloth.relief + 0.01 * cover[..., 0])


def _make_surgical(grid: ClothGrid, colour: np.ndarray) -> Cloth:
    folds = np.zeros_like(grid.t)
    sag = 0.05 * (1 - grid.s**2)  # pleats open in the middle
    for at in (0.3, 0.47, 0.64):
        edge = grid.t - at - sag + grid.rng.normal(0, 0.008)
        # A pleat steps back sharply at its lower edge; below it the cloth slowly comes forward again.
        folds += 0.01 * (1 - np.tanh(edge / 0.012)) + 0.02 * np.clip(edge / 0.17, 0, 1)
        colour = colour * (1 - 0.16 * _line(edge, 0.008, 0.012))[..., None]
    band = _line(grid.t, 0.09, 0.008) + _line(grid.t, 0.94, 0.008)
    colour = colour * (1 - 0.1 * band - 0.05 * (grid.t < 0.09))[..., None]
    wire = 0.012 * _line(grid.t, 0.05, 0.025) * (np.abs(grid.s) < 0.35)
    creases = 0.007 * grid.creases(6, 5) + 0.012 * grid.creases(2, 5)
    side = -0.015 * _line(np.abs(grid.s), 0.97, 0.03)
    return Cloth(colour, _face_relief(grid, nose=0.1) + folds + wire + creases + side)


def _make_cloth(grid: ClothGrid, colour: np.ndarray) -> Cloth:
    seam = _line(grid.s, 0, 0.012)
    hem = _line(grid.t, 0.05, 0.008) + _line(grid.t, 0.95, 0.008)
    colour = colour * (1 - 0.22 * seam - 0.12 * hem)[..., None] * _weave(grid)
    tent = -0.2 * np.sqrt(grid.s**2 + 0.02)
    creases = 0.016 * grid.creases(5, 3) + 0.01 * grid.creases(8, 7)
    return Cloth(colour, _face_relief(grid, nose=0.06) + tent + creases - 0.008 * seam)


def _make_patterned(grid: ClothGrid, colour: np.ndarray) -> Cloth:
    # Coordinates in eye distances, so that dots are round.
    return _make_cloth(grid, paint_pattern(grid.u * 0.7, grid.v * 1.2, colour, grid.rng))


def _make_kn95(grid: ClothGrid, colour: np.ndarray) -> Cloth:
    fold = _line(grid.s, 0, 0.012)
    welds = _line(grid.t, 0.04, 0.012) + _line(grid.t, 0.95, 0.012) + _line(np.abs(grid.s), 0.93, 0.012)
    across = _line(grid.t, 0.2 + 0.1 * np.abs(grid.s), 0.01) + _line(grid.t, 0.68, 0.01)
    dark = 0.14 * fold + 0.13 * welds + 0.1 * across * (np.abs(grid.s) > 0.12)
    tent = -0.42 * np.sqrt(grid.s**2 + 0.003)
    wire = 0.012 * _line(grid.t, 0.1, 0.03) * (np.abs(grid.s) < 0.3)
    relief = _face_relief(grid, nose=0.03) * 0.7 + tent + wire + 0.006 * grid.creases(6, 6)
    return Cloth(colour * (1 - dark)[..., None], relief - 0.006 * welds)


def _make_fabric(grid: ClothGrid, colour: np.ndarray) -> Cloth:
    seam = _line(grid.s, 0, 0.01)
    tent = -0.16 * np.sqrt(grid.s**2 + 0.03)
    relief = _face_relief(grid, nose=0.1) + tent + 0.014 * grid.creases(4, 3) - 0.01 * seam
    return Cloth(colour * (1 - 0.3 * seam)[..., None], relief)


def _make_gaiter(grid: ClothGrid, colour: np.ndarray) -> Cloth:
    if grid.rng.random() < 0.3:
        colour = paint_pattern(grid.u * 0.7, grid.v * 1.2, colour, grid.rng)
    folds = 0.03 * grid.creases(3, 14) + 0.012 * grid.creases(6, 5)
    return Cloth(colour * _weave(grid), _face_relief(grid, nose=0.1) + folds)


def _make_cone(grid: ClothGrid, colour: np.ndarray) -> Cloth:
    radius = np.sqrt((grid.u / 0.76) ** 2 + ((grid.v - 0.58) / 0.5) ** 2)
    dome = 0.42 * np.sqrt(np.clip(1.15 - radius**2, 0.02, None))
    rim = _line(radius, 0.93, 0.02)
    ring = _line(radius, 0.62, 0.015)
    clip = (np.abs(grid.s) < 0.3) * _line(grid.t, 0.09, 0.035)
    colour = colour * (1 - 0.1 * rim - 0.06 * ring)[..., None]
    colour = colour + clip[..., None] * (np.array([0.66, 0.67, 0.69]) - colour)
    texture = 0.0007 * smooth_noise(grid.rng, grid.u.shape[::-1], (110, 110))
    return Cloth(colour, dome + texture - 0.012 * ring + 0.012 * clip)


def _line(values: np.ndarray, at: float | np.ndarray, width: float) -> np.ndarray:
    """Soft line (H, W): 1 where `values` equals `at`, fading to 0 over about `width`."""
    return np.asarray(np.exp(-(((values - at) / width) ** 2)))


def _face_relief(grid: ClothGrid, *, nose: float) -> np.ndarray:
    """Relief (H, W) of cloth on a face: round from side to side, raised by the nose, receding to the chin."""
    cheeks = 0.55 * np.sqrt(np.clip(1.08 - grid.u**2, 0.05, None))
    tip = nose * np.exp(-((grid.u / 0.24) ** 2) - ((grid.v - 0.36) / 0.25) ** 2)
    fall = -0.3 * np.clip(grid.v - 0.5, 0, None) ** 2
    return np.asarray(cheeks + tip + fall)


def _weave(grid: ClothGrid) -> np.ndarray:
    """Brightness factor (H, W, 1) of threads and uneven dye."""
    threads = 0.02 * np.sin(grid.u * 230) * np.sin(grid.v * 380)
    return np.asarray(1 + threads + 0.025 * grid.creases(24, 24))[..., None]


def paint_pattern(x: np.ndarray, y: np.ndarray, ground: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Print one or two of the patterns on cloth.

    Args:
        x: (H, W), coordinate across, in eye distances.
        y: (H, W), coordinate along, in eye distances.
        ground: (H, W, 3) in [0, 1], colour of the cloth.
        rng: Source of randomness: pattern, size, direction and colour.

    Returns:
        (H, W, 3), colour with the print.
    """
    for _ in range(1 + int(rng.random() < 0.5)):
        ground = _print_once(x, y, ground, rng)
    return ground


def _print_once(x: np.ndarray, y: np.ndarray, ground: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    name = list(PATTERNS)[rng.integers(len(PATTERNS))]
    turn = rng.choice([0, np.pi / 4, np.pi / 2]) + rng.normal(0, 0.03)
    pitch = rng.uniform(0.07, 0.2)
    across = (x * np.cos(turn) + y * np.sin(turn)) / pitch
    along = (y * np.cos(turn) - x * np.sin(turn)) / pitch
    inks = np.array(INKS)[np.argsort([-np.abs(np.array(ink) - ground[0, 0]).sum() for ink in INKS])[:4]]
    ink = inks[rng.integers(len(inks))]
    cover = PATTERNS[name](across, along)[..., None] * rng.uniform(0.75, 1)
    return np.asarray(ground + cover * (ink - ground))


def _dots(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    shifted = x + 0.5 * (np.floor(y) % 2)
    return _inside(0.3 - np.hypot(shifted % 1 - 0.5, y % 1 - 0.5))


def _stripes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.asarray(_inside(np.abs(x % 1 - 0.5) - 0.27) + 0 * y)


def _checks(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.asarray(_inside(np.abs(x % 1 - 0.5) - 0.25) + _inside(np.abs(y % 1 - 0.5) - 0.25)) / 2


def _zigzag(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _inside(np.abs((y + np.abs(x % 1 - 0.5)) % 1 - 0.5) - 0.27)


def _flowers(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    row = np.floor(y / 1.5)
    dx, dy = (x / 1.5 + 0.5 * (row % 2)) % 1 - 0.5, (y / 1.5) % 1 - 0.5
    petals = 0.24 + 0.1 * np.cos(5 * np.arctan2(dy, dx) + row)
    return _inside(petals - np.hypot(dx, dy)) * (1 - 0.8 * _inside(0.09 - np.hypot(dx, dy)))


def _blotches(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    waves = np.sin(2.3 * x + 2 * np.sin(1.7 * y)) + np.sin(2.9 * y + 2 * np.sin(1.3 * x + 1))
    return _inside(0.4 * (waves - 0.3))


def _inside(distance: np.ndarray) -> np.ndarray:
    # 1 inside a shape (positive distance to its edge), 0 outside, soft in between.
    return np.asarray(np.clip(0.5 + distance / 0.08, 0, 1))


MAKERS: dict[MaskKind, Callable[[ClothGrid, np.ndarray], Cloth]] = {
    "surgical": _make_surgical,
    "cloth": _make_cloth,
    "kn95": _make_kn95,
    "fabric": _make_fabric,
    "cone": _make_cone,
    "gaiter": _make_gaiter,
    "patterned": _make_patterned,
}
PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "dots": _dots,
    "stripes": _stripes,
    "checks": _checks,
    "zigzag": _zigzag,
    "flowers": _flowers,
    "blotches": _blotches,
}
