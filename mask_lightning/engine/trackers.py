"""Lightning loggers of MLflow and trackio whose tracker run belongs to a run's folder."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import Logger, MLFlowLogger
from pytorch_lightning.utilities import rank_zero_only

from mask_lightning.utils.files import write_atomically

_SIGNS = {"<": "lt", ">": "gt", "=": "eq"}


def mlflow_name(name: str) -> str:
    """Replace the characters of a metric's or option's name that MLflow refuses.

    Example:
        >>> mlflow_name("val/age/bias/>=60"), mlflow_name("val/Größe/f1")
        ('val/age/bias/gteq60', 'val/Gruf6udfe/f1')
    """
    return re.sub(r"[^a-zA-Z0-9_/. -]", lambda found: _SIGNS.get(found[0], f"u{ord(found[0]):x}"), name)


class RunMlflowLogger(MLFlowLogger):
    """Lightning's logger of MLflow, which continues the MLflow run whose id is in a file.

    Args:
        file: holds the id of the MLflow run; written when the run begins.
        options: arguments of Lightning's MLFlowLogger.
    """

    def __init__(self, file: Path, **options: Any) -> None:
        self._file, self._resumed, self._started = file, file.is_file(), False
        super().__init__(run_id=file.read_text().strip() if self._resumed else None, **options)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """MLflow's client; the first use begins or continues the MLflow run."""
        client = super().experiment
        if not self._started:
            self._started = True
            if self._resumed:
                client.update_run(self.run_id, status="RUNNING")
            else:
                write_atomically(self._file, f"{self.run_id}\n".encode())
        return client

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log the options once: MLflow refuses another value, such as the path of photos that were moved."""
        if not self._resumed:
            super().log_hyperparams(_mlflow_names(params if isinstance(params, Mapping) else vars(params)))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics of a step."""
        super().log_metrics({mlflow_name(name): value for name, value in metrics.items()}, step)


def _mlflow_names(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        mlflow_name(str(name)): _mlflow_names(value) if isinstance(value, Mapping) else value
        for name, value in options.items()
    }


class TrackioLogger(Logger):
    """Lightning logger of trackio, Hugging Face's local tracker, which continues the trackio run of the same name.

    Args:
        project: trackio's project.
        run_name: name of the trackio run, unique in the project.
    """

    def __init__(self, project: str, run_name: str) -> None:
        super().__init__()
        self._project, self._run_name = project, run_name
        self._run: Any = None

    @property
    def name(self) -> str:
        """The project."""
        return self._project

    @property
    def version(self) -> str:
        """Name of the trackio run."""
        return self._run_name

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Trackio's run; the first use begins or continues it."""
        if self._run is None:
            import trackio

            with redirect_stdout(sys.stderr):  # its address of the dashboard
                self._run = trackio.init(self._project, name=self._run_name, resume="allow", embed=False)
        return self._run

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log the options; trackio stores them with the first metrics."""
        self.experiment.config.update(params if isinstance(params, Mapping) else vars(params))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics, or images, of a step."""
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def finish(self) -> None:
        """Write what is still queued and end the trackio run, if one has begun; figures may come after `finalize`."""
        if self._run is not None:
            with redirect_stdout(sys.stderr):
                self._run.finish()
            self._run = None
