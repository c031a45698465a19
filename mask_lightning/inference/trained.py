"""Load trained models together with their label space and preprocessing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mask_lightning.data.batching import normalise
from mask_lightning.data.prepared import Quantiles
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.engine.checkpoint_files import first_sentence, read_checkpoint
from mask_lightning.engine.modules import MultiTaskModule, module_class
from mask_lightning.errors import CheckpointError, ConfigError
from mask_lightning.faces.detector import require_detector
from mask_lightning.labels import LabelSpace
from mask_lightning.metrics.predictions import Source
from mask_lightning.runs.folder import RunFolder
from mask_lightning.utils.files import find_path, sha256_of


@dataclass(frozen=True)
class Trained:
    """Trained model in eval mode and channels_last, on its device.

    Attributes:
        module: the Lightning module.
        spec: preprocessing of a photo.
        source: its checkpoint.
        sizes: quantiles of the training photos (`data.prepared.describe_sizes`); empty in checkpoints of version 0.1.0.
    """

    module: MultiTaskModule
    spec: TransformSpec
    source: Source
    sizes: Quantiles = field(default_factory=dict)

    @property
    def space(self) -> LabelSpace:
        """The tasks that the model predicts."""
        return self.module.space

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.module.device

    def log_probs(self, images: Tensor) -> dict[str, Tensor]:
        """Return task -> log probabilities (B, C), float32, from images (B, 3, S, S), uint8 or normalised."""
        if images.dtype == torch.uint8:
            images = normalise(images, self.spec.mean, self.spec.std)
        network = self.module.network
        return network.log_probs(network(images))


def find_checkpoint(path: Path) -> Path:
    """Find best.ckpt in a run folder; return the path of a file unchanged.

    Raises:
        CheckpointError: there is no such file.
    """
    path = find_path(path)
    if path.is_file():
        return path
    if not path.exists():
        raise CheckpointError(f"expected a run's folder or a .ckpt at {path}, found nothing; set ckpt to one")
    best = RunFolder(path).best
    if not best.is_file():
        raise CheckpointError(f"expected a checkpoint at {best}, found none; set ckpt to a run's folder or a .ckpt")
    return best


def load_trained(path: Path, device: torch.device) -> Trained:
    """Load a trained model without executing code from the checkpoint.

    Args:
        path: run folder (its best.ckpt) or .ckpt file.
        device: where to put the model.

    Raises:
        CheckpointError: the file is missing, truncated, or not a checkpoint of this package.
        DetectorError: it needs face detection, which is not installed.
    """
    checkpoint = find_checkpoint(path)
    content = read_checkpoint(checkpoint)
    try:
        options: dict[str, Any] = content["hyper_parameters"]
        module = module_class(LabelSpace.from_plain(options["tasks"]))(**options)
        module.load_state_dict(content["state_dict"])
        spec = TransformSpec.from_plain(options["transform"])
        sizes = {name: [float(each) for each in values] for name, values in (options.get("sizes") or {}).items()}
    except Exception as error:  # values of a foreign checkpoint may raise anything in any constructor
        raise CheckpointError(
            f"{checkpoint} is not a checkpoint that mask_lightning can rebuild ({first_sentence(error)}); "
            "set ckpt to a run's folder"
        ) from error
    if spec.crop == "face":
        require_detector()
    module.requires_grad_(False).eval()
    module.to(device=device, memory_format=torch.channels_last)
    source = Source(
        checkpoint=str(checkpoint),
        sha256=sha256_of(checkpoint),
        backbone=options["backbone"],
        tasks=module.space.names,
        transform=spec.to_plain(),
    )
    return Trained(module, spec, source, sizes)


def choose_device(accelerator: str) -> torch.device:
    """Choose a device; `auto` prefers a GPU, then MPS, then the CPU.

    Raises:
        ConfigError: this machine lacks the accelerator.
    """
    available = {"gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto":
        accelerator = next(name for name, present in available.items() if present)
    if not available[accelerator]:
        raise ConfigError(
            f"accelerator={accelerator} is not available to torch {torch.__version__}; use accelerator=cpu"
        )
    return torch.device("cuda" if accelerator == "gpu" else accelerator)
