"""Hydra callbacks of the train command: summary of a multirun, and its need of disk space.

conf/train.yaml names them. Imports of pandas, matplotlib and torch are local, because every command loads this module.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mask_lightning.errors import MaskLightningError
from mask_lightning.labels import FACE
from mask_lightning.settings.base import check
from mask_lightning.settings.multirun import SearchSettings
from mask_lightning.settings.train import TrainSettings
from mask_lightning.sweeps import records, studies
from mask_lightning.utils.launch import find_launch

# Beginnings of the overrides that influence the size of a checkpoint.
SIZE_OPTIONS = ("model", "sharing", "task", "optim=", "averaging", "checkpoint", "experiment", "ensemble")


class SweepSummary(Callback):
    """Write summary.csv after each job; at the end of the sweep, write the figure and print the table.

    The state is on the class, because Hydra creates the instance and does not call it after Ctrl-C: the command does.

    Attributes:
        sweep: folder of the sweep that this process started; None outside a sweep.
        search: options of Optuna's search; None without.
        launcher: class that runs the jobs in other processes; None if this process runs them.
    """

    sweep: ClassVar[Path | None] = None
    search: ClassVar[SearchSettings | None] = None
    launcher: ClassVar[str | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Prepare the folder of the sweep and an Optuna study, if any."""
        folder = Path(config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)  # Optuna's sweeper creates it with the first job only
        records.clear_records(folder)
        try:
            SweepSummary.search = studies.prepare(config) if studies.is_configured(config) else None
        except MaskLightningError as error:
            # Hydra would turn an exception of a callback into a warning and continue.
            print(f"error: {error}", file=sys.stderr)
            with suppress(OSError):
                folder.rmdir()
            raise SystemExit(2) from error
        launcher = str(config.hydra.launcher._target_).rpartition(".")[2]
        if launcher != "BasicLauncher" and find_launch() is not None:
            print(f"error: {launcher} starts processes itself, found torchrun; leave one of them out", file=sys.stderr)
            raise SystemExit(2)
        SweepSummary.sweep, SweepSummary.launcher = folder, None if launcher == "BasicLauncher" else launcher

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Update summary.csv, so that it exists even if the sweep is killed."""
        if config.hydra.mode == RunMode.MULTIRUN:
            from mask_lightning.sweeps.table import write_summary

            write_summary(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the figure and print the table."""
        self.report()

    @classmethod
    def report(cls) -> None:
        """Report on the sweep that this process started, if any."""
        if cls.sweep is not None:
            from mask_lightning.reports.sweep_report import report_sweep

            report_sweep(cls.sweep, cls.search)

    @classmethod
    def withdraw(cls) -> None:
        """Remove the folder of a sweep that Hydra refused before its first job."""
        if cls.sweep is not None and {path.name for path in cls.sweep.iterdir()} <= {"multirun.yaml"}:
            shutil.rmtree(cls.sweep)
        cls.sweep = None

    @classmethod
    def failures(cls) -> list[bool]:
        """Return, for each failed job of the sweep in any process, True if the user can correct the error."""
        from mask_lightning.sweeps.table import failed_jobs

        jobs = [row.job for row in failed_jobs(cls.sweep)] if cls.sweep else []
        return [job is not None and job.can_be_mended for job in jobs]


@dataclass(frozen=True)
class CheckpointBytes:
    """Size of the checkpoints of one job in bytes.

    Attributes:
        finished: after the job.
        training: additional need during training.
    """

    finished: int
    training: int


class DiskSpace(Callback):
    """Print the disk space that the checkpoints of a multirun need, before it starts."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the estimate; invalid options are reported by the jobs."""
        try:
            jobs = list_jobs(config)
            examples = {size_overrides(job): job for job in reversed(jobs)}  # one job per checkpoint size
            sizes = {key: job_bytes(job, config) for key, job in examples.items()}
        except (MaskLightningError, HydraException, OmegaConfBaseException):
            return
        total = sum(sizes[size_overrides(job)].finished for job in jobs)
        most = max(size.training for size in sizes.values())
        free = shutil.disk_usage(_existing_parent(Path(config.outputs))).free
        more = f", and {_format_bytes(most)} more for each job in training" if most else ""
        print(
            f"{len(jobs)} jobs: their checkpoints need up to {_format_bytes(total)} in the end{more}; "
            f"{_format_bytes(free)} are free",
            file=sys.stderr,
        )
        if total + most > free:
            print(
                "this may not be enough: free some space, or set checkpoint.keep=best, checkpoint.half=true or "
                "outputs=DISK",
                file=sys.stderr,
            )


def size_overrides(job: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides of a job that influence the size of its checkpoints."""
    return tuple(override for override in job if override.lstrip("+~").startswith(SIZE_OPTIONS))


def list_jobs(config: DictConfig) -> list[list[str]]:
    """Return the overrides of each job of the multirun."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    sweeper = config.hydra.sweeper
    params: Any = OmegaConf.to_container(sweeper.params, resolve=True) if sweeper.get("params") else {}
    overrides = [*(f"{name}={values}" for name, values in params.items()), *config.hydra.overrides.task]
    parsed = OverridesParser.create().parse_overrides(overrides)
    if studies.is_configured(config):
        return [[str(each.input_line) for each in parsed if not each.is_sweep_override()]] * int(sweeper.n_trials)
    return [list(job) for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]


def job_bytes(overrides: Sequence[str], config: DictConfig) -> CheckpointBytes:
    """Compute the size of the checkpoints of a job with these overrides.

    Raises:
        MaskLightningError: an option is invalid.
        HydraException: an override is invalid.
    """
    loader = GlobalHydra.instance().config_loader()
    job = loader.load_sweep_config(config, list(overrides))
    options = OmegaConf.masked_copy(job, [str(key) for key in job if key != "hydra"])
    return settings_bytes(check(TrainSettings, OmegaConf.to_container(options, resolve=True)))  # type: ignore[arg-type]


def settings_bytes(settings: TrainSettings) -> CheckpointBytes:
    """Compute the size of the checkpoints of a run; the network is built on the meta device."""
    import torch

    from mask_lightning.engine.checkpoint_files import is_halved
    from mask_lightning.models.network import MultiTaskNetwork
    from mask_lightning.optim.optimizers import count_state_tensors

    space = settings.choose(settings.known_space or FACE)
    classes = {task.name: task.num_classes for task in space.tasks}
    image_size, sharing = settings.model.image_size, settings.sharing
    with torch.device("meta"):
        state = MultiTaskNetwork(settings.model.backbone, classes, sharing=sharing, image_size=image_size).state_dict()
    weights = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    copies = 1 + count_state_tensors(settings.optim) + (settings.averaging.decay is not None)
    both = 2 * copies * weights
    if settings.checkpoint.keep == "both":
        return CheckpointBytes(both, 0)
    halved = sum(tensor.numel() * 2 for tensor in state.values() if settings.checkpoint.half and is_halved(tensor))
    return CheckpointBytes(weights - halved, both - (weights - halved))


def _existing_parent(path: Path) -> Path:
    """Return the folder, or its closest parent that exists."""
    return next(folder for folder in (path.resolve(), *path.resolve().parents) if folder.exists())


def _format_bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
