"""How SIGINT (Ctrl-C) and SIGTERM end a fit."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import SIGTERMException

from mask_lightning.callbacks.checkpoints import LastCheckpoint, is_common_moment

log = logging.getLogger(__name__)

SIGNALS: dict[int, type[BaseException]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: SIGTERMException}

GRACE = 20  # seconds for a validation to end, from the signal on: clusters send SIGKILL 30 s after SIGTERM


class Interruption(pl.Callback):
    """The first signal ends the fit after the step at hand, with a checkpoint; a second one at once, without.

    Between training steps the state is whole, within one it is not, nor is it in a validation: that one ends first, and
    is saved; one that takes longer than GRACE is given up, and the checkpoint before it stays the last. Of several
    processes rank 0 is the one to signal: all end together at their next common moment, but give up no validation. In
    threads other than the main one signals are left to Python. List it after `last`.

    Args:
        last: the checkpoint to resume from.
    """

    def __init__(self, last: LastCheckpoint) -> None:
        self.last = last
        self._received: int | None = None  # by this process
        self._received_at = 0.0
        self._heeded: int | None = None  # by all processes
        self._ignores_sigterm = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take SIGTERM over."""
        self._received = self._heeded = None
        self._ignores_sigterm = signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        hear_sigterm(trainer, self._receive)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take SIGINT over, until Lightning gives back what it found before this, after its teardown."""
        is_heard = signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None)
        if is_heard and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._receive)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Between two steps: save, and end."""
        if is_common_moment(trainer) and self._is_asked(trainer) and self.last.save_between_steps(trainer):
            self._end()

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        """Give one up that takes too long; not of several processes, as the others would wait for this one."""
        if trainer.world_size == 1 and self._is_asked(trainer) and monotonic() > self._received_at + GRACE:
            self._end()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """It was saved already."""
        if self._is_asked(trainer):
            self._end()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """All is saved."""
        if self._is_asked(trainer):
            self._end()

    def after_fit(self) -> None:
        """To be called then: a signal in Lightning's teardown, which cannot be ended in its middle, is heeded here."""
        if self._received is not None:
            raise SIGNALS[self._received]

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM and self._ignores_sigterm:
            return
        if self._received is not None:
            raise SIGNALS[number]
        self._received, self._received_at = number, monotonic()
        log.warning("the run ends after this step, or this validation; a second signal ends it at once, without saving")

    def _is_asked(self, trainer: pl.Trainer) -> bool:
        """Whether rank 0 was signalled, of which all processes hear here. One signalled later waits for its turn."""
        self._heeded = trainer.strategy.broadcast(self._received)
        return self._heeded is not None

    def _end(self) -> None:
        assert self._heeded is not None
        raise SIGNALS[self._heeded]


def hear_sigterm(trainer: pl.Trainer, hear: Callable[[int, FrameType | None], None]) -> None:
    """Let `hear` answer SIGTERM in the fit that begins, before those who waited for it already, as a launcher.

    Lightning's own answer waits for the other processes, within the handler, where these may wait for this one.
    """
    trainer._signal_connector._sigterm_notifier_fn = hear  # type: ignore[assignment, method-assign]


def note_sigterm(trainer: pl.Trainer) -> None:
    """For a fit without Interruption: `trainer.received_sigterm` tells of it."""

    def note(_: int, __: FrameType | None) -> None:
        trainer._signal_connector.received_sigterm = True

    hear_sigterm(trainer, note)
