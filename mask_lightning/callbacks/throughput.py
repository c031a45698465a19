"""Photos per second of training, without the time that validation takes."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import pytorch_lightning as pl


class Throughput(pl.Callback):
    """Counts photos and seconds from an epoch's start to its end, loading included and validation left out."""

    def __init__(self) -> None:
        self.photos = 0
        self.seconds = 0.0
        self._since: float | None = None

    @property
    def photos_per_second(self) -> float:
        """0 before the first batch."""
        return self.photos / self.seconds if self.seconds else 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, for an epoch that is resumed in its middle, too."""
        self._since = perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave out what lay between two epochs."""
        self._since = perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch and read the clock."""
        self.photos += len(batch["index"]) * trainer.world_size
        now = perf_counter()
        if self._since is not None:
            self.seconds += now - self._since
        self._since = now

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave out what validation took."""
        self._since = perf_counter()
