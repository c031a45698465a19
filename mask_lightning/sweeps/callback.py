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
        launcher: of that sweep, the class that runs its jobs in other processes; None where this one runs them.
    """

    sweep: ClassVar[Path | None] = None
    launcher: ClassVar[str | None] = None

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
        launcher = str(config.hydra.launcher._target_).rpartition(".")[2]
        SweepSummary.sweep, SweepSummary.launcher = folder, None if launcher == "BasicLauncher" else launcher

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
    def failures(cls) -> list[bool]:
        """For each failed job of the sweep that this process started, in whatever process, if the user can mend it."""
        from mask_lightning.sweeps.summary import failed

        jobs = [row.job for row in failed(cls.sweep)] if cls.sweep else []
        return [job is not None and job.can_be_mended for job in jobs]
