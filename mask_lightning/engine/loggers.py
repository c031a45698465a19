"""Lightning's loggers of a run, the tracker's run that belongs to a run's folder, and the figures shown there."""

from __future__ import annotations

import importlib
import logging
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from mask_lightning.engine.trackers import RunMlflowLogger, TrackioLogger
from mask_lightning.errors import ConfigError, one_line
from mask_lightning.settings.trainer import LoggerSettings
from mask_lightning.utils.files import write_atomically

log = logging.getLogger(__name__)

REMEDIES = {  # trackers, whose run is continued by a resumed run
    "wandb": "log in with `wandb login`, set WANDB_API_KEY, or keep it on this machine with WANDB_MODE=offline",
    "mlflow": "set MLFLOW_TRACKING_URI to a server or store that answers, or unset it for a file in outputs",
    "trackio": "check TRACKIO_DIR, TRACKIO_SPACE_ID and TRACKIO_SERVER_URL, or unset them for a file on this machine",
}


def check_logger(options: LoggerSettings, outputs: Path) -> None:
    """Check before a run begins that its logger can be used.

    Args:
        options: logger of the run.
        outputs: folder of MLflow's store unless MLFLOW_TRACKING_URI is set.

    Raises:
        ConfigError: the logger's package is not installed, Weights & Biases has no key, or MLflow does not answer.
    """
    if options.name not in REMEDIES:
        return
    with tracker_errors_in_one_line(options), _missing_package_in_one_line(options):
        package = importlib.import_module(options.name)  # one of REMEDIES
        if options.name == "wandb":
            # Without a key, login asks on a terminal, and switches wandb off if nobody answers.
            if package.setup().settings.mode not in ("offline", "dryrun", "disabled") and not package.login():
                raise ConfigError(f"logger=wandb needs a login, found none; {REMEDIES['wandb']}")
        elif options.name == "mlflow":
            package.MlflowClient(mlflow_store(outputs)).search_experiments(max_results=1)


def build_logger(options: LoggerSettings, folder: Path, outputs: Path) -> Logger | bool:
    """Build Lightning's logger, which writes into `folder`; False for none.

    Args:
        options: logger of the run.
        folder: folder of the run; keeps the id of the tracker's run.
        outputs: folder of MLflow's store unless MLFLOW_TRACKING_URI is set.

    Raises:
        ConfigError: the logger's package is not installed.
    """
    match options.name:
        case "tensorboard":
            return TensorBoardLogger(folder, name="", version="tensorboard")
        case "csv":
            return CSVLogger(folder, name="steps")
        case "none":
            return False
    with tracker_errors_in_one_line(options), _missing_package_in_one_line(options):
        match options.name:
            case "mlflow":
                return _mlflow_logger(options.project, folder, outputs)
            case "trackio":
                return TrackioLogger(options.project, f"{folder.name}-{tracker_id(folder, 'trackio')}")
        own = tracker_id(folder, "wandb")
        return WandbLogger(project=options.project, name=folder.name, save_dir=folder, id=own, resume="allow")


def _mlflow_logger(project: str, folder: Path, outputs: Path) -> Logger:
    store = mlflow_store(outputs)
    is_local = "MLFLOW_TRACKING_URI" not in os.environ
    return RunMlflowLogger(
        _id_file(folder, "mlflow"),
        experiment_name=project,
        run_name=folder.name,
        tracking_uri=store,
        artifact_location=(outputs / "mlartifacts").absolute().as_uri() if is_local else None,
    )


def mlflow_store(outputs: Path) -> str:
    """Return the address of MLflow's store: MLFLOW_TRACKING_URI, else a SQLite file in `outputs`."""
    outputs.mkdir(parents=True, exist_ok=True)
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{outputs.absolute() / 'mlflow.db'}"


def tracker_id(folder: Path, tracker: str) -> str:
    """Return the id of the folder's run in the tracker; choose and keep one if it has none."""
    file = _id_file(folder, tracker)
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(file, f"{secrets.token_hex(4)}\n".encode())
    return file.read_text().strip()


def _id_file(folder: Path, tracker: str) -> Path:
    return folder / f"{tracker}_id.txt"


def log_figures(logger: Logger | None, folder: Path, *, step: int) -> None:
    """Show the figures of a run's folder in its tracker; a tracker that fails costs a warning, not the run.

    Args:
        logger: logger of the run; CSVLogger shows no figures.
        folder: folder of the run, with its figures as PNG files.
        step: number of optimizer steps of the run.
    """
    figures = {f"figures/{path.stem}": path for path in sorted(folder.glob("*.png"))}
    try:
        if isinstance(logger, TensorBoardLogger):
            for name, path in figures.items():
                logger.experiment.add_image(name, np.asarray(Image.open(path).convert("RGB")), step, dataformats="HWC")
            logger.experiment.close()
        elif isinstance(logger, WandbLogger):
            for name, path in figures.items():
                logger.log_image(name, [str(path)])
        elif isinstance(logger, RunMlflowLogger):
            for path in figures.values():
                logger.experiment.log_artifact(logger.run_id, str(path), "figures")
        elif isinstance(logger, TrackioLogger):
            trackio = importlib.import_module("trackio")
            logger.log_metrics({name: trackio.Image(str(path)) for name, path in figures.items()}, step)
    except Exception as error:
        log.warning("the figures stay in %s, as the logger does not take them: %s", folder, one_line(str(error)))


@contextmanager
def closing_tracker(logger: Logger | None) -> Iterator[None]:
    """Finish a run of Weights & Biases or trackio that begins in the block: the next run would continue it."""
    before, failed = _current_run(), True
    try:
        yield
        failed = False
    finally:
        if _current_run() not in (None, before):
            sys.modules["wandb"].finish(exit_code=int(failed))
        if isinstance(logger, TrackioLogger):
            logger.finish()


def _current_run() -> Any:
    return getattr(sys.modules.get("wandb"), "run", None)


@contextmanager
def tracker_errors_in_one_line(options: LoggerSettings) -> Iterator[None]:
    """Turn errors of the tracker's package in the block into a ConfigError."""
    name = options.name
    try:
        yield
    except Exception as error:
        if name not in REMEDIES or not type(error).__module__.startswith(f"{name}."):
            raise
        raise ConfigError(f"logger={name} failed ({one_line(str(error), most=200)}); {REMEDIES[name]}") from None


@contextmanager
def _missing_package_in_one_line(options: LoggerSettings) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"logger={options.name} needs a package ({error}); pip install 'mask_lightning[{options.name}]'"
        raise ConfigError(message) from None
