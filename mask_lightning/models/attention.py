"""Attention sharing: one network, of whose maps each task takes its part (Liu et al. 2019, MTAN)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask_lightning.models.backbones import HEADS, LayerGroups
from mask_lightning.models.sharing import HardSharing, MapSource, prefixed, stages_of
from mask_lightning.models.stages import run


class TaskAttention(nn.Module):
    """What one task takes of a shared map: the map times a mask in 0..1 of every channel and place.

    Args:
        seen: channels of what the mask is made from.
        hidden: channels between the mask's two layers.
        channels: of the map.
    """

    def __init__(self, seen: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.mask = nn.Sequential(*_conv(seen, hidden), nn.ReLU(), *_conv(hidden, channels), nn.Sigmoid())

    def forward(self, shared: Tensor, seen: Tensor) -> Tensor:
        """Shared (B, C, h, w), seen (B, S, h, w) -> attended (B, C, h, w)."""
        attended: Tensor = self.mask(seen) * shared
        return attended


class StageAttention(nn.Module):
    """The attention of all tasks at the end of one stage.

    Args:
        tasks: their names.
        before: channels of the stage before, None at the first.
        channels: of this one.
        squeeze: by how much the hidden layers are narrower than the map.
    """

    def __init__(self, tasks: Sequence[str], before: int | None, channels: int, *, squeeze: int) -> None:
        super().__init__()
        hidden = max(channels // squeeze, 1)
        self.carry = nn.Sequential(*_conv(before, hidden, size=3), nn.ReLU()) if before else None
        seen = channels + (hidden if before else 0)
        self.tasks = nn.ModuleDict({task: TaskAttention(seen, hidden, channels) for task in tasks})

    def forward(self, shared: Tensor, earlier: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Shared map (B, C, h, w), and what each task took of the one before (B, C', h', w') -> what it takes."""
        if self.carry is None:
            return {task: attention(shared, shared) for task, attention in self.tasks.items()}
        stacked = self.carry(torch.cat(list(earlier.values())))  # one batch, so that its norm sees all tasks alike
        height, width = shared.shape[-2:]
        carried = F.adaptive_avg_pool2d(stacked, (height, width)).chunk(len(earlier))
        seen = {task: torch.cat([shared, each], dim=1) for task, each in zip(earlier, carried, strict=True)}
        return {task: attention(shared, seen[task]) for task, attention in self.tasks.items()}


class AttentionSharing(HardSharing):
    """One backbone; after every stage each task takes what it needs by a mask of its own.

    Liu, Johns and Davison 2019, "End-to-end multi-task learning with attention" (MTAN), its encoder: the mask is made
    by two 1 x 1 convolutions (g, h) from the shared map and from what the task took of the stage before, which one
    3 x 3 convolution for all tasks (f) and a pooling bring here. Fitted to classifiers of every family: the paper reads
    a block's shared map in its middle and masks it at its end, here both are the end of the stage, since insides
    differ; hidden layers are `squeeze` times narrower than the map, as the last maps of classifiers are wide; what the
    last masks leave goes through the backbone's own pooling. The masks' layers are new and learn with the heads.

    Args:
        tasks: one or more.
        backbone: timm's name of one with stages.
        squeeze: by how much hidden layers are narrower than the map.
        **options: of `create_backbone`.

    Raises:
        ConfigError: a backbone without stages.
    """

    def __init__(self, tasks: Sequence[str], backbone: str, *, squeeze: int = 4, **options: Any) -> None:
        super().__init__(tasks, backbone, **options)
        self.stages = stages_of(self.backbone, backbone, options.get("image_size"))
        channels = [stage.channels for stage in self.stages.parts]
        self.attention = nn.ModuleList(
            StageAttention(tasks, before, after, squeeze=squeeze)
            for before, after in zip([None, *channels[:-1]], channels, strict=True)
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) -> task -> features (B, F)."""
        channel_dim, maps = self.stages.channel_dim, images
        taken: dict[str, Tensor] = {}
        for stage, attention in zip(self.stages.parts, self.attention, strict=True):
            maps = run(self.backbone, stage.modules, maps)
            taken = attention(maps.movedim(channel_dim, 1), taken)
        stacked = torch.cat(list(taken.values())).movedim(1, channel_dim)
        features = self.stages.finish(self.backbone, stacked).chunk(len(taken))
        return dict(zip(taken, features, strict=True))

    def layer_groups(self) -> LayerGroups:
        """The backbone's, and the attention under `heads`."""
        return super().layer_groups() | {HEADS: prefixed(dict(self.attention.named_parameters()), "attention")}

    def source_of_map(self, task: str) -> MapSource:
        """What the task takes of the backbone's last map."""
        return MapSource(cast(StageAttention, self.attention[-1]).tasks[task], channel_dim=1)


def _conv(inputs: int, outputs: int, *, size: int = 1) -> tuple[nn.Module, nn.Module]:
    """A convolution that keeps the map's size, and its norm."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False), nn.BatchNorm2d(outputs)
