"""Report the progress of a run: progress bar, throughput, and metrics.csv with one row per epoch."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn

from mask_lightning.callbacks.order import Order, OrderedCallback
from mask_lightning.metrics.scores import MAIN_METRIC
from mask_lightning.utils.files import write_atomically

log = logging.getLogger(__name__)

WIDE = 110  # columns of a terminal that has room for a long bar and all scores
VALIDATION_METRICS = ("val/", "clean_train/")  # exist only for epochs that validated


class ProgressBar(RichProgressBar):
    """Lightning's Rich progress bar in one line of 80 columns: batches, remaining time, loss of the step, and scores.

    It has no version number and no speed, and scores on training photos only where there is room for them.
    """

    @staticmethod
    def can_show() -> bool:
        """Return True on a terminal and in a notebook; in a log file a bar would be noise."""
        console = Console()
        return console.is_terminal or console.is_jupyter

    def configure_columns(self, trainer: pl.Trainer) -> list[ProgressColumn]:
        """Columns before the metrics."""
        bar = BarColumn(bar_width=40 if self._is_wide() else 10)
        left = TimeRemainingColumn(elapsed_when_finished=True)
        return [TextColumn("{task.description}"), bar, MofNCompleteColumn(), left]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the bar of the epoch; Lightning would count epochs from 0."""
        super().on_train_epoch_start(trainer, pl_module)
        if self.progress is not None and self.train_progress_bar_id is not None:
            description = f"Epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self.progress.update(self.train_progress_bar_id, description=description.ljust(len("Validation")))

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Metrics shown beside the progress bar."""
        metrics = super().get_metrics(trainer, pl_module)
        left_out = ("v_num", *(() if self._is_wide() else (name for name in metrics if name.startswith("clean_"))))
        names = {name: name.removeprefix("train/").removesuffix("_step") for name in metrics}
        return {names[name]: metrics[name] for name in names if name not in left_out and not name.endswith("_epoch")}

    def print_line(self, line: str) -> bool:
        """Print a line above the bar. Return False, printing nothing, if there is no bar."""
        if self.progress is None or not self.progress.live.is_started:
            return False
        self.progress.console.print(line, highlight=False, markup=False)
        return True

    def _is_wide(self) -> bool:
        console = self._console or Console()
        return console.width >= WIDE


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

    Each epoch also prints a line with its loss and scores, above the progress bar or in the log.

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
            earlier = pd.read_csv(self.path, dtype=str)  # as text, because pandas before 3 changes the last digit
            self._rows = earlier[earlier["epoch"].astype(int) < trainer.current_epoch].to_dict("records")

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
            line, bar = describe_epoch(row, trainer.max_epochs), trainer.progress_bar_callback
            if not (isinstance(bar, ProgressBar) and bar.print_line(line)):
                log.info(line)


def describe_epoch(row: Mapping[Hashable, Any], epochs: int | None) -> str:
    """Return the line that an epoch prints: its number, from 1, the training loss and the main scores.

    Example:
        >>> describe_epoch({"epoch": 0, "train/loss": 2.1, "val/f1": 0.25, "val/age/f1": 0.3, "lr/heads": 0.1}, 3)
        'epoch 1 of 3: train/loss 2.100, val/f1 0.250'
    """
    shown = ("train/loss", *(f"{side}{MAIN_METRIC}" for side in VALIDATION_METRICS))
    scores = ", ".join(f"{name} {row[name]:.3f}" for name in shown if name in row)
    return f"epoch {row['epoch'] + 1} of {epochs}: {scores}"
