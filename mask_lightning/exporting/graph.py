"""The exported network: uint8 pixels in, probabilities per task out, with everything between inside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask_lightning.models.network import MultiTaskNetwork
from mask_lightning.settings.base import check
from mask_lightning.settings.model import SharingSettings


@dataclass(frozen=True)
class Member:
    """Network of one checkpoint, with what surrounds it.

    Attributes:
        network: in eval mode.
        architecture: `backbone`, `num_classes` and `options` of the network as plain values, see `build_network`.
        mean, std: per RGB channel, for values in 0..1.
        temperatures: task -> divisor of the log probabilities; a missing task is not calibrated.
    """

    network: MultiTaskNetwork
    architecture: Mapping[str, Any]
    mean: Sequence[float]
    std: Sequence[float]
    temperatures: Mapping[str, float] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """Return all but the weights as plain values."""
        return {
            "architecture": dict(self.architecture),
            "mean": list(self.mean),
            "std": list(self.std),
            "temperatures": dict(self.temperatures),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Member:
        """Build a member with random weights from the values of `to_plain`."""
        return cls(build_network(plain["architecture"]), **plain)


def build_network(architecture: Mapping[str, Any]) -> MultiTaskNetwork:
    """Build a network with random weights.

    Args:
        architecture: `backbone` (timm's name), `num_classes` (task -> C), and `options` of MultiTaskNetwork.
    """
    options = architecture["options"]
    sharing = check(SharingSettings, options.get("sharing") or {})
    return MultiTaskNetwork(
        architecture["backbone"], architecture["num_classes"], **{**options, "sharing": sharing}
    ).eval()


class ExportGraph(nn.Module):
    """Networks with normalisation, test-time augmentation, softmax and calibration, as one module.

    A task that several members predict gets the mean of their probabilities (soft vote).

    Args:
        members: one, or the members of an ensemble.
        flip: also average over the mirror image.

    Example:
        >>> architecture = {"backbone": "test_resnet", "num_classes": {"mask": 3, "age": 3}, "options": {}}
        >>> member = Member(build_network(architecture), architecture, (0.5,) * 3, (0.5,) * 3)
        >>> probs = ExportGraph([member])(torch.zeros(2, 64, 64, 3, dtype=torch.uint8))
        >>> {task: tuple(values.shape) for task, values in probs.items()}
        {'mask': (2, 3), 'age': (2, 3)}
    """

    def __init__(self, members: Sequence[Member], *, flip: bool = False) -> None:
        super().__init__()
        self.networks = nn.ModuleList(member.network for member in members)
        self.temperatures = [dict(member.temperatures) for member in members]
        self.flip = flip
        for i, member in enumerate(members):  # x / 255 / std - mean / std, in one multiplication
            scale = [1 / (255 * std) for std in member.std]
            shift = [mean / std for mean, std in zip(member.mean, member.std, strict=True)]
            self.register_buffer(f"scale{i}", torch.tensor(scale), persistent=False)
            self.register_buffer(f"shift{i}", torch.tensor(shift), persistent=False)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The predicted tasks, in order of the outputs."""
        return tuple(dict.fromkeys(task for network in self.networks for task in cast(Any, network).heads))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return task -> probabilities (B, C), float32, from RGB images uint8 (B, S, S, 3)."""
        versions = [images, images.flip(2)] if self.flip else [images]
        found: dict[str, list[Tensor]] = {task: [] for task in self.tasks}
        for i, temperatures in enumerate(self.temperatures):
            passes = [self._log_probs(i, version) for version in versions]
            for task in passes[0]:
                values = _average([each[task] for each in passes])
                if task in temperatures:
                    values = F.log_softmax(values / temperatures[task], dim=1)
                found[task].append(values.exp())
        return {task: torch.stack(probs).mean(dim=0) if probs[1:] else probs[0] for task, probs in found.items()}

    def _log_probs(self, i: int, images: Tensor) -> dict[str, Tensor]:
        """Return task -> log probabilities of member i from uint8 images."""
        scale, shift = self.get_buffer(f"scale{i}"), self.get_buffer(f"shift{i}")
        network = cast(MultiTaskNetwork, self.networks[i])
        return network.log_probs(network((images.to(torch.float32) * scale - shift).permute(0, 3, 1, 2)))


def _average(log_probs: Sequence[Tensor]) -> Tensor:
    """Average probabilities with equal weights in log space, as `inference.tta.average_log_probs`."""
    if len(log_probs) == 1:
        return log_probs[0]
    return torch.stack(list(log_probs)).logsumexp(dim=0) - math.log(len(log_probs))
