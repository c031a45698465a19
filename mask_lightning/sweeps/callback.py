"""The Hydra callback that leaves a summary of every multirun."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from mask_lightning.errors import MaskLightningError


class SweepSummary(Callback):
    """Writes summary.csv after each job, and the table and the plot when the sweep ends, also by Ctrl-C.

    Attributes:
        sweep: the folder of the sweep that this process started; None outside one. It is of the class because Hydra
            makes the object, and after Ctrl-C tells it nothing: the door does.
    """

    sweep: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember the sweep, and bring an Optuna study up to date."""
        from mask_lightning.sweeps import records, studies

        folder = Path(config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)  # Optuna's sweeper leaves it to the first job; there may be none
        records.clear(folder)
        try:
            if studies.is_configured(config):
                studies.prepare(config)
        except MaskLightningError as error:
            # Hydra turns an exception of a callback into a warning, and would go on.
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from error
        SweepSummary.sweep = folder

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Bring summary.csv up to date, so that it is there whatever happens."""
        if config.hydra.mode == RunMode.MULTIRUN:
            from mask_lightning.sweeps.summary import write_summary

            write_summary(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Report."""
        self.report()

    @classmethod
    def report(cls) -> None:
        """Report on the sweep that this process started, if it did; once."""
        if cls.sweep is not None:
            from mask_lightning.sweeps.summary import report

            report(cls.sweep)

    @classmethod
    def withdraw(cls) -> None:
        """Remove the folder of the sweep that this process started, where Hydra refused it before its first job."""
        if cls.sweep is not None and {path.name for path in cls.sweep.iterdir()} <= {"multirun.yaml"}:
            shutil.rmtree(cls.sweep)
        cls.sweep = None

    @classmethod
    def any_failed(cls) -> bool:
        """Whether a job of the sweep that this process started failed, in whatever process."""
        from mask_lightning.sweeps.summary import any_failed

        return cls.sweep is not None and any_failed(cls.sweep)
