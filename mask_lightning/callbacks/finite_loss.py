"""Ends a run whose loss is no number, and tells on which photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor

from mask_lightning.errors import DivergedError
from mask_lightning.utils.files import write_atomically

TOLERANCE = 10  # under a GradScaler: steps in a row; it skips them and lowers its scale
REMEDY = "lower optim.lr, set trainer.clip_norm=1, or try trainer.precision=32-true"
STRIDE = 10  # steps between looks on a GPU, where every look waits for the device


class FiniteLoss(pl.Callback):
    """Raises as soon as the training loss is NaN or infinite, or the weights are at an epoch's end.

    That is before the epoch's checkpoint, so the last one stays good. Under 16-mixed such a step is skipped, and it
    takes more than `TOLERANCE` of them in a row. Under DDP every process stops with the one that saw it, and lists
    its share of the batch.

    Args:
        report: a CSV with the photos of the batches, `step` (the optimizer's, until then) and `path`, is written there.
        paths: of the training photos, by the batch's `index`.
    """

    def __init__(self, report: Path, paths: Sequence[str]) -> None:
        self.report, self.paths = report, paths
        self._unseen: list[tuple[int, Tensor, Tensor]] = []  # step, loss and rows, on the device
        self._broken: list[tuple[int, Tensor]] = []  # the last steps without a finite loss

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look, or remember what to look at."""
        self._unseen.append((trainer.global_step, outputs["loss"].detach(), batch["index"]))
        if pl_module.device.type == "cpu" or trainer.is_last_batch or len(self._unseen) == STRIDE:
            self._look(trainer)
        if trainer.is_last_batch:
            _check_weights(trainer, pl_module)

    def _look(self, trainer: pl.Trainer) -> None:
        finite = torch.stack([loss for _, loss, _ in self._unseen]).isfinite().tolist()
        tolerance = TOLERANCE if getattr(trainer.precision_plugin, "scaler", None) is not None else 0
        for is_finite, (step, _, index) in zip(finite, self._unseen, strict=True):
            self._broken = [] if is_finite else [*self._broken, (step, index)]
            if len(self._broken) > tolerance:
                break
        self._unseen.clear()
        if trainer.strategy.reduce_boolean_decision(len(self._broken) > tolerance, all=False):
            self._stop(trainer)

    def _stop(self, trainer: pl.Trainer) -> None:
        rank = f"-{trainer.global_rank}" if trainer.global_rank else ""
        report = self.report.with_name(f"{self.report.stem}{rank}{self.report.suffix}")
        if self._broken:
            rows = [(step, self.paths[row]) for step, index in self._broken for row in index.tolist()]
            write_atomically(report, pd.DataFrame(rows, columns=["step", "path"]).to_csv(index=False).encode())
        raise DivergedError(
            f"expected a finite loss, found NaN or infinity in epoch {trainer.current_epoch + 1}; the batch's photos "
            f"are listed in {report}; {REMEDY}"
        )


def has_finite_weights(module: pl.LightningModule) -> bool:
    """Whether no weight is NaN or infinite: a finite loss may have gradients that are not."""
    return bool(torch.stack([parameter.isfinite().all() for parameter in module.parameters()]).all())


def _check_weights(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    if not has_finite_weights(module):
        raise DivergedError(
            f"expected finite weights, found NaN or infinity after epoch {trainer.current_epoch + 1}; {REMEDY}"
        )
