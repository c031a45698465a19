"""End a run whose loss or weights become NaN or infinite, and list the photos of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor

from mask_lightning.callbacks.order import Order, OrderedCallback
from mask_lightning.errors import DivergedError
from mask_lightning.utils.files import write_atomically

TOLERANCE = 10  # consecutive steps under a GradScaler, which skips them and lowers its scale
REMEDY = "lower optim.lr, set trainer.clip_norm=1, or try trainer.precision=32-true"
STRIDE = 10  # steps between checks on a GPU, where every check waits for the device


class FiniteLoss(OrderedCallback):
    """Raise as soon as the training loss is NaN or infinite, or at the end of an epoch if a weight is.

    That is before the epoch's checkpoint, so the last checkpoint stays good. 16-mixed skips such steps, so there it
    takes more than `TOLERANCE` of them in a row. Under DDP all processes stop together, and each lists its share of
    the batch.

    Args:
        report: CSV file for the photos of those batches: `step` (optimizer steps before) and `path`.
        paths: paths of the training photos; a batch's `"index"` has positions in it.

    Raises:
        DivergedError: in the fit, a loss or weight that is NaN or infinite.
    """

    order = Order.CHECK

    def __init__(self, report: Path, paths: Sequence[str]) -> None:
        self.report, self.paths = report, paths
        self._unchecked: list[tuple[int, Tensor, Tensor]] = []  # step, loss and rows, on the device
        self._not_finite: list[tuple[int, Tensor]] = []  # step and rows of the latest steps in a row

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the loss, or queue it for the next check."""
        self._unchecked.append((trainer.global_step, outputs["loss"].detach(), batch["index"]))
        if pl_module.device.type == "cpu" or trainer.is_last_batch or len(self._unchecked) == STRIDE:
            self._check_losses(trainer)
        if trainer.is_last_batch:
            _check_weights(trainer, pl_module)

    def _check_losses(self, trainer: pl.Trainer) -> None:
        finite = torch.stack([loss for _, loss, _ in self._unchecked]).isfinite().tolist()
        tolerance = TOLERANCE if getattr(trainer.precision_plugin, "scaler", None) is not None else 0
        for is_finite, (step, _, index) in zip(finite, self._unchecked, strict=True):
            self._not_finite = [] if is_finite else [*self._not_finite, (step, index)]
            if len(self._not_finite) > tolerance:
                break
        self._unchecked.clear()
        if trainer.strategy.reduce_boolean_decision(len(self._not_finite) > tolerance, all=False):
            self._stop(trainer)

    def _stop(self, trainer: pl.Trainer) -> None:
        rank = f"-{trainer.global_rank}" if trainer.global_rank else ""
        report = self.report.with_name(f"{self.report.stem}{rank}{self.report.suffix}")
        if self._not_finite:
            rows = [(step, self.paths[row]) for step, index in self._not_finite for row in index.tolist()]
            write_atomically(report, pd.DataFrame(rows, columns=["step", "path"]).to_csv(index=False).encode())
        raise DivergedError(
            f"expected a finite loss, found NaN or infinity in epoch {trainer.current_epoch + 1}; the batch's photos "
            f"are listed in {report}; {REMEDY}"
        )


def has_finite_weights(module: pl.LightningModule) -> bool:
    """Return True if no weight is NaN or infinite. A finite loss may have gradients that are not."""
    return bool(torch.stack([parameter.isfinite().all() for parameter in module.parameters()]).all())


def _check_weights(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    if not has_finite_weights(module):
        raise DivergedError(
            f"expected finite weights, found NaN or infinity after epoch {trainer.current_epoch + 1}; {REMEDY}"
        )
