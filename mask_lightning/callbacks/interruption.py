"""End a fit on SIGINT (Ctrl-C) or SIGTERM between two steps, with a checkpoint."""

from __future__ import annotations

import logging
import signal
import threading
from time import monotonic
from types import FrameType
from typing import Any

import pytorch_lightning as pl
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
    last one. Of several processes only rank 0 reacts to signals: all end together after a step at which
    `is_common_moment` is true, and never abandon a validation. Outside of the main thread Python handles the signals.

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

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the handler of SIGTERM."""
        self._received = self._agreed = None
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

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        """Abandon a validation that takes too long; not under DDP, where other processes would wait for this one."""
        if trainer.world_size == 1 and self._should_end(trainer) and monotonic() > self._received_at + GRACE:
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
            raise SIGNALS[number]
        self._received, self._received_at = number, monotonic()
        log.warning("the run ends after this step or validation; a second signal ends it at once, without saving")

    def _should_end(self, trainer: pl.Trainer) -> bool:
        """Return True if rank 0 has received a signal; a later signal waits for the next broadcast."""
        self._agreed = trainer.strategy.broadcast(self._received)
        return self._agreed is not None

    def _end(self) -> None:
        assert self._agreed is not None
        raise SIGNALS[self._agreed]
