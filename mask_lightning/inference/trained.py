"""Loading a trained network with what it needs to predict: its label space and its preprocessing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mask_lightning.data.transforms import TransformSpec
from mask_lightning.engine.checkpoint_files import first_sentence, read_checkpoint
from mask_lightning.engine.modules import MultiTaskModule, module_class
from mask_lightning.errors import CheckpointError, ConfigError
from mask_lightning.labels import LabelSpace
from mask_lightning.runs.folder import RunFolder


@dataclass(frozen=True)
class Source:
    """Which checkpoint some predictions come from; plain values, kept beside them.

    Attributes:
        checkpoint: its path, as it was named.
        sha256: of the file; the path may be moved, or hold another model one day.
        backbone: timm's name.
        tasks: what it answers.
        transform: TransformSpec, as plain values.
        tta: which views of each photo were averaged, see `inference.views`.
        temperatures: task -> what its log probabilities were divided by; of a task that is not named, they are the
            network's own.
    """

    checkpoint: str
    sha256: str
    backbone: str
    tasks: tuple[str, ...]
    transform: dict[str, Any]
    tta: str = "none"
    temperatures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """A network in eval mode and channels_last, on its device."""

    module: MultiTaskModule
    spec: TransformSpec
    source: Source

    @property
    def space(self) -> LabelSpace:
        """The tasks that it answers."""
        return self.module.space


def find_checkpoint(path: Path) -> Path:
    """A run's folder -> its best.ckpt; a file -> itself. Raises CheckpointError if there is none."""
    path = path.expanduser()
    if path.is_file():
        return path
    if not path.exists():
        raise CheckpointError(f"expected a run's folder or a .ckpt at {path}, found nothing; set ckpt to one")
    best = RunFolder(path).best
    if not best.is_file():
        raise CheckpointError(f"expected a checkpoint at {best}, found none; set ckpt to a run's folder or a .ckpt")
    return best


def load_trained(path: Path, device: torch.device) -> Trained:
    """Load the network of a run's folder (its best.ckpt) or of a .ckpt, without running any code that it holds.

    Raises:
        CheckpointError: no such file, truncated, or not a checkpoint of this package.
    """
    checkpoint = find_checkpoint(path)
    content = read_checkpoint(checkpoint)
    try:
        options: dict[str, Any] = content["hyper_parameters"]
        module = module_class(LabelSpace.from_plain(options["tasks"]))(**options)
        module.load_state_dict(content["state_dict"])
        spec = TransformSpec.from_plain(options["transform"])
    except Exception as error:  # its values may be anything, and reach any constructor
        raise CheckpointError(
            f"{checkpoint} is not a checkpoint that mask_lightning can rebuild ({first_sentence(error)}); "
            "set ckpt to a run's folder"
        ) from error
    module.requires_grad_(False).eval()
    module.to(device=device, memory_format=torch.channels_last)
    source = Source(
        checkpoint=str(checkpoint),
        sha256=_sha256(checkpoint),
        backbone=options["backbone"],
        tasks=module.space.names,
        transform=spec.to_plain(),
    )
    return Trained(module, spec, source)


def choose_device(accelerator: str) -> torch.device:
    """`auto` -> the best there is. Raises ConfigError for one that this machine lacks."""
    there = {"gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto":
        accelerator = next(name for name, present in there.items() if present)
    if not there[accelerator]:
        raise ConfigError(f"accelerator={accelerator} is not there for torch {torch.__version__}; use accelerator=cpu")
    return torch.device("cuda" if accelerator == "gpu" else accelerator)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
