"""The learning rate range test: an exponential sweep that leaves no trace.

Paper: Smith, Cyclical learning rates for training neural networks, arXiv:1506.01186.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import SIGTERMException, _TunerExitException
from rich.progress import track
from torch.optim import Optimizer

from mask_lightning.callbacks.interruption import note_sigterm
from mask_lightning.callbacks.lr_suggestions import (
    RangeTestResult,
    Suggestions,
    minimum,
    slide,
    steep,
    suggest,
    usable,
    valley,
)
from mask_lightning.callbacks.training_state import preserved_fit, preserved_module, preserved_rng
from mask_lightning.callbacks.training_steps import optimizer_steps
from mask_lightning.errors import RangeTestError
from mask_lightning.optim.curves import check_range

__all__ = [
    "LRRangeTest",
    "RangeTestResult",
    "Suggestions",
    "minimum",
    "range_test",
    "slide",
    "steep",
    "suggest",
    "usable",
    "valley",
]

LEAST_STEPS = 10


class LRRangeTest(pl.Callback):
    """Sweeps the lr of all param groups that learn by one common factor, and puts everything back.

    At the start of an epoch, inside the running fit: accumulation, clipping and precision are its own, validation is
    left out, the scheduler stands still, and momentum stays where the schedule has it at that moment. Under several
    processes all see the mean of their losses. Weights, buffers, optimizer, schedulers, GradScaler and random states
    are then what they were, bit for bit, also after an exception or Ctrl-C; no file is written. List it after the
    callbacks that freeze and open layers. For any LightningModule with one optimizer and automatic optimization.

    Args:
        start_lr, end_lr: of the group with the largest lr; the others keep their ratios to it.
        num_steps: optimizer steps, at least 10; loaders that run out are begun anew.
        smoothing: decay of the losses' debiased moving average.
        stop_factor: stops where the average is so many times its best.
        epoch: at whose start, or at that of the first one after it.
        then: "train" on as if nothing had been, or "stop" the fit.
        progress: whether to show a bar.

    Attributes:
        result: the curve; None before the sweep.

    Raises:
        ConfigError: a value out of range.
        RangeTestError: nothing to train on, no lr above 0, or not just one optimizer.
    """

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
        check_range("num_steps", num_steps, f"[{LEAST_STEPS}, inf)", "give the curve more points")
        check_range("smoothing", smoothing, "[0, 1)")
        check_range("stop_factor", stop_factor, "(1, inf)")
        self.start_lr, self.end_lr, self.num_steps = start_lr, end_lr, num_steps
        self.smoothing, self.stop_factor, self.epoch = smoothing, stop_factor, epoch
        self.then, self.progress = then, progress
        self.result: RangeTestResult | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sweep, once."""
        if self.result is not None or trainer.current_epoch < self.epoch:
            return
        with preserved_rng(), preserved_module(pl_module), preserved_fit(trainer):
            self.result = self._sweep(trainer, _only_optimizer(trainer))
        if self.then == "stop":
            raise _TunerExitException  # Lightning's own way out of a fit that only tunes

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
        # Not stop_factor * best, which a loss below 0 would be above from the start.
        return not math.isfinite(losses[-1]) or losses[-1] > best + (self.stop_factor - 1) * abs(best)


def range_test(trainer: pl.Trainer, module: pl.LightningModule, data: Any = None, **options: Any) -> RangeTestResult:
    """The curve of a module as it stands, which it still does afterwards; the trainer is used up.

    Args:
        trainer: as for the real fit, with its callbacks that change how a batch is learned.
        module, data: as for `trainer.fit`.
        options: of LRRangeTest.

    Raises:
        ConfigError, RangeTestError: as LRRangeTest.
        KeyboardInterrupt: after Ctrl-C; SIGTERMException: after SIGTERM.
    """
    test = LRRangeTest(then="stop", **options)
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks.append(test)
    note_sigterm(trainer)
    try:
        with preserved_rng(), preserved_module(module):
            trainer.fit(module, data)
    except SIGTERMException:
        raise
    except SystemExit as stop:  # Lightning's answer to Ctrl-C
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
    """Each param group's lr as a share of the largest; 0 for one that is frozen."""
    groups = optimizer.param_groups
    learns = [any(parameter.requires_grad for parameter in group["params"]) for group in groups]
    for key in ("lr", "initial_lr"):  # a warm-up may begin with 0
        lrs = [float(group.get(key, 0.0)) * learning for group, learning in zip(groups, learns, strict=True)]
        if max(lrs) > 0:
            return [lr / max(lrs) for lr in lrs]
    raise RangeTestError("expected a param group that learns with an lr above 0, found none; give the optimizer an lr")
