"""Ends a run that no longer improves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping

from mask_lightning.optim.phases import Phase

log = logging.getLogger(__name__)


class LastPhaseStopping(EarlyStopping):
    """Lightning's EarlyStopping over the last phase: earlier ones run to their end, or it would never begin.

    Counts anew in the last phase, whose first steps may cost some of what the phase before had reached. A score
    that is not a number counts as no improvement. The count is part of a checkpoint.

    Args:
        phases: of the run.
        monitor: the metric that counts.
        mode: whether more or less of it is better.
        patience: validations without improvement after which the run ends.
    """

    def __init__(self, phases: Sequence[Phase], *, monitor: str, mode: Literal["max", "min"], patience: int) -> None:
        super().__init__(monitor, mode=mode, patience=patience, check_finite=False, check_on_train_epoch_end=False)
        self.first_epoch = sum(phase.epochs for phase in phases[:-1])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that was to end ends: Lightning keeps the count in a checkpoint, but not what it led to."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count, and say so where that ends the run."""
        if trainer.current_epoch < self.first_epoch:
            return
        super().on_validation_end(trainer, pl_module)
        if self.wait_count >= self.patience:
            log.info(
                "%s has not improved on %.3f in %d validations: the run ends after epoch %d of %d",
                *(self.monitor, self.best_score, self.wait_count, trainer.current_epoch + 1, trainer.max_epochs),
            )
