"""Validate after the last epoch, whatever the interval of the validations."""

from __future__ import annotations

import pytorch_lightning as pl

from mask_lightning.callbacks.order import Order, OrderedCallback


class FinalValidation(OrderedCallback):
    """Validate after every n-th epoch and after the last one.

    Lightning validates after every n-th epoch only, so the epochs after the last multiple of n would have no score, and
    a checkpoint that is saved at validations would lack them.

    Args:
        every: n; 1 validates after every epoch.

    Example:
        >>> trainer = pl.Trainer(max_epochs=5, callbacks=[FinalValidation(2)], logger=False, enable_checkpointing=False)
        >>> # trainer.fit validates after the epochs 2, 4 and 5
    """

    order = Order.SCORE

    def __init__(self, every: int) -> None:
        self.every = every

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose the interval: Lightning skips `on_train_epoch_start` when it resumes in the middle of an epoch."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate after this epoch if it is the last."""
        is_last = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
        trainer.check_val_every_n_epoch = 1 if is_last else self.every
