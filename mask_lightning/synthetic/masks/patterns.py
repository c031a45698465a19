"""Printed cloth: dots, stripes, checks, zigzags and flowers in two or three colours."""

from collections.abc import Callable

import numpy as np

INKS = (
    (0.93, 0.92, 0.9),
    (0.12, 0.14, 0.2),
    (0.75, 0.25, 0.25),
    (0.9, 0.75, 0.35),
    (0.3, 0.5, 0.7),
    (0.85, 0.55, 0.65),
)


def paint_pattern(x: np.ndarray, y: np.ndarray, ground: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`ground` (h, w, 3) with a print on it; x and y (h, w) are in eye distances."""
    name = list(PATTERNS)[rng.integers(len(PATTERNS))]
    turn = rng.choice([0, np.pi / 4, np.pi / 2]) + rng.normal(0, 0.03)
    pitch = rng.uniform(0.07, 0.16)
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


def _inside(distance: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(0.5 + distance / 0.08, 0, 1))


PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "dots": _dots,
    "stripes": _stripes,
    "checks": _checks,
    "zigzag": _zigzag,
    "flowers": _flowers,
}
