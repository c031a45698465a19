"""How SIGINT (Ctrl-C) and SIGTERM end a fit."""

from __future__ import annotations

import logging
import signal
import threading
from functools import partial
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import SIGTERMException

from mask_lightning.callbacks.checkpoints import LastCheckpoint

log = logging.getLogger(__name__)

SIGNALS: dict[int, type[BaseException]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: SIGTERMException}


class Interruption(pl.Callback):
    """The first signal ends the fit after the step at hand, with a checkpoint; a second one at once, without.

    Between training steps the state is whole, within one it is not. A signal in a validation ends the fit with the
    validation's batch, and the checkpoint before it stays the last. Where several processes train, and in threads
    other than the main one, signals are left to Lightning. List it after `last`.

    Args:
        last: the checkpoint to resume from.
    """

    def __init__(self, last: LastCheckpoint) -> None:
        self.last = last
        self._received: int | None = None
        self._receiver: partial[None] | None = None
        self._former: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals over."""
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            self._received, self._receiver = None, partial(self._receive, trainer)
            heard = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
            self._former = {number: signal.signal(number, self._receiver) for number in heard}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Between two steps: save, and end."""
        if self._received is not None and self.last.save_between_steps(trainer):
            self._end()

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        """Nothing to save that was not saved before."""
        self._end()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """It was saved already."""
        self._end()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the signals back; all is saved."""
        self._give_back()
        self._end()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._give_back()

    def _receive(self, trainer: pl.Trainer, number: int, frame: FrameType | None) -> None:
        is_second, self._received = self._received is not None, number
        if number == signal.SIGTERM and callable(former := self._former[number]):
            former(number, frame)  # who else wants to know, as a launcher; Lightning itself would end an accumulation
            trainer._signal_connector.received_sigterm = False
        if is_second:
            self._end()
        log.warning("the run ends after this step; a second signal ends it at once, without saving")

    def _end(self) -> None:
        if self._received is not None:
            raise SIGNALS[self._received]

    def _give_back(self) -> None:
        for number, handler in self._former.items():
            if signal.getsignal(number) is self._receiver:  # else Lightning has it, for its shutdown
                signal.signal(number, handler)
        self._former = {}
