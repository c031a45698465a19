"""The curve of a learning rate range test, and the learning rates that it suggests: pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mask_lightning.errors import NoSuggestionError

Values = Sequence[float] | npt.NDArray[np.floating[Any]]
Floats = npt.NDArray[np.float64]

LEAST_USABLE = 4  # points that a suggestion is drawn from
SLIDE_WINDOW, SLIDE_SLOPE = 15, 0.005  # fastai's: points, and loss per point
# What a fall must exceed to mean something: a share of the smoothed loss, or so many standard errors of the raw one.
# About 1 in 50 curves of pure noise exceeds the second, which looks where the smoothed loss is lowest.
CLEAR_FALL, CLEAR_OF_NOISE = 0.1, 3.5
DIFFERENCE_OF_NORMALS = 0.954  # median of |a - b| for standard normal a and b


@dataclass(frozen=True)
class RangeTestResult:
    """The curve of a sweep, a point per optimizer step.

    Attributes:
        lrs: of the param group with the largest.
        losses: smoothed.
        raw_losses: as they were.
        num_steps: that were asked for.
        stopped: "completed" them, or "diverged" before: a loss far above the best, infinite or NaN.
        restarts: how often the data ran out and was begun anew.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    raw_losses: tuple[float, ...]
    num_steps: int
    stopped: Literal["completed", "diverged"]
    restarts: int


@dataclass(frozen=True)
class Suggestions:
    """A learning rate by each of the four rules."""

    valley: float
    steep: float
    slide: float
    minimum: float


def suggest(result: RangeTestResult) -> Suggestions:
    """The learning rates that a curve suggests.

    Raises:
        NoSuggestionError: the curve carries none, and why: NaN, too short, rising or flat.
    """
    lrs, losses = usable(result.lrs, result.losses, num_steps=result.num_steps)
    _check_falling(lrs, losses, result)
    return Suggestions(**{name: rule(lrs, losses) for name, rule in RULES.items()})


def usable(lrs: Values, losses: Values, *, num_steps: int) -> tuple[Floats, Floats]:
    """The points that suggestions are drawn from: not the first `num_steps // 10`, not the last 5, as in fastai."""
    part = slice(num_steps // 10, -5)
    return np.asarray(lrs, dtype=float)[part], np.asarray(losses, dtype=float)[part]


def is_past_lowest(result: RangeTestResult, lr: float) -> bool:
    """Whether the loss was lowest before `lr`: steep and slide may take the noise of a divergence for a descent."""
    lrs, losses = usable(result.lrs, result.losses, num_steps=result.num_steps)
    return bool(lr > lrs[np.argmin(losses)])


def valley(lrs: Values, losses: Values) -> float:
    """fastai's default: halfway down the longest descent, that is, of losses each below all before in it.

    The points of a descent need not be neighbours, so noise does not end it; from its last, half their number back.
    """
    losses = np.asarray(losses)
    lengths = np.ones(len(losses), dtype=int)
    for i in range(1, len(losses)):
        lengths[i] += lengths[:i].max(where=losses[:i] > losses[i], initial=0)
    end, length = int(lengths.argmax()), int(lengths.max())
    return float(lrs[max(end - length + length // 3 + length // 6, 0)])


def steep(lrs: Values, losses: Values) -> float:
    """fastai's `steep`: where the loss falls fastest over the logarithm of the lr."""
    return float(lrs[int(np.argmin(np.diff(losses) / np.diff(np.log(lrs))))])


def slide(lrs: Values, losses: Values) -> float:
    """fastai's `slide`: a window of 15 points slides from the right while the slopes at its ends differ."""
    slopes = np.gradient(np.asarray(losses))
    window = min(SLIDE_WINDOW, len(slopes) - 1)
    left = start = len(slopes) - 1 - window
    while left >= 0 and abs(slopes[left + window] - slopes[left]) > SLIDE_SLOPE:
        left -= 1
    return float(lrs[min(left + 1, start)])


def minimum(lrs: Values, losses: Values) -> float:
    """A tenth of the lr with the smallest loss."""
    return float(lrs[int(np.argmin(losses))]) / 10


RULES: dict[str, Callable[[Values, Values], float]] = {
    "valley": valley,
    "steep": steep,
    "slide": slide,
    "minimum": minimum,
}


def _check_falling(lrs: Floats, losses: Floats, result: RangeTestResult) -> None:
    """Raises NoSuggestionError unless the loss falls by more than chance would have it."""
    bad = next((i for i, loss in enumerate(result.losses) if not math.isfinite(loss)), None)
    if bad is not None and (len(losses) < LEAST_USABLE or not np.isfinite(losses).all()):
        raise NoSuggestionError(
            "NaN", f"the loss is {result.losses[bad]} at step {bad + 1}; check photos, labels and precision"
        )
    if len(losses) < LEAST_USABLE:
        raise NoSuggestionError(
            "too short",
            f"expected at least {LEAST_USABLE} points between the first {result.num_steps // 10} and the last 5, "
            f"found {len(losses)}; lower start_lr, or raise num_steps",
        )
    _, raw = usable(result.lrs, result.raw_losses, num_steps=result.num_steps)
    if _clearly_falls(losses, raw):
        return
    start = losses[0]
    if np.median(losses) > start + CLEAR_FALL * abs(start):
        raise NoSuggestionError(
            "rising", f"the loss only rises, from lr {lrs[0]:.2g} on; lower start_lr, or check the labels"
        )
    raise NoSuggestionError(
        "flat",
        f"the loss never clearly falls between lr {lrs[0]:.2g} and {lrs[-1]:.2g}; "
        "raise num_steps, or set the lr by hand",
    )


def _clearly_falls(losses: Floats, raw: Floats) -> bool:
    """Whether the smoothed loss falls by much, or the raw one by more than its noise explains (a t statistic)."""
    lowest, width = int(losses.argmin()), max(len(losses) // 8, 2)
    first = lowest + 1 - width
    if first < width:
        return False
    start = float(np.median(losses[:width]))
    if start - losses[lowest] > CLEAR_FALL * abs(start):
        return True
    before, last = raw[: max(first // 2, width)], raw[first : lowest + 1]
    noise = np.median(np.abs(np.diff(raw[: lowest + 1]))) / DIFFERENCE_OF_NORMALS
    return bool(before.mean() - last.mean() > CLEAR_OF_NOISE * noise * math.sqrt(1 / len(before) + 1 / len(last)))
