"""The phases of a run: which layer groups learn, for how many epochs, at which lr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mask_lightning.errors import ConfigError, did_you_mean
from mask_lightning.optim.param_groups import discriminative_lrs, layer_decay_lrs
from mask_lightning.optim.schedules import Schedule, make_schedule

HEADS = "heads"

Unfreeze = str | Mapping[str, int] | Sequence[str]  # "all", "heads", {"last": n}, or names of layer groups


@dataclass(frozen=True)
class Phase:
    """Part of a run during which the same layer groups learn.

    Attributes:
        epochs: how long.
        unfreeze: "all"; "heads"; {"last": n}, the last n layer groups of the backbone and the heads; or group names.
        lr_scale: the heads' maximum lr, as a multiple of the run's lr.
        lr_ratio: by how much the lr of the first layer group is smaller than that of the heads; those between lie
            on a geometric line (fastai's `slice(lr / lr_ratio, lr)`).
        layer_decay: in place of lr_ratio, the lr of a layer group as a share of the next one's.
        schedule: options that replace those of the run's schedule in this phase; with another `name`, all of them.
        image_size: training photos are resized to this square; None leaves them at the model's size.
    """

    epochs: int
    unfreeze: Unfreeze = "all"
    lr_scale: float = 1.0
    lr_ratio: float = 1.0
    layer_decay: float | None = None
    schedule: Mapping[str, Any] = field(default_factory=dict)
    image_size: int | None = None

    def __str__(self) -> str:
        size = f" at {self.image_size} px" if self.image_size else ""
        what = self.unfreeze
        if isinstance(what, Mapping):
            return f"last {what['last']}{size}"
        return (what if isinstance(what, str) else ", ".join(what)) + size

    def open_groups(self, names: Sequence[str]) -> tuple[str, ...]:
        """Which of the layer groups `names` (from the image up, `heads` last) learn in this phase.

        Raises:
            ConfigError: an unknown name, more layer groups than there are, or none at all.
        """
        what = self.unfreeze
        if what == "all":
            return tuple(names)
        if what == HEADS:
            return (HEADS,)
        if isinstance(what, Mapping):
            return self._last(what["last"], names)
        chosen = [what] if isinstance(what, str) else list(what)
        for name in chosen:
            if name not in names:
                raise ConfigError(
                    f"finetune.phases unfreezes {name!r}, no such layer group; {did_you_mean(name, names)}"
                )
        if not chosen:
            raise ConfigError("finetune.phases has a phase that unfreezes nothing; name a group, heads or all")
        return tuple(name for name in names if name in chosen)

    def _last(self, count: int, names: Sequence[str]) -> tuple[str, ...]:
        if not 0 < count < len(names):
            raise ConfigError(
                f"finetune.phases unfreezes the last {count} layer groups, expected 1 to {len(names) - 1} "
                "of this backbone; choose fewer, or all"
            )
        return tuple(names[-count - 1 :])

    def group_lrs(self, names: Sequence[str], lr: float) -> dict[str, float]:
        """The maximum lr of every open layer group, where the run's lr is `lr`."""
        high = lr * self.lr_scale
        if self.layer_decay is None:
            every = discriminative_lrs(names, low=high / self.lr_ratio, high=high)
        else:
            every = layer_decay_lrs(names, high=high, decay=self.layer_decay)
        return {name: every[name] for name in self.open_groups(names)}

    def make_schedule(self, usual: Mapping[str, Any]) -> Schedule:
        """The phase's schedule, where the run's is `usual` (`name` and options).

        Raises:
            ConfigError: unknown name or option, or a value out of range.
        """
        same = self.schedule.get("name", usual["name"]) == usual["name"]
        return make_schedule(**{**(usual if same else {}), **self.schedule})


def phase_of_epoch(phases: Sequence[Phase], epoch: int) -> int:
    """Index of the phase that epoch (from 0) belongs to; the last one for epochs past the end."""
    end = 0
    for i, phase in enumerate(phases):
        end += phase.epochs
        if epoch < end:
            return i
    return len(phases) - 1
