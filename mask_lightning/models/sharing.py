"""Ways in which tasks share backbones: one for all, one each, or with exchange of feature maps.

Every class maps images to features per task. `SHARING` lists them by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask_lightning.errors import ConfigError
from mask_lightning.models.backbones import (
    HEADS,
    LayerGroups,
    Stages,
    backbone_groups,
    count_features,
    create_backbone,
    find_stages,
    input_spec,
    run_modules,
    takes_any_size,
)
from mask_lightning.settings.model import SharingSettings

PROBE_SIZE = 64  # pixels; side of the image on which the stages of a backbone that takes any size are tested


def make_sharing(
    tasks: Sequence[str], backbone: str, settings: SharingSettings | None = None, **options: Any
) -> Sharing:
    """Build the sharing of that name.

    Args:
        tasks: task names.
        backbone: name of a timm classifier.
        settings: `name`, one of SHARING, and its options; None is hard sharing.
        **options: `image_size` and `drop_path_rate` of `create_backbone`.

    Raises:
        ConfigError: the sharing does not work with these tasks or this backbone.

    Example:
        >>> sharing = make_sharing(["mask", "age"], "test_resnet", SharingSettings(name="none"))
        >>> len(sharing.backbones)
        2
    """
    chosen = (settings or SharingSettings()).options
    return SHARING[chosen.pop("name")](tasks, backbone, **chosen, **options)


class MapSource(NamedTuple):
    """Source of the last feature map of a task.

    Attributes:
        module: a module whose output is the feature map, or a backbone.
        channel_dim: dimension of the channels in the output; None if `module` is a backbone.
    """

    module: nn.Module
    channel_dim: int | None = None


class Sharing(nn.Module, ABC):
    """Base of the sharings: images (B, 3, H, W) -> {task: features (B, F)}.

    Attributes:
        tasks: task names.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)

    @abstractmethod
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return features (B, F) per task from normalized images (B, 3, H, W)."""

    @property
    @abstractmethod
    def backbones(self) -> list[nn.Module]:
        """Every backbone, all of the same architecture; each gets the pretrained weights."""

    @abstractmethod
    def layer_groups(self) -> LayerGroups:
        """Return the backbones' layer groups from the image up; `heads` holds new layers, if there are any."""

    @abstractmethod
    def map_source(self, task: str) -> MapSource:
        """Return the source of a task's last feature map."""

    @property
    def num_features(self) -> int:
        """F, the number of features per image and task."""
        return count_features(self.backbones[0])

    def no_decay(self) -> set[str]:
        """Return the parameters that timm exempts from weight decay, mostly position embeddings."""
        named = {id(parameter): name for name, parameter in self.named_parameters()}
        listed: set[str] = set()
        for backbone in self.backbones:
            exempt: set[str] = getattr(backbone, "no_weight_decay", set)()
            listed |= {named[id(parameter)] for name, parameter in backbone.named_parameters() if name in exempt}
        return listed


def prefixed(named: Mapping[str, nn.Parameter], prefix: str) -> dict[str, nn.Parameter]:
    """Return parameters under their names in an outer module."""
    return {f"{prefix}.{name}": parameter for name, parameter in named.items()}


class HardSharing(Sharing):
    """One backbone; all tasks have the same features.

    Source: Caruana 1997, "Multitask learning", Machine Learning 28.

    Args:
        tasks: task names.
        backbone: name of a timm classifier.
        **options: `image_size` and `drop_path_rate` of `create_backbone`.

    Raises:
        ConfigError: timm has no such backbone, or it cannot be built for this size.

    Example:
        >>> features = HardSharing(["mask", "age"], "test_resnet")(torch.zeros(2, 3, 64, 64))
        >>> features["mask"] is features["age"]
        True
    """

    def __init__(self, tasks: Sequence[str], backbone: str, **options: Any) -> None:
        super().__init__(tasks)
        self.backbone = create_backbone(backbone, **options)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the same features (B, F) for each task from images (B, 3, H, W)."""
        return dict.fromkeys(self.tasks, self.backbone(images))

    @property
    def backbones(self) -> list[nn.Module]:
        """The backbone."""
        return [self.backbone]

    def layer_groups(self) -> LayerGroups:
        """Return the layer groups of the backbone."""
        return {group: prefixed(named, "backbone") for group, named in backbone_groups(self.backbone).items()}

    def map_source(self, task: str) -> MapSource:
        """Return the backbone."""
        return MapSource(self.backbone)


class NoSharing(Sharing):
    """One backbone per task, all trained on the same batches. A layer group holds that of every backbone.

    Args:
        tasks: task names.
        backbone: name of a timm classifier.
        **options: `image_size` and `drop_path_rate` of `create_backbone`.

    Raises:
        ConfigError: timm has no such backbone, or it cannot be built for this size.

    Example:
        >>> NoSharing(["mask", "age"], "test_resnet")(torch.zeros(2, 3, 64, 64))["age"].shape
        torch.Size([2, 96])
    """

    def __init__(self, tasks: Sequence[str], backbone: str, **options: Any) -> None:
        super().__init__(tasks)
        self.trunks = nn.ModuleDict({task: create_backbone(backbone, **options) for task in tasks})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return features (B, F) of each task's own backbone from images (B, 3, H, W)."""
        return {task: trunk(images) for task, trunk in self.trunks.items()}

    @property
    def backbones(self) -> list[nn.Module]:
        """The backbones in the order of the tasks."""
        return list(self.trunks.values())

    def layer_groups(self) -> LayerGroups:
        """Return the layer groups; `block3` holds block 3 of every backbone."""
        merged: LayerGroups = {}
        for task, trunk in self.trunks.items():
            for group, named in backbone_groups(trunk).items():
                merged.setdefault(group, {}).update(prefixed(named, f"trunks.{task}"))
        return merged

    def map_source(self, task: str) -> MapSource:
        """Return the task's backbone."""
        return MapSource(self.trunks[task])


class CrossStitchSharing(NoSharing):
    """One backbone per task, with cross-stitch units between them after every stage.

    A unit replaces each task's feature map by a learned mixture of all tasks' maps, with separate shares per channel,
    as in the paper. All backbones start from the same pretrained weights. The paper's larger lr for the units
    compensates for small gradients under SGD; AdamW and Ranger do not need it. A unit is in the layer group that it
    follows, and its shares are not decayed.

    Source: Misra, Shrivastava, Gupta and Hebert 2016, "Cross-stitch networks for multi-task learning",
    arXiv:1604.03539.

    Args:
        tasks: task names, at least two.
        backbone: name of a timm classifier with stages.
        own: initial share of a task's own feature map, 0.9 in the paper; the others have equal parts of the rest.
        **options: `image_size` and `drop_path_rate` of `create_backbone`.

    Raises:
        ConfigError: there is only one task, or the backbone has no stages.

    Example:
        >>> sharing = CrossStitchSharing(["mask", "age"], "test_resnet", own=0.9)
        >>> sharing(torch.zeros(2, 3, 64, 64))["age"].shape
        torch.Size([2, 96])
    """

    def __init__(self, tasks: Sequence[str], backbone: str, *, own: float = 0.9, **options: Any) -> None:
        if len(tasks) < 2:
            raise ConfigError(f"sharing=cross_stitch joins networks of tasks, found {len(tasks)}; take sharing=hard")
        super().__init__(tasks, backbone, **options)
        self.stages = _stages_of(self.backbones[0], backbone, options.get("image_size"))
        self.units = nn.ModuleList(
            nn.ModuleDict(
                {
                    task: CrossStitchUnit(len(tasks), i, stage.channels, own=own, channel_dim=self.stages.channel_dim)
                    for i, task in enumerate(tasks)
                }
            )
            for stage in self.stages.parts
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return features (B, F) per task from images (B, 3, H, W)."""
        maps = [images] * len(self.tasks)
        for stage, unit in zip(self.stages.parts, self.units, strict=True):
            ends = [run_modules(each, stage.modules, inputs) for each, inputs in zip(self.backbones, maps, strict=True)]
            maps = [mixture(ends) for mixture in cast(nn.ModuleDict, unit).values()]
        features = [self.stages.finish(each, last) for each, last in zip(self.backbones, maps, strict=True)]
        return dict(zip(self.tasks, features, strict=True))

    def layer_groups(self) -> LayerGroups:
        """Return the backbones' layer groups, each unit in the group that it follows: none is trained above frozen."""
        groups = super().layer_groups()
        prefix = f"trunks.{self.tasks[0]}."
        for i, (stage, unit) in enumerate(zip(self.stages.parts, self.units, strict=True)):
            inside = tuple(f"{prefix}{name}." for name in stage.modules)
            followed = [group for group, named in groups.items() if any(name.startswith(inside) for name in named)]
            groups[followed[-1]] |= prefixed(dict(unit.named_parameters()), f"units.{i}")
        return groups

    def no_decay(self) -> set[str]:
        """Return the parameters without weight decay; decayed shares would shrink the feature maps."""
        return super().no_decay() | set(prefixed(dict(self.units.named_parameters()), "units"))

    def map_source(self, task: str) -> MapSource:
        """Return the task's last cross-stitch unit."""
        return MapSource(cast(nn.ModuleDict, self.units[-1])[task], self.stages.channel_dim)


class CrossStitchUnit(nn.Module):
    """One task's mixture of the feature maps of T tasks, with a learned share per task and channel.

    Args:
        tasks: T.
        task: index of the task whose mixture it is, 0 to T - 1.
        channels: number of channels of a feature map.
        own: initial share of the task's own map; the others have equal parts of the rest.
        channel_dim: dimension of the channels in a feature map, 1 or 3.
    """

    def __init__(self, tasks: int, task: int, channels: int, *, own: float, channel_dim: int) -> None:
        super().__init__()
        self.shape = (-1, 1, 1) if channel_dim == 1 else (1, 1, -1)
        shares = torch.full((tasks, channels), (1 - own) / (tasks - 1))
        shares[task] = own
        self.shares = nn.Parameter(shares)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the mixture of T feature maps, in their shape."""
        shares = self.shares.view(len(maps), *self.shape)
        first, *others = (share * each for share, each in zip(shares, maps, strict=True))
        mixed: Tensor = sum(others, first)
        return mixed


class AttentionSharing(HardSharing):
    """One backbone; after every stage each task multiplies the shared feature map by its own attention mask.

    Two 1 x 1 convolutions (g and h in the paper) make the mask from the shared map and from the task's masked map of
    the stage before, which passes through a 3 x 3 convolution common to all tasks (f) and a pooling.

    Differences from the paper, so that all families of backbones fit: the shared map is read at the end of a stage
    instead of in the middle of a block; hidden layers have `squeeze` times fewer channels than the map, since the last
    maps of classifiers are wide; the masked maps of the last stage pass through the backbone's pooling. The new layers
    are trained with the heads.

    Source: Liu, Johns and Davison 2019, "End-to-end multi-task learning with attention" (MTAN, its encoder),
    arXiv:1803.10704.

    Args:
        tasks: task names.
        backbone: name of a timm classifier with stages.
        squeeze: channels of a feature map divided by hidden channels.
        **options: `image_size` and `drop_path_rate` of `create_backbone`.

    Raises:
        ConfigError: the backbone has no stages.

    Example:
        >>> sharing = AttentionSharing(["mask", "age"], "test_resnet", squeeze=4)
        >>> sharing(torch.zeros(2, 3, 64, 64))["age"].shape
        torch.Size([2, 96])
    """

    def __init__(self, tasks: Sequence[str], backbone: str, *, squeeze: int = 4, **options: Any) -> None:
        super().__init__(tasks, backbone, **options)
        self.stages = _stages_of(self.backbone, backbone, options.get("image_size"))
        channels = [stage.channels for stage in self.stages.parts]
        self.attention = nn.ModuleList(
            StageAttention(tasks, previous, current, squeeze=squeeze)
            for previous, current in zip([None, *channels[:-1]], channels, strict=True)
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return features (B, F) per task from images (B, 3, H, W)."""
        channel_dim, maps = self.stages.channel_dim, images
        masked: dict[str, Tensor] = {}
        for stage, attention in zip(self.stages.parts, self.attention, strict=True):
            maps = run_modules(self.backbone, stage.modules, maps)
            masked = attention(maps.movedim(channel_dim, 1), masked)
        stacked = torch.cat(list(masked.values())).movedim(1, channel_dim)
        features = self.stages.finish(self.backbone, stacked).chunk(len(masked))
        return dict(zip(masked, features, strict=True))

    def layer_groups(self) -> LayerGroups:
        """Return the layer groups of the backbone, and the attention layers in `heads`."""
        return super().layer_groups() | {HEADS: prefixed(dict(self.attention.named_parameters()), "attention")}

    def map_source(self, task: str) -> MapSource:
        """Return the task's attention module of the last stage."""
        return MapSource(cast(StageAttention, self.attention[-1]).tasks[task], channel_dim=1)


class StageAttention(nn.Module):
    """Attention of all tasks at the end of one stage.

    Args:
        tasks: task names.
        previous: number of channels of the stage before, None for the first stage.
        channels: number of channels of this stage.
        squeeze: channels divided by hidden channels.
    """

    def __init__(self, tasks: Sequence[str], previous: int | None, channels: int, *, squeeze: int) -> None:
        super().__init__()
        hidden = max(channels // squeeze, 1)
        self.carry = nn.Sequential(*_conv_norm(previous, hidden, size=3), nn.ReLU()) if previous else None
        inputs = channels + (hidden if previous else 0)
        self.tasks = nn.ModuleDict({task: TaskAttention(inputs, hidden, channels) for task in tasks})

    def forward(self, shared: Tensor, previous: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the masked feature map (B, C, h, w) of each task.

        Args:
            shared: feature map of the backbone (B, C, h, w).
            previous: masked map of each task at the stage before (B, C', h', w'); empty at the first stage.
        """
        if self.carry is None:
            return {task: attention(shared, shared) for task, attention in self.tasks.items()}
        stacked = self.carry(torch.cat(list(previous.values())))  # one batch: all tasks share the norm's statistics
        height, width = shared.shape[-2:]
        carried = F.adaptive_avg_pool2d(stacked, (height, width)).chunk(len(previous))
        inputs = {task: torch.cat([shared, each], dim=1) for task, each in zip(previous, carried, strict=True)}
        return {task: attention(shared, inputs[task]) for task, attention in self.tasks.items()}


class TaskAttention(nn.Module):
    """Attention of one task: a mask in 0..1 per channel and position, and its product with the shared feature map.

    Args:
        inputs: number of channels from which the mask is made.
        hidden: number of channels between the mask's two layers.
        channels: number of channels of the shared map.
    """

    def __init__(self, inputs: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.mask = nn.Sequential(*_conv_norm(inputs, hidden), nn.ReLU(), *_conv_norm(hidden, channels), nn.Sigmoid())

    def forward(self, shared: Tensor, inputs: Tensor) -> Tensor:
        """Return the masked map (B, C, h, w) from the shared map (B, C, h, w) and the mask's input (B, S, h, w)."""
        masked: Tensor = self.mask(inputs) * shared
        return masked


def _conv_norm(inputs: int, outputs: int, *, size: int = 1) -> tuple[nn.Module, nn.Module]:
    """Return a convolution that keeps the size of the map, and a BatchNorm."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False), nn.BatchNorm2d(outputs)


def _stages_of(backbone: nn.Module, name: str, image_size: int | None) -> Stages:
    """Find the stages of `create_backbone(name, image_size=image_size)`. Raises ConfigError if it has none."""
    size = PROBE_SIZE if takes_any_size(name) else image_size or input_spec(name).size
    return find_stages(backbone, size=size)


SHARING: dict[str, type[HardSharing | NoSharing | CrossStitchSharing | AttentionSharing]] = {
    "hard": HardSharing,
    "cross_stitch": CrossStitchSharing,
    "attention": AttentionSharing,
    "none": NoSharing,
}
"""Name in `sharing=` -> class."""
