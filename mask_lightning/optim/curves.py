"""Pure curves of the position in a phase, 0 to 1, and their combination."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from mask_lightning.errors import ConfigError

Curve = Callable[[float], float]
"""A value as a function of the position in a phase, 0 (start) to 1 (end)."""


def check_range(name: str, value: Any, interval: str, remedy: str = "") -> None:
    """Raises ConfigError unless `value` is a number in `interval`, which reads "[0, 1)" or "(0, inf)"."""
    low, high = map(float, interval[1:-1].split(", "))
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    if not fits or (value == low and interval[0] == "(") or (value == high and interval[-1] == ")"):
        raise ConfigError(f"{name} must be in {interval}, got {value!r}" + (remedy and f"; {remedy}"))


@dataclass(frozen=True)
class Constant:
    """`value` everywhere."""

    value: float

    def __call__(self, pos: float) -> float:
        """The value at `pos` in 0..1."""
        return self.value


@dataclass(frozen=True)
class Linear:
    """A straight line from `start` to `end`."""

    start: float
    end: float

    def __call__(self, pos: float) -> float:
        """The value at `pos` in 0..1."""
        return self.start + pos * (self.end - self.start)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine wave from `start` to `end`, flat at both."""

    start: float
    end: float

    def __call__(self, pos: float) -> float:
        """The value at `pos` in 0..1."""
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * pos)) / 2


@dataclass(frozen=True)
class Exponential:
    """Equal factors in equal times from `start` to `end`, both above 0."""

    start: float
    end: float

    def __post_init__(self) -> None:
        check_range("start", self.start, "(0, inf)")
        check_range("end", self.end, "(0, inf)")

    def __call__(self, pos: float) -> float:
        """The value at `pos` in 0..1."""
        return self.start * float((self.end / self.start) ** pos)


@dataclass(frozen=True)
class Polynomial:
    """From `start` to `end` as pos ** `power`; a power above 1 starts slowly."""

    start: float
    end: float
    power: float

    def __post_init__(self) -> None:
        check_range("power", self.power, "(0, inf)")

    def __call__(self, pos: float) -> float:
        """The value at `pos` in 0..1."""
        return self.start + (self.end - self.start) * float(pos**self.power)


@dataclass(frozen=True)
class Combined:
    """`curves` one after the other, each over its own share of 0..1; a share of 0 is never visited.

    Raises ConfigError unless there is one share per curve, none is negative, and they sum to 1.
    """

    shares: tuple[float, ...]
    curves: tuple[Curve, ...]

    def __post_init__(self) -> None:
        fits = len(self.shares) == len(self.curves) and all(share >= 0 for share in self.shares)
        if not (fits and math.isclose(sum(self.shares), 1, rel_tol=0, abs_tol=1e-6)):
            raise ConfigError(f"expected {len(self.curves)} shares of sum 1, got {self.shares}; give one per curve")

    def __call__(self, pos: float) -> float:
        """The value at `pos` in 0..1."""
        starts = [0.0, *accumulate(self.shares)]
        last = max(i for i, share in enumerate(self.shares) if share > 0)
        index = min(bisect_right(starts, pos) - 1, last)
        return self.curves[index]((pos - starts[index]) / self.shares[index])
