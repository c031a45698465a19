"""End a run that no longer improves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping

from mask_lightning.callbacks.order import Order, OrderedCallback
from mask_lightning.settings.optim import PhaseSettings

log = logging.getLogger(__name__)


class LastPhaseStopping(OrderedCallback, EarlyStopping):
    """Apply Lightning's EarlyStopping to the last phase only, as stopping earlier would skip that phase.

    The best score is that of the last phase, whose first steps may lose some of what the phase before had reached. A
    score of NaN counts as no improvement. The count is part of a checkpoint.

    Args:
        phases: phases of the run.
        monitor: key of the metric.
        mode: "max" if larger is better, else "min".
        patience: validations without improvement after which the run ends.
    """

    order = Order.STOP

    def __init__(
        self, phases: Sequence[PhaseSettings], *, monitor: str, mode: Literal["max", "min"], patience: int
    ) -> None:
        super().__init__(monitor, mode=mode, patience=patience, check_finite=False, check_on_train_epoch_end=False)
        self.first_epoch = sum(phase.epochs for phase in phases[:-1])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at once if the patience is used up: Lightning restores the count, but not the decision to stop."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count validations without improvement, and log the end of the run."""
        if trainer.current_epoch < self.first_epoch:
            return
        super().on_validation_end(trainer, pl_module)
        if self.wait_count >= self.patience:
            log.info(
                "%s has not improved on %.3f in %d validations: the run ends after epoch %d of %d",
                *(self.monitor, self.best_score, self.wait_count, trainer.current_epoch + 1, trainer.max_epochs),
            )
