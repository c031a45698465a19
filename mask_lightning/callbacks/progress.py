"""Report the progress of a run: progress bar, throughput, and metrics.csv with one row per epoch."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar

from mask_lightning.callbacks.order import Order, OrderedCallback
from mask_lightning.utils.files import write_atomically

VALIDATION_METRICS = ("val/", "clean_train/")  # exist only for epochs that validated


class ProgressBar(RichProgressBar):
    """Lightning's Rich progress bar with the loss of the step and the scores, without the version number."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Metrics shown beside the progress bar."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num" and not name.endswith("_epoch")}


class Throughput(OrderedCallback):
    """Measure the photos per second of training, loading included, validation excluded.

    Batches are mappings with an `"index"` of one entry per photo.

    Attributes:
        photos: trained so far, in all processes.
        seconds: training time so far.

    Example:
        >>> throughput = Throughput()
        >>> throughput.photos, throughput.seconds = 640, 8.0
        >>> throughput.photos_per_second
        80.0
    """

    order = Order.MEASURE

    def __init__(self) -> None:
        self.photos = 0
        self.seconds = 0.0
        self._since: float | None = None

    @property
    def photos_per_second(self) -> float:
        """Photos per second; 0 before the first batch."""
        return self.photos / self.seconds if self.seconds else 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock: Lightning skips `on_train_epoch_start` when it resumes in the middle of an epoch."""
        self._since = perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Exclude the time between two epochs."""
        self._since = perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch and its time."""
        self.photos += len(batch["index"]) * trainer.world_size
        now = perf_counter()
        if self._since is not None:
            self.seconds += now - self._since
        self._since = now

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Exclude the time of the validation."""
        self._since = perf_counter()


class EpochHistory(OrderedCallback):
    """Write metrics.csv: a row per epoch with its number, step, metrics and the lr of every param group.

    The file is complete at any time. When a run resumes, rows of earlier epochs are kept (Lightning's CSVLogger would
    delete them) and rows of epochs that are trained again are replaced. Every param group needs a `"name"`.

    Args:
        path: the CSV file.
    """

    order = Order.HISTORY

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[dict[Hashable, Any]] = []
        self._has_validated = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the rows of the epochs before a resume."""
        if self.path.exists():
            earlier = pd.read_csv(self.path)
            self._rows = earlier[earlier["epoch"] < trainer.current_epoch].to_dict("records")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that this epoch has scores: Lightning keeps showing old ones until the next validation."""
        self._has_validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's row."""
        row: dict[Hashable, Any] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        for name, value in trainer.callback_metrics.items():
            is_old = name.startswith(VALIDATION_METRICS) and not self._has_validated
            if not is_old and not name.endswith(("_step", "_epoch")):
                row[name] = float(value) if isinstance(value, torch.Tensor) else value
        row |= {f"lr/{group['name']}": group["lr"] for group in trainer.optimizers[0].param_groups}
        self._has_validated = False
        self._rows.append(row)
        if trainer.is_global_zero:
            write_atomically(self.path, pd.DataFrame(self._rows).to_csv(index=False).encode())
