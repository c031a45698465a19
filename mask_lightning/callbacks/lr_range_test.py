"""Learning rate range test: sweep the lr within a fit, restore everything, and suggest an lr from the curve.

`LRRangeTest` and `range_test` measure a `RangeTestResult`; `suggest` derives learning rates from it by pure functions.
Source: Smith, Cyclical Learning Rates for Training Neural Networks, https://arxiv.org/abs/1506.01186; the rules of
`suggest` are those of fastai's `lr_find`, https://docs.fast.ai/callback.schedule.html#learner.lr_find
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import SIGTERMException
from rich.progress import track
from torch.optim import Optimizer

from mask_lightning.callbacks.order import Order, OrderedCallback, insert_in_order
from mask_lightning.callbacks.training_state import optimizer_steps, preserved_fit, preserved_module, preserved_rng
from mask_lightning.errors import NoSuggestionError, RangeTestError
from mask_lightning.settings.base import check_range
from mask_lightning.utils.lightning_compat import end_fit, record_sigterm

MIN_STEPS = 10
MIN_POINTS = 4  # usable points of a curve
SLIDE_WINDOW, SLIDE_SLOPE = 15, 0.005  # fastai's values: points, and loss per point
# A fall of the loss is clear beyond this share of the smoothed loss, or beyond this many standard errors of the raw
# loss. About 1 in 50 curves of pure noise exceeds the second limit, as it is applied where the smoothed loss is lowest.
CLEAR_FALL, CLEAR_OF_NOISE = 0.1, 3.5
MEDIAN_DIFFERENCE = 0.954  # median of |a - b| for standard normal a and b

Values = Sequence[float] | npt.NDArray[np.floating[Any]]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RangeTestResult:
    """Curve of a range test, one point per optimizer step.

    Attributes:
        lrs: lr of the param group with the largest lr.
        losses: debiased exponential moving average of `raw_losses`.
        raw_losses: loss of each step on its own batches, measured before the step: the mean over accumulated batches
            and processes.
        num_steps: steps that were asked for; the curve is shorter if the test stopped early.
        stopped: "completed", or "diverged" after a loss that is far above the best, infinite or NaN.
        restarts: how often the data ran out and was restarted.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    raw_losses: tuple[float, ...]
    num_steps: int
    stopped: Literal["completed", "diverged"]
    restarts: int


@dataclass(frozen=True)
class Suggestions:
    """Learning rates suggested by the four rules; see the functions of these names."""

    valley: float
    steep: float
    slide: float
    minimum: float


class LRRangeTest(OrderedCallback):
    """Sweep the learning rate at the start of an epoch of a running fit, and restore everything afterwards.

    All param groups with trainable parameters are multiplied by one common factor. Batches, accumulation, clipping and
    precision are those of the fit; validation is skipped, the scheduler does not step, and momentum keeps its current
    value. Under DDP all processes use the mean of their losses. Weights, buffers, optimizer, schedulers, GradScaler and
    random states are restored bit for bit, also after an exception or Ctrl-C, and no file is written.

    Works with any LightningModule that has one optimizer and automatic optimization. Callbacks that freeze layers must
    come before it; for those of this package the trainer checks that.

    Args:
        start_lr, end_lr: range for the group with the largest lr; the other groups keep their ratio to it.
        num_steps: optimizer steps, at least 10. The data is restarted when it runs out.
        smoothing: decay of the debiased moving average of the losses, in [0, 1).
        stop_factor: stop when the average is this many times its minimum, above 1.
        epoch: epoch (from 0) at whose start the test runs; a fit that starts later runs it in its first epoch.
        then: "train" continues the fit as if there had been no test, "stop" ends it.
        progress: show a progress bar.

    Attributes:
        result: the curve; None before the test.

    Raises:
        ConfigError: a value is out of range.
        RangeTestError: in the fit, no batch to train on, no lr above 0, or not exactly one optimizer.

    Source: https://arxiv.org/abs/1506.01186

    Example:
        >>> test = LRRangeTest(start_lr=1e-5, end_lr=1.0, num_steps=50, then="stop")
        >>> trainer = pl.Trainer(callbacks=[test], logger=False, enable_checkpointing=False)
        >>> # trainer.fit(module, data); suggest(test.result).valley
    """

    order = Order.RANGE_TEST

    def __init__(
        self,
        *,
        start_lr: float = 1e-7,
        end_lr: float = 10.0,
        num_steps: int = 100,
        smoothing: float = 0.98,
        stop_factor: float = 4.0,
        epoch: int = 0,
        then: Literal["train", "stop"] = "train",
        progress: bool = False,
    ) -> None:
        check_range("start_lr", start_lr, "(0, inf)")
        check_range("end_lr", end_lr, f"({start_lr}, inf)", "end with a larger lr than start_lr")
        check_range("num_steps", num_steps, f"[{MIN_STEPS}, inf)", "give the curve more points")
        check_range("smoothing", smoothing, "[0, 1)")
        check_range("stop_factor", stop_factor, "(1, inf)")
        self.start_lr, self.end_lr, self.num_steps = start_lr, end_lr, num_steps
        self.smoothing, self.stop_factor, self.epoch = smoothing, stop_factor, epoch
        self.then, self.progress = then, progress
        self.result: RangeTestResult | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Run the test in the first epoch that is not before `epoch`."""
        if self.result is not None or trainer.current_epoch < self.epoch:
            return
        with preserved_rng(), preserved_module(pl_module), preserved_fit(trainer):
            self.result = self._sweep(trainer, _only_optimizer(trainer))
        if self.then == "stop":
            end_fit()

    def _sweep(self, trainer: pl.Trainer, optimizer: Optimizer) -> RangeTestResult:
        shares = _lr_shares(optimizer)
        lrs = np.geomspace(self.start_lr, self.end_lr, self.num_steps).tolist()
        raw: list[float] = []
        smoothed: list[float] = []
        average, restarts = 0.0, 0
        stopped: Literal["completed", "diverged"] = "completed"
        with closing(optimizer_steps(trainer)) as steps:
            for lr in track(lrs, "learning rate range test", transient=True, disable=not self.progress):
                for group, share in zip(optimizer.param_groups, shares, strict=True):
                    group["lr"] = lr * share
                restarts, loss = next(steps)
                raw.append(loss)
                average = self.smoothing * average + (1 - self.smoothing) * loss
                smoothed.append(average / (1 - self.smoothing ** len(raw)))
                if self._is_diverging(smoothed):
                    stopped = "diverged"
                    break
        return RangeTestResult(tuple(lrs[: len(raw)]), tuple(smoothed), tuple(raw), self.num_steps, stopped, restarts)

    def _is_diverging(self, losses: Sequence[float]) -> bool:
        best = min(losses)
        # Not `> stop_factor * best`, which is true from the start for a negative loss.
        return not math.isfinite(losses[-1]) or losses[-1] > best + (self.stop_factor - 1) * abs(best)


def range_test(trainer: pl.Trainer, module: pl.LightningModule, data: Any = None, **options: Any) -> RangeTestResult:
    """Run a range test without a fit: the module keeps its weights; the trainer cannot be used again.

    Args:
        trainer: configured as for the fit, with the callbacks that freeze layers or change batches.
        module: module to train.
        data: data module or loaders, as for `trainer.fit`.
        options: arguments of LRRangeTest.

    Raises:
        ConfigError, RangeTestError: as LRRangeTest.
        KeyboardInterrupt: after Ctrl-C.
        SIGTERMException: after SIGTERM.

    Example:
        >>> import torch
        >>> class Line(pl.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(1, 1)
        ...     def training_step(self, batch):
        ...         return (self.layer(batch) - 3 * batch).square().mean()
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=0.1)
        >>> loader = torch.utils.data.DataLoader(torch.ones(8, 1), batch_size=4)
        >>> trainer = pl.Trainer(accelerator="cpu", max_epochs=1, barebones=True)
        >>> result = range_test(trainer, Line(), loader, num_steps=20, end_lr=0.1)
        >>> len(result.lrs), result.stopped
        (20, 'completed')
    """
    test = LRRangeTest(then="stop", **options)
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    insert_in_order(callbacks, test)
    record_sigterm(trainer)
    try:
        with preserved_rng(), preserved_module(module):
            trainer.fit(module, data)
    except SIGTERMException:
        raise
    except SystemExit as stop:  # Lightning turns Ctrl-C into an exit
        raise KeyboardInterrupt from stop
    finally:
        callbacks.remove(test)
    if test.result is None:
        raise RangeTestError("expected batches to train on, found an empty loader; check the training data")
    return test.result


def _only_optimizer(trainer: pl.Trainer) -> Optimizer:
    if len(trainer.optimizers) != 1 or not trainer.lightning_module.automatic_optimization:
        raise RangeTestError(
            f"expected one optimizer under automatic optimization, found {len(trainer.optimizers)}"
            f"{'' if trainer.lightning_module.automatic_optimization else ' under manual optimization'}; "
            "choose the learning rate of this module by hand"
        )
    return trainer.optimizers[0]


def _lr_shares(optimizer: Optimizer) -> list[float]:
    """Ratio of each param group's lr to the largest; 0 for a frozen group."""
    groups = optimizer.param_groups
    trainable = [any(parameter.requires_grad for parameter in group["params"]) for group in groups]
    for key in ("lr", "initial_lr"):  # a warm-up may start at 0
        lrs = [float(group.get(key, 0.0)) * is_trainable for group, is_trainable in zip(groups, trainable, strict=True)]
        if max(lrs) > 0:
            return [lr / max(lrs) for lr in lrs]
    raise RangeTestError("expected a trainable param group with an lr above 0, found none; give the optimizer an lr")


def suggest(result: RangeTestResult) -> Suggestions:
    """Suggest learning rates from a curve, by four rules.

    Raises:
        NoSuggestionError: the curve suggests none; its `reason` is "NaN", "too short", "rising" or "flat".

    Example:
        >>> lrs = tuple(np.geomspace(1e-5, 1.0, 60).tolist())
        >>> losses = tuple((2 - np.tanh(np.log10(lrs) + 3)).tolist())
        >>> result = RangeTestResult(lrs, losses, losses, num_steps=60, stopped="completed", restarts=0)
        >>> f"{suggest(result).steep:.0e}"
        '9e-04'
    """
    lrs, losses = usable(result.lrs, result.losses, num_steps=result.num_steps)
    _check_falling(lrs, losses, result)
    return Suggestions(**{name: rule(lrs, losses) for name, rule in RULES.items()})


def usable(lrs: Values, losses: Values, *, num_steps: int) -> tuple[Floats, Floats]:
    """Drop the first `num_steps // 10` and the last 5 points, as fastai does before it applies its rules."""
    part = slice(num_steps // 10, -5)
    return np.asarray(lrs, dtype=float)[part], np.asarray(losses, dtype=float)[part]


def is_past_lowest(result: RangeTestResult, lr: float) -> bool:
    """Return True if the loss is lowest before `lr`: steep and slide may mistake noise for a descent."""
    lrs, losses = usable(result.lrs, result.losses, num_steps=result.num_steps)
    return bool(lr > lrs[np.argmin(losses)])


def valley(lrs: Values, losses: Values) -> float:
    """Return the lr halfway down the longest descent: fastai's default.

    A descent is a decreasing subsequence of the losses, so noise between its points does not end it. Halfway is half
    of its number of points before its end.

    Example:
        >>> lrs = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
        >>> valley(lrs, [2.0, 1.8, 1.9, 1.2, 1.1, 3.0])
        0.0001
    """
    losses = np.asarray(losses)
    lengths = np.ones(len(losses), dtype=int)
    for i in range(1, len(losses)):
        lengths[i] += lengths[:i].max(where=losses[:i] > losses[i], initial=0)
    end, length = int(lengths.argmax()), int(lengths.max())
    return float(lrs[max(end - length + length // 3 + length // 6, 0)])


def steep(lrs: Values, losses: Values) -> float:
    """Return the lr at which the loss falls fastest over log lr: fastai's `steep`."""
    return float(lrs[int(np.argmin(np.diff(losses) / np.diff(np.log(lrs))))])


def slide(lrs: Values, losses: Values) -> float:
    """Return the left end of the rightmost window of 15 points whose ends have equal slopes: fastai's `slide`."""
    slopes = np.gradient(np.asarray(losses))
    window = min(SLIDE_WINDOW, len(slopes) - 1)
    left = start = len(slopes) - 1 - window
    while left >= 0 and abs(slopes[left + window] - slopes[left]) > SLIDE_SLOPE:
        left -= 1
    return float(lrs[min(left + 1, start)])


def minimum(lrs: Values, losses: Values) -> float:
    """Return a tenth of the lr with the smallest loss: fastai's `minimum`."""
    return float(lrs[int(np.argmin(losses))]) / 10


RULES: dict[str, Callable[[Values, Values], float]] = {
    "valley": valley,
    "steep": steep,
    "slide": slide,
    "minimum": minimum,
}


def _check_falling(lrs: Floats, losses: Floats, result: RangeTestResult) -> None:
    """Raise NoSuggestionError unless the loss falls by more than noise explains."""
    bad = next((i for i, loss in enumerate(result.losses) if not math.isfinite(loss)), None)
    if bad is not None and (len(losses) < MIN_POINTS or not np.isfinite(losses).all()):
        raise NoSuggestionError(
            "NaN", f"the loss is {result.losses[bad]} at step {bad + 1}; check photos, labels and precision"
        )
    if len(losses) < MIN_POINTS:
        raise NoSuggestionError(
            "too short",
            f"expected at least {MIN_POINTS} points between the first {result.num_steps // 10} and the last 5, "
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
    """Return True if the smoothed loss falls by CLEAR_FALL, or the raw loss by more than noise (t statistic)."""
    lowest, width = int(losses.argmin()), max(len(losses) // 8, 2)
    first = lowest + 1 - width
    if first < width:
        return False
    start = float(np.median(losses[:width]))
    if start - losses[lowest] > CLEAR_FALL * abs(start):
        return True
    before, last = raw[: max(first // 2, width)], raw[first : lowest + 1]
    noise = np.median(np.abs(np.diff(raw[: lowest + 1]))) / MEDIAN_DIFFERENCE
    return bool(before.mean() - last.mean() > CLEAR_OF_NOISE * noise * math.sqrt(1 / len(before) + 1 / len(last)))
