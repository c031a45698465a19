"""What makes the steps of several processes those of a single one."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class CommonStep(pl.Callback):
    """Under DDP, every photo of a step counts alike, and every process has the same module after it.

    DDP takes the mean of the gradients of the processes' own mean losses: of unequal shares, as of the last batch,
    the photos of the smaller one would count more, so each loss is weighed by its share. And DDP leaves BatchNorm's
    running statistics as each process's own: here they become their mean (timm's `distribute_bn` at every step). So
    moving averages, scores and checkpoints are the same in all processes. What BatchNorm normalises with in training
    stays the process's own share of the batch. List it before what reads the weights after a step.
    """

    def __init__(self) -> None:
        self._photos = 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the own photos."""
        self._photos = len(batch["index"])

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Weigh the loss, in place: nothing else hands it on."""
        own = torch.tensor(float(self._photos), device=loss.device)
        loss.mul_(own / trainer.strategy.reduce(own.clone(), reduce_op="mean"))

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the mean of the running statistics, all at once."""
        statistics = running_statistics(pl_module)
        if statistics:
            flat = torch.cat([each.flatten() for each in statistics])
            means = trainer.strategy.reduce(flat, reduce_op="mean").split([each.numel() for each in statistics])
            for each, mean in zip(statistics, means, strict=True):
                each.copy_(mean.view_as(each))


def running_statistics(module: nn.Module) -> list[Tensor]:
    """Means and variances of the BatchNorms that are in train mode."""
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm) and each.training]
    return [each for norm in norms for each in (norm.running_mean, norm.running_var) if each is not None]
