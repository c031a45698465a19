"""Cross-stitch sharing: networks that lend each other their maps (Misra et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from mask_lightning.errors import ConfigError
from mask_lightning.models.backbones import LayerGroups
from mask_lightning.models.sharing import MapSource, NoSharing, prefixed, stages_of
from mask_lightning.models.stages import run


class Mixture(nn.Module):
    """Maps of T tasks -> one task's mixture of them, with learned shares for each channel.

    Args:
        tasks: T.
        task: whose mixture it is, in 0..T-1.
        channels: of a map.
        own: share of the task's own map at the start; the others have the rest in equal parts.
        channel_dim: where a map has its channels.
    """

    def __init__(self, tasks: int, task: int, channels: int, *, own: float, channel_dim: int) -> None:
        super().__init__()
        self.shape = (-1, 1, 1) if channel_dim == 1 else (1, 1, -1)
        shares = torch.full((tasks, channels), (1 - own) / (tasks - 1))
        shares[task] = own
        self.shares = nn.Parameter(shares)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """T maps of one shape -> a map of the same."""
        shares = self.shares.view(len(maps), *self.shape)
        first, *others = (share * each for share, each in zip(shares, maps, strict=True))
        mixed: Tensor = sum(others, first)
        return mixed


class CrossStitchSharing(NoSharing):
    """A backbone per task, with cross-stitch units between them after every stage.

    Misra, Shrivastava, Gupta and Hebert 2016, "Cross-stitch networks for multi-task learning". As there, every channel
    has shares of its own, and both networks start from the same pretrained weights. The paper's larger lr for the
    units makes up for their small gradients under SGD; AdamW and Ranger, whose steps do not shrink with the gradient,
    need none. A unit is in the layer group that it follows, and its shares are not decayed.

    Args:
        tasks: at least two.
        backbone: timm's name of one with stages.
        own: share of a task's own map at the start, .9 in the paper.
        **options: of `create_backbone`.

    Raises:
        ConfigError: one task, or a backbone without stages.
    """

    def __init__(self, tasks: Sequence[str], backbone: str, *, own: float = 0.9, **options: Any) -> None:
        if len(tasks) < 2:
            raise ConfigError(f"sharing=cross_stitch joins networks of tasks, found {len(tasks)}; take sharing=hard")
        super().__init__(tasks, backbone, **options)
        self.stages = stages_of(self.backbones[0], backbone, options.get("image_size"))
        self.units = nn.ModuleList(
            nn.ModuleDict(
                {
                    task: Mixture(len(tasks), i, stage.channels, own=own, channel_dim=self.stages.channel_dim)
                    for i, task in enumerate(tasks)
                }
            )
            for stage in self.stages.parts
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) -> task -> features (B, F)."""
        maps = [images] * len(self.tasks)
        for stage, unit in zip(self.stages.parts, self.units, strict=True):
            ends = [run(each, stage.modules, inputs) for each, inputs in zip(self.backbones, maps, strict=True)]
            maps = [mixture(ends) for mixture in cast(nn.ModuleDict, unit).values()]
        finished = [self.stages.finish(each, last) for each, last in zip(self.backbones, maps, strict=True)]
        return dict(zip(self.tasks, finished, strict=True))

    def layer_groups(self) -> LayerGroups:
        """As without units; each of them is in the group that it follows, so that none learns above frozen ones."""
        groups = super().layer_groups()
        prefix = f"trunks.{self.tasks[0]}."
        for i, (stage, unit) in enumerate(zip(self.stages.parts, self.units, strict=True)):
            inside = tuple(f"{prefix}{name}." for name in stage.modules)
            followed = [group for group, named in groups.items() if any(name.startswith(inside) for name in named)]
            groups[followed[-1]] |= prefixed(dict(unit.named_parameters()), f"units.{i}")
        return groups

    def no_decay(self) -> set[str]:
        """The shares, too: decay would make the maps smaller, not the network simpler."""
        return super().no_decay() | set(prefixed(dict(self.units.named_parameters()), "units"))

    def source_of_map(self, task: str) -> MapSource:
        """The task's last mixture."""
        return MapSource(cast(nn.ModuleDict, self.units[-1])[task], self.stages.channel_dim)
