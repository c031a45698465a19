"""End a fit on SIGINT (Ctrl-C) or SIGTERM between two steps, with a checkpoint."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Sequence
from time import monotonic
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from mask_lightning.callbacks.checkpoints import LastCheckpoint, is_common_moment
from mask_lightning.callbacks.order import Order, OrderedCallback
from mask_lightning.utils.lightning_compat import set_sigterm_handler

log = logging.getLogger(__name__)

SIGNALS: dict[int, type[BaseException]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: SIGTERMException}

GRACE = 20  # seconds from the signal to the end of a validation: clusters send SIGKILL 30 s after SIGTERM


class Interruption(OrderedCallback):
    """End the fit after the current step and save a checkpoint at the first signal; end it at once at the second.

    The training state can be saved between two training steps only. A signal during a validation therefore waits for
    its end; a validation that takes longer than GRACE seconds is abandoned, and the checkpoint before it stays the
    last one. Several processes end together, whichever of them received the signal: after a step at which
    `is_common_moment` is true, or in a validation, where they communicate about once per second. The second signal
    ends the process of rank 0, which ends the others. Outside of the main thread Python handles the signals.

    Call `after_fit` when `trainer.fit` has returned.

    Args:
        last: callback that saves the checkpoint to resume from.

    Raises:
        KeyboardInterrupt: in the fit, after SIGINT; Lightning turns it into SystemExit.
        SIGTERMException: in the fit, after SIGTERM.
    """

    order = Order.INTERRUPT

    def __init__(self, last: LastCheckpoint) -> None:
        self.last = last
        self._received: int | None = None  # signal that this process received
        self._received_at = 0.0
        self._agreed: int | None = None  # signal that all processes act on
        self._ignores_sigterm = False
        self._rank = 0
        self._pace = Pace([])

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the handler of SIGTERM."""
        self._received = self._agreed = None
        self._rank = trainer.global_rank
        self._ignores_sigterm = signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        set_sigterm_handler(trainer, self._receive)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the handler of SIGINT; Lightning restores the former one after its teardown."""
        is_ignored = signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None)
        if not is_ignored and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._receive)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and end between two steps."""
        if is_common_moment(trainer) and self._should_end(trainer) and self.last.save_between_steps(trainer):
            self._end()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find out how many batches all processes have: the shares of the photos may differ by one."""
        if trainer.world_size > 1:
            self._pace = Pace([-int(count) for count in _highest(trainer, *(-n for n in trainer.num_val_batches))])

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Abandon a validation that takes too long."""
        is_overdue = self._received is not None and monotonic() > self._received_at + GRACE
        overdue: float = (self._received or 0) if is_overdue else 0
        if trainer.world_size > 1:
            if not self._pace.is_due(batch_idx, dataloader_idx):
                return
            overdue, seconds = _highest(trainer, overdue, self._pace.seconds_per_batch(batch_idx))
            self._pace.plan_next(batch_idx, seconds)
        if overdue:
            self._agreed = int(overdue)
            self._end()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End: LastCheckpoint has saved the epoch."""
        if self._should_end(trainer):
            self._end()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End: everything is saved."""
        if self._should_end(trainer):
            self._end()

    def after_fit(self) -> None:
        """Raise for a signal that arrived during Lightning's teardown, which must not be interrupted."""
        if self._received is not None:
            raise SIGNALS[self._received]

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM and self._ignores_sigterm:
            return
        if self._received is not None:
            if self._rank:
                return
            raise SIGNALS[number]
        self._received, self._received_at = number, monotonic()
        log.warning("the run ends after this step or validation; a second signal ends it at once, without saving")

    def _should_end(self, trainer: pl.Trainer) -> bool:
        """Return True if a process has received a signal; a signal that comes later waits for the next agreement."""
        received = self._received or 0
        if trainer.world_size > 1:
            received = int(_highest(trainer, received)[0])
        self._agreed = received or None
        return self._agreed is not None

    def _end(self) -> None:
        assert self._agreed is not None
        raise SIGNALS[self._agreed]


class Pace:
    """Batches of a validation at which all processes communicate: about one per second, the same in each process.

    Args:
        common: number of batches of each loader that all processes have.

    Example:
        >>> pace = Pace([8])
        >>> [batch for batch in range(9) if pace.is_due(batch, 0) and pace.plan_next(batch, 0.25) is None]
        [0, 4]
    """

    def __init__(self, common: Sequence[int]) -> None:
        self.common = common
        self._next = self._last = 0
        self._since = monotonic()

    def is_due(self, batch_idx: int, dataloader_idx: int) -> bool:
        """Return True if the processes communicate after this batch; the first one of each loader is one."""
        if batch_idx == 0:
            self._next, self._last = 0, -1
        return batch_idx == self._next < self.common[dataloader_idx]

    def seconds_per_batch(self, batch_idx: int) -> float:
        """Return the time per batch since the processes have communicated last, in this process."""
        return (monotonic() - self._since) / (batch_idx - self._last)

    def plan_next(self, batch_idx: int, seconds_per_batch: float) -> None:
        """Choose the next batch from the time per batch of the slowest process."""
        self._last, self._since = batch_idx, monotonic()
        self._next = batch_idx + min(max(1, int(1 / max(seconds_per_batch, 1e-3))), 1000)


def _highest(trainer: pl.Trainer, *values: float) -> list[float]:
    """Return, for each value, the highest of all processes."""
    own = torch.tensor(values, dtype=torch.float32, device=trainer.strategy.root_device)
    highest: list[float] = trainer.strategy.reduce(own, reduce_op="max").tolist()
    return highest
