"""How SIGINT (Ctrl-C) and SIGTERM end a fit."""

from __future__ import annotations

import logging
import signal
import threading
from functools import partial
from time import monotonic
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from mask_lightning.callbacks.checkpoints import LastCheckpoint, is_common_moment

log = logging.getLogger(__name__)

SIGNALS: dict[int, type[BaseException]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: SIGTERMException}

GRACE = 20  # seconds for a validation to end: clusters send SIGKILL 30 s after SIGTERM


class Interruption(pl.Callback):
    """The first signal ends the fit after the step at hand, with a checkpoint; a second one at once, without.

    Between training steps the state is whole, within one it is not, nor is it in a validation: that one ends first, and
    is saved; one that takes longer than GRACE is given up, and the checkpoint before it stays the last. Several
    processes end together, a few steps after one of them is signalled. In threads other than the main one signals are
    left to Lightning. List it after `last`.

    Args:
        last: the checkpoint to resume from.
    """

    def __init__(self, last: LastCheckpoint) -> None:
        self.last = last
        self._received: int | None = None
        self._received_at = 0.0
        self._receiver: partial[None] | None = None
        self._former: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals over."""
        if threading.current_thread() is threading.main_thread():
            self._received, self._receiver = None, partial(self._receive, trainer)
            heard = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
            self._former = {number: signal.signal(number, self._receiver) for number in heard}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Between two steps: save, and end."""
        if is_common_moment(trainer):
            self._agree(trainer)
            if self._received is not None and self.last.save_between_steps(trainer):
                self._end()

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        """Give one up that takes too long; not of several processes, as the others would wait for this one."""
        if trainer.world_size == 1 and monotonic() > self._received_at + GRACE:
            self._end()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """It was saved already."""
        self._agree(trainer)
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
        self._received_at = self._received_at if is_second else monotonic()
        # Who else wants to know, as a launcher. Not Lightning, whose handlers stand in between: they would end an
        # accumulation, and wait for the other processes where those wait for this one.
        former: Any = trainer._signal_connector._original_handlers.get(number)
        if number == signal.SIGTERM and callable(former):
            former(number, frame)
        if is_second:
            self._end()
        log.warning("the run ends after this step, or this validation; a second signal ends it at once, without saving")

    def _agree(self, trainer: pl.Trainer) -> None:
        """What one of several processes has received, all have."""
        if trainer.world_size > 1:
            number = torch.tensor(float(self._received or 0), device=trainer.strategy.root_device)
            self._received = int(trainer.strategy.reduce(number, reduce_op="max")) or None

    def _end(self) -> None:
        if self._received is not None:
            raise SIGNALS[self._received]

    def _give_back(self) -> None:
        for number, handler in self._former.items():
            if signal.getsignal(number) is self._receiver:  # else Lightning has it, for its shutdown
                signal.signal(number, handler)
        self._former = {}
