"""Lightning's loggers of a run, and the run of Weights & Biases that belongs to a run's folder."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from mask_lightning.errors import ConfigError, one_line
from mask_lightning.settings.trainer import LoggerSettings
from mask_lightning.utils.files import write_atomically

WANDB_ID = "wandb_id.txt"  # in the run's folder: a resumed run continues its run of Weights & Biases
WANDB_REMEDY = "log in with `wandb login`, set WANDB_API_KEY, or keep it on this machine with WANDB_MODE=offline"


def check_logger(options: LoggerSettings) -> None:
    """Check before a run begins that its logger can be used.

    Raises:
        ConfigError: the logger's package is not installed, or Weights & Biases has no valid key.
    """
    if options.name != "wandb":
        return
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise _missing_package(error) from None
    with wandb_errors_in_one_line():
        # Without a key, login asks on a terminal, and switches wandb off if nobody answers.
        if wandb.setup().settings.mode not in ("offline", "dryrun", "disabled") and not wandb.login():
            raise ConfigError(f"logger=wandb needs a login, found none; {WANDB_REMEDY}")


def build_logger(options: LoggerSettings, folder: Path) -> Logger | bool:
    """Build Lightning's logger, which writes into `folder`; False for none.

    Raises:
        ConfigError: the logger's package is not installed.
    """
    if options.name == "tensorboard":
        return TensorBoardLogger(folder, name="", version="tensorboard")
    if options.name == "csv":
        return CSVLogger(folder, name="steps")
    if options.name == "wandb":
        return _wandb_logger(options.project, folder)
    return False


def _wandb_logger(project: str, folder: Path) -> Logger:
    try:
        from pytorch_lightning.loggers import WandbLogger

        return WandbLogger(project=project, name=folder.name, save_dir=folder, id=wandb_id(folder), resume="allow")
    except ModuleNotFoundError as error:
        raise _missing_package(error) from None


def wandb_id(folder: Path) -> str:
    """Return the id of the folder's run of Weights & Biases; choose and keep one if it has none."""
    file = folder / WANDB_ID
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(file, f"{secrets.token_hex(4)}\n".encode())
    return file.read_text().strip()


@contextmanager
def closing_wandb() -> Iterator[None]:
    """Finish a run of Weights & Biases that begins in the block: the next run of this process would continue it.

    Raises:
        ConfigError: Weights & Biases refuses the run or cannot be reached.
    """
    before, failed = _current_run(), True
    try:
        with wandb_errors_in_one_line():
            yield
        failed = False
    finally:
        if _current_run() not in (None, before):
            sys.modules["wandb"].finish(exit_code=int(failed))


def _current_run() -> Any:
    return getattr(sys.modules.get("wandb"), "run", None)


@contextmanager
def wandb_errors_in_one_line() -> Iterator[None]:
    """Turn errors of Weights & Biases in the block into a ConfigError."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("wandb."):
            raise
        raise ConfigError(f"logger=wandb failed ({one_line(str(error), most=200)}); {WANDB_REMEDY}") from None


def _missing_package(error: ModuleNotFoundError) -> ConfigError:
    return ConfigError(f"logger=wandb needs a package ({error}); pip install 'mask_lightning[wandb]'")
