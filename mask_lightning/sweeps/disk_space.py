"""What the checkpoints of a multirun will take on the disk, said before it starts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mask_lightning.errors import MaskLightningError
from mask_lightning.labels import FACE
from mask_lightning.settings.base import check
from mask_lightning.settings.train import TrainSettings
from mask_lightning.sweeps import studies
from mask_lightning.sweeps.printing import say

MOMENTS = {"adamw": 2, "ranger": 3, "sgd": 1}  # tensors that an optimizer keeps beside each parameter
SIZED = ("model", "sharing", "task", "optim=", "averaging", "checkpoint", "experiment", "ensemble")


@dataclass(frozen=True)
class Need:
    """Bytes of one job's checkpoints: when it is finished, and at most while it trains."""

    finished: int
    training: int


class DiskSpace(Callback):
    """The Hydra callback that says it."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Say it; a mistake in the options is for the jobs to tell."""
        try:
            jobs = list_jobs(config)
            alike = {what_sizes(job): job for job in reversed(jobs)}  # the first of those that need the same
            needs = {key: job_need(job, config) for key, job in alike.items()}
        except (MaskLightningError, HydraException, OmegaConfBaseException):
            return
        total = sum(needs[what_sizes(job)].finished for job in jobs)
        most = max(need.training for need in needs.values())
        free = shutil.disk_usage(_nearest(Path(config.outputs))).free
        more = f", and {_size(most)} more for each that trains" if most else ""
        say(
            f"{len(jobs)} jobs: their checkpoints take up to {_size(total)} when all are finished{more}; "
            f"{_size(free)} are free"
        )
        if total + most > free:
            say("that may not be enough: free some, or set checkpoint.keep=best, checkpoint.half=true or outputs=DISK")


def what_sizes(job: Sequence[str]) -> tuple[str, ...]:
    """Those of a job's overrides that may tell how large its checkpoints are."""
    return tuple(override for override in job if override.lstrip("+~").startswith(SIZED))


def list_jobs(config: DictConfig) -> list[list[str]]:
    """The overrides of each job of the multirun."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    sweeper = config.hydra.sweeper
    params: Any = OmegaConf.to_container(sweeper.params, resolve=True) if sweeper.get("params") else {}
    typed = [*(f"{name}={values}" for name, values in params.items()), *config.hydra.overrides.task]
    parsed = OverridesParser.create().parse_overrides(typed)
    if studies.is_configured(config):
        return [[str(each.input_line) for each in parsed if not each.is_sweep_override()]] * int(sweeper.n_trials)
    return [list(job) for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]


def job_need(overrides: Sequence[str], config: DictConfig) -> Need:
    """What a job of these overrides needs; its network is built without memory.

    Raises:
        MaskLightningError, HydraException: the options do not hold.
    """
    loader = GlobalHydra.instance().config_loader()
    job = loader.load_sweep_config(config, list(overrides))
    options = OmegaConf.masked_copy(job, [str(key) for key in job if key != "hydra"])
    return settings_need(check(TrainSettings, OmegaConf.to_container(options, resolve=True)))  # type: ignore[arg-type]


def settings_need(settings: TrainSettings) -> Need:
    """What a run of these settings needs."""
    import torch

    from mask_lightning.callbacks.checkpoints import is_halved
    from mask_lightning.models.network import MultiTaskNetwork

    space = settings.choose(settings.known_space or FACE)
    classes = {task.name: task.num_classes for task in space.tasks}
    image_size, sharing = settings.model.image_size, settings.sharing.options
    with torch.device("meta"):
        state = MultiTaskNetwork(settings.model.backbone, classes, sharing=sharing, image_size=image_size).state_dict()
    weights = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    copies = 1 + MOMENTS[settings.optim.name] + (settings.averaging.decay is not None)
    both = 2 * copies * weights
    if settings.checkpoint.keep == "both":
        return Need(both, 0)
    halved = sum(tensor.numel() * 2 for tensor in state.values() if settings.checkpoint.half and is_halved(tensor))
    return Need(weights - halved, both - (weights - halved))


def _nearest(path: Path) -> Path:
    """The folder itself, or the first above it that is there."""
    return next(folder for folder in (path.resolve(), *path.resolve().parents) if folder.exists())


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
