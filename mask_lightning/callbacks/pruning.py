"""End a run whose score is poor compared with other runs of a hyperparameter search."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytorch_lightning as pl

from mask_lightning.callbacks.order import Order, OrderedCallback

log = logging.getLogger(__name__)

Report = Callable[[int, float], bool]


class Pruning(OrderedCallback):
    """Report the score of each validation, and end the fit after the epoch if `report` returns True.

    The epoch is completed, so its checkpoint can be resumed. The last validation is reported but never prunes. Under
    DDP every process needs this callback; the process of rank 0 reports and decides.

    Args:
        monitor: key of the score.
        report: called with the number of the epoch (from 1) and the score; None in the processes of other ranks.

    Attributes:
        pruned: True if the fit was ended.
    """

    order = Order.PRUNE

    def __init__(self, monitor: str, report: Report | None = None) -> None:
        self.monitor, self.report, self.pruned = monitor, report, False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the score, and decide for all processes."""
        if trainer.sanity_checking:
            return
        epoch, score = trainer.current_epoch + 1, float(trainer.callback_metrics[self.monitor])
        ends = self.report is not None and self.report(epoch, score)
        if trainer.strategy.broadcast(ends) and epoch != trainer.max_epochs:
            self.pruned = trainer.should_stop = True
            log.info("pruned after epoch %d of %s: %s %.3f", epoch, trainer.max_epochs, self.monitor, score)
