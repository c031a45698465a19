"""Make an optimizer step over several batches equal to the step of one large batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from mask_lightning.callbacks.order import Order, OrderedCallback

log = logging.getLogger(__name__)


class AccumulationMean(OrderedCallback):
    """Average accumulated gradients over the photos of an optimizer step.

    Lightning divides the loss of each batch by `accumulate_grad_batches`. At the end of an epoch fewer batches may be
    left for a step, whose gradient is then too small, and a smaller last batch counts as much as the others. This
    callback corrects the loss before the backward pass, so that the gradient is the mean over all photos of the step.

    The sizes of the batches come from the attribute `sizes` of the training loader's batch sampler; without it, all
    batches have the same weight. A step of several processes is corrected together with `CommonStep`.

    Example:
        >>> options = {"logger": False, "enable_checkpointing": False, "accumulate_grad_batches": 4}
        >>> trainer = pl.Trainer(callbacks=[AccumulationMean()], **options)
    """

    order = Order.ACCUMULATE

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._batch = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the sizes of the batches, and warn if an epoch has fewer batches than are accumulated."""
        batches, accumulated = trainer.num_training_batches, trainer.accumulate_grad_batches
        if batches == float("inf"):
            return  # where the last window of such a loader ends is unknown
        sampler = getattr(trainer.train_dataloader, "batch_sampler", None)
        self._sizes = list(getattr(sampler, "sizes", [1] * int(batches)))[: int(batches)]
        if accumulated > batches and trainer.is_global_zero:
            log.warning(
                "trainer.accumulate=%d is more than the %d batches of an epoch: an epoch has one optimizer step, over "
                "all its batches; lower trainer.accumulate or data.batch_size",
                *(accumulated, batches),
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the position of the batch in the epoch."""
        self._batch = batch_idx

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Correct the loss, which Lightning has divided. In place, because it ignores what the hook returns."""
        if self._sizes:
            factor = loss_factor(self._sizes, self._batch, trainer.accumulate_grad_batches)
            if factor != 1:
                loss.mul_(factor)


def loss_factor(sizes: Sequence[int], batch: int, accumulated: int) -> float:
    """Compute the factor of a batch's mean loss, already divided by `accumulated`, in the mean over an optimizer step.

    Args:
        sizes: photos in each batch of the epoch.
        batch: position of the batch, from 0.
        accumulated: batches per optimizer step; fewer are left at the end of an epoch.

    Example:
        >>> [loss_factor([4, 4, 4, 4, 2], batch, 2) for batch in range(5)]
        [1.0, 1.0, 1.0, 1.0, 2.0]
    """
    start = batch - batch % accumulated
    return accumulated * sizes[batch] / sum(sizes[start : start + accumulated])
