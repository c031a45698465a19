"""Learning-rate and momentum schedules: pure functions of the position in a phase.

A curve maps the position, 0 (start) to 1 (end), to a value. A schedule has a curve for the learning rate and one for
the momentum. `optim.phases.PhasedLR` applies schedules to an optimizer.
"""

from __future__ import annotations

import inspect
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from mask_lightning.errors import ConfigError, did_you_mean
from mask_lightning.settings.base import check_range
from mask_lightning.settings.optim import ScheduleSettings

Curve = Callable[[float], float]
"""A value as a function of the position in a phase, 0 to 1."""


@dataclass(frozen=True)
class Schedule:
    """Learning rate and momentum over one phase.

    Attributes:
        lr: factor of a param group's maximum lr.
        momentum: momentum, or Adam's beta1; None leaves the optimizer's own value.
    """

    lr: Curve
    momentum: Curve | None = None


def make_schedule(settings: ScheduleSettings) -> Schedule:
    """Build a schedule of `SCHEDULES` by name.

    Args:
        settings: `name`, and arguments of that schedule's function.

    Raises:
        ConfigError: the schedule has no such option, or a value is out of range.

    Example:
        >>> schedule = make_schedule(ScheduleSettings(name="one_cycle", pct_start=0.5, div=10.0))
        >>> [round(schedule.lr(pos), 3) for pos in (0.0, 0.5)]
        [0.1, 1.0]
    """
    build, options = SCHEDULES[settings.name], settings.options
    known = inspect.signature(build).parameters
    for option in options:
        if option not in known:
            remedy = did_you_mean(option, known) if known else "it has no options"
            raise ConfigError(f"schedule={settings.name} has no option {option!r}; {remedy}")
    return build(**options)


def one_cycle(
    div: float = 25.0,
    div_final: float = 1e5,
    pct_start: float = 0.25,
    moms: Sequence[float] | None = (0.95, 0.85, 0.95),
) -> Schedule:
    """Build fastai's one-cycle schedule: the lr rises and then falls, both along half a cosine.

    Source: Smith 2018, "A disciplined approach to neural network hyper-parameters: part 1", arXiv:1803.09820.

    Args:
        div: maximum lr divided by the lr at the start, at least 1.
        div_final: maximum lr divided by the lr at the end, at least 1.
        pct_start: share of the phase in which the lr rises, 0 to 1.
        moms: momentum at the start, at the maximum lr and at the end, each in [0, 1); None leaves momentum alone.

    Raises:
        ConfigError: a value is out of range.

    Example:
        >>> schedule = one_cycle(div=25.0, pct_start=0.25)
        >>> [round(schedule.lr(pos), 3) for pos in (0.0, 0.25)]
        [0.04, 1.0]
        >>> schedule.momentum(0.25)
        0.85
    """
    _check_fractions(div, div_final, pct_start)
    shares = (pct_start, 1 - pct_start)
    lr = Combined(shares, (Cosine(1 / div, 1.0), Cosine(1.0, 1 / div_final)))
    if moms is None:
        return Schedule(lr)
    if isinstance(moms, str) or not isinstance(moms, Sequence) or len(moms) != 3:
        raise ConfigError(f"moms must be three momenta (start, middle, end) or null, got {moms!r}")
    for value in moms:
        check_range("each of moms", value, "[0, 1)")
    start, middle, end = moms
    return Schedule(lr, Combined(shares, (Cosine(start, middle), Cosine(middle, end))))


def flat_cosine(div_final: float = 1e5, pct_start: float = 0.75) -> Schedule:
    """Build fastai's `fit_flat_cos`: the maximum lr, then half a cosine down.

    Source: Howard and Gugger 2020, "fastai: a layered API for deep learning", arXiv:2002.04688.

    Args:
        div_final: maximum lr divided by the lr at the end, at least 1.
        pct_start: share of the phase at the maximum lr, 0 to 1.

    Raises:
        ConfigError: a value is out of range.

    Example:
        >>> schedule = flat_cosine(div_final=100.0, pct_start=0.5)
        >>> [round(schedule.lr(pos), 3) for pos in (0.0, 0.5, 1.0)]
        [1.0, 1.0, 0.01]
    """
    _check_fractions(1.0, div_final, pct_start)
    return Schedule(Combined((pct_start, 1 - pct_start), (Constant(1.0), Cosine(1.0, 1 / div_final))))


def cosine(warmup_fraction: float = 0.05, div: float = 25.0, div_final: float = 1e5) -> Schedule:
    """Build a linear warm-up followed by half a cosine down.

    Source: Loshchilov and Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", arXiv:1608.03983,
    without restarts.

    Args:
        warmup_fraction: share of the phase in which the lr rises, in [0, 1).
        div: maximum lr divided by the lr at the start, at least 1.
        div_final: maximum lr divided by the lr at the end, at least 1.

    Raises:
        ConfigError: a value is out of range.

    Example:
        >>> schedule = cosine(warmup_fraction=0.5, div=10.0, div_final=100.0)
        >>> [round(schedule.lr(pos), 3) for pos in (0.0, 0.5, 1.0)]
        [0.1, 1.0, 0.01]
    """
    check_range("warmup_fraction", warmup_fraction, "[0, 1)")
    _check_fractions(div, div_final, 0.0)
    shares = (warmup_fraction, 1 - warmup_fraction)
    return Schedule(Combined(shares, (Linear(1 / div, 1.0), Cosine(1.0, 1 / div_final))))


def constant() -> Schedule:
    """Build a schedule that stays at the maximum lr.

    Example:
        >>> constant().lr(0.7)
        1.0
    """
    return Schedule(Constant(1.0))


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "one_cycle": one_cycle,
    "flat_cosine": flat_cosine,
    "cosine": cosine,
    "constant": constant,
}
"""Name in `schedule=` -> function; its arguments are the schedule's options."""


def _check_fractions(div: float, div_final: float, pct_start: float) -> None:
    check_range("div", div, "[1, inf)")
    check_range("div_final", div_final, "[1, inf)")
    check_range("pct_start", pct_start, "[0, 1]")


@dataclass(frozen=True)
class Constant:
    """The same value everywhere."""

    value: float

    def __call__(self, pos: float) -> float:
        """Return the value at `pos`, 0 to 1."""
        return self.value


@dataclass(frozen=True)
class Linear:
    """A straight line from `start` to `end`."""

    start: float
    end: float

    def __call__(self, pos: float) -> float:
        """Return the value at `pos`, 0 to 1."""
        return self.start + pos * (self.end - self.start)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine wave from `start` to `end`, flat at both."""

    start: float
    end: float

    def __call__(self, pos: float) -> float:
        """Return the value at `pos`, 0 to 1."""
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * pos)) / 2


@dataclass(frozen=True)
class Exponential:
    """A geometric sequence from `start` to `end`, both positive: a straight line in the logarithm."""

    start: float
    end: float

    def __post_init__(self) -> None:
        check_range("start", self.start, "(0, inf)")
        check_range("end", self.end, "(0, inf)")

    def __call__(self, pos: float) -> float:
        """Return the value at `pos`, 0 to 1."""
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
        """Return the value at `pos`, 0 to 1."""
        return self.start + (self.end - self.start) * float(pos**self.power)


@dataclass(frozen=True)
class Combined:
    """Several curves in sequence.

    Args:
        shares: share of the phase that each curve takes, of sum 1; a curve with share 0 is skipped.
        curves: the curves, in order, one per share.

    Raises:
        ConfigError: there is not one share per curve, a share is negative, or their sum is not 1.

    Example:
        >>> curve = Combined((0.5, 0.5), (Linear(0.0, 1.0), Constant(1.0)))
        >>> [curve(pos) for pos in (0.0, 0.25, 1.0)]
        [0.0, 0.5, 1.0]
    """

    shares: tuple[float, ...]
    curves: tuple[Curve, ...]

    def __post_init__(self) -> None:
        fits = len(self.shares) == len(self.curves) and all(share >= 0 for share in self.shares)
        if not (fits and math.isclose(sum(self.shares), 1, rel_tol=0, abs_tol=1e-6)):
            raise ConfigError(f"expected {len(self.curves)} shares of sum 1, got {self.shares}; give one per curve")

    def __call__(self, pos: float) -> float:
        """Return the value at `pos`, 0 to 1."""
        starts = [0.0, *accumulate(self.shares)]
        last = max(i for i, share in enumerate(self.shares) if share > 0)
        index = min(bisect_right(starts, pos) - 1, last)
        return self.curves[index]((pos - starts[index]) / self.shares[index])
