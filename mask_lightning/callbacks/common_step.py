"""Make a training step of several processes equal to the step of a single one."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mask_lightning.callbacks.order import Order, OrderedCallback


class CommonStep(OrderedCallback):
    """Give every photo the same weight under DDP, and every process the same module after a step.

    DDP averages the gradients of each process's mean loss. If the shares of a batch differ in size, as in the last
    batch, photos of a smaller share count more; this callback multiplies each loss by its share. DDP also leaves the
    running statistics of BatchNorm different in each process; this callback averages them after every step (timm's
    `distribute_bn`), so that moving averages, scores and checkpoints agree. In training, BatchNorm still normalizes
    with the statistics of the process's own share.

    Batches are mappings with an `"index"` of one entry per photo.
    """

    order = Order.SYNCHRONIZE

    def __init__(self) -> None:
        self._photos = 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the photos of this process."""
        self._photos = len(batch["index"])

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Weight the loss by the share of photos. In place, because Lightning ignores what the hook returns."""
        own = torch.full((), float(self._photos), device=loss.device)  # a kernel; a copy would wait for the device
        loss.mul_(own / trainer.strategy.reduce(own.clone(), reduce_op="mean"))

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Average the running statistics of all norms in one reduction."""
        statistics = running_statistics(pl_module)
        if statistics:
            flat = torch.cat([each.flatten() for each in statistics])
            means = trainer.strategy.reduce(flat, reduce_op="mean").split([each.numel() for each in statistics])
            for each, mean in zip(statistics, means, strict=True):
                each.copy_(mean.view_as(each))


def running_statistics(module: nn.Module) -> list[Tensor]:
    """Means and variances of the BatchNorms in train mode."""
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm) and each.training]
    return [each for norm in norms for each in (norm.running_mean, norm.running_var) if each is not None]
