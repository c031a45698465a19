"""metrics.csv: one row per epoch, kept across a resume."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch

from mask_lightning.utils.files import write_atomically

SCORED = ("val/", "clean_train/")  # only known after an epoch that validated


class EpochHistory(pl.Callback):
    """Writes every epoch's metrics, its number, step and lrs; the file is whole at any time.

    Lightning's CSVLogger would delete what an earlier part of the run wrote.

    Args:
        path: the CSV file; rows of epochs before the first one trained are kept, later ones replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[dict[Hashable, Any]] = []
        self._validated = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the rows of the epochs before a resume."""
        if self.path.exists():
            earlier = pd.read_csv(self.path)
            self._rows = earlier[earlier["epoch"] < trainer.current_epoch].to_dict("records")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember that this epoch's scores are its own: Lightning shows old ones until the next."""
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's row."""
        row: dict[Hashable, Any] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        for name, value in trainer.callback_metrics.items():
            if name.endswith(("_step", "_epoch")) or (name.startswith(SCORED) and not self._validated):
                continue
            row[name] = float(value) if isinstance(value, torch.Tensor) else value
        row |= {f"lr/{group['name']}": group["lr"] for group in trainer.optimizers[0].param_groups}
        self._validated = False
        self._rows.append(row)
        if trainer.is_global_zero:
            write_atomically(self.path, pd.DataFrame(self._rows).to_csv(index=False).encode())
