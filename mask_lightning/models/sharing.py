"""What the tasks have in common: image -> {task: features}."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from mask_lightning.models.backbones import (
    LayerGroups,
    backbone_groups,
    count_features,
    create_backbone,
    input_spec,
    takes_any_size,
)
from mask_lightning.models.stages import Stages, find_stages

PROBE_SIZE = 64  # pixels; of the image that a backbone which takes any size is tried on


class MapSource(NamedTuple):
    """A module that gives a map, with channels at `channel_dim`; or, where that is None, a backbone that has one."""

    module: nn.Module
    channel_dim: int | None = None


class Sharing(nn.Module, ABC):
    """Backbones, and how the tasks use them.

    Attributes:
        tasks: their names.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)

    @abstractmethod
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W), normalised -> task -> features (B, F)."""

    @property
    @abstractmethod
    def backbones(self) -> list[nn.Module]:
        """Every backbone, all of one kind: each is to have the pretrained weights."""

    @abstractmethod
    def layer_groups(self) -> LayerGroups:
        """The backbones' groups from the image up; under `heads` what is new and learns with the heads, if anything."""

    @abstractmethod
    def source_of_map(self, task: str) -> MapSource:
        """Where the last map of features that the task has comes from."""

    @property
    def num_features(self) -> int:
        """F."""
        return count_features(self.backbones[0])

    def no_decay(self) -> set[str]:
        """Names of parameters that weight decay would harm: positions, mostly, by timm's own list."""
        named = {id(parameter): name for name, parameter in self.named_parameters()}
        listed: set[str] = set()
        for backbone in self.backbones:
            exempt: set[str] = getattr(backbone, "no_weight_decay", set)()
            listed |= {named[id(parameter)] for name, parameter in backbone.named_parameters() if name in exempt}
        return listed


class HardSharing(Sharing):
    """Hard parameter sharing (Caruana 1997): one backbone, and all tasks have the same features."""

    def __init__(self, tasks: Sequence[str], backbone: str, **options: Any) -> None:
        super().__init__(tasks)
        self.backbone = create_backbone(backbone, **options)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) -> task -> the same features (B, F)."""
        return dict.fromkeys(self.tasks, self.backbone(images))

    @property
    def backbones(self) -> list[nn.Module]:
        """The one."""
        return [self.backbone]

    def layer_groups(self) -> LayerGroups:
        """The backbone's."""
        return {group: prefixed(named, "backbone") for group, named in backbone_groups(self.backbone).items()}

    def source_of_map(self, task: str) -> MapSource:
        """The backbone."""
        return MapSource(self.backbone)


class NoSharing(Sharing):
    """A backbone per task: networks of their own that see the same batches. A layer group has that of every task."""

    def __init__(self, tasks: Sequence[str], backbone: str, **options: Any) -> None:
        super().__init__(tasks)
        self.trunks = nn.ModuleDict({task: create_backbone(backbone, **options) for task in tasks})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) -> task -> features (B, F) of its own backbone."""
        return {task: trunk(images) for task, trunk in self.trunks.items()}

    @property
    def backbones(self) -> list[nn.Module]:
        """In the order of the tasks."""
        return list(self.trunks.values())

    def layer_groups(self) -> LayerGroups:
        """`block3` holds block 3 of every backbone."""
        merged: LayerGroups = {}
        for task, trunk in self.trunks.items():
            for group, named in backbone_groups(trunk).items():
                merged.setdefault(group, {}).update(prefixed(named, f"trunks.{task}"))
        return merged

    def source_of_map(self, task: str) -> MapSource:
        """The task's backbone."""
        return MapSource(self.trunks[task])


def stages_of(backbone: nn.Module, name: str, image_size: int | None) -> Stages:
    """The stages of `create_backbone(name, image_size=image_size)`. Raises ConfigError where it has none."""
    size = PROBE_SIZE if takes_any_size(name) else image_size or input_spec(name).size
    return find_stages(backbone, size=size)


def prefixed(named: Mapping[str, nn.Parameter], prefix: str) -> dict[str, nn.Parameter]:
    """Parameters under their names in an outer module."""
    return {f"{prefix}.{name}": parameter for name, parameter in named.items()}
