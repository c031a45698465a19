"""Phases of a run: which layer groups are trained, for how long, and at which learning rate.

A phase is declared by `settings.optim.PhaseSettings`. `trainable_groups`, `group_lrs` and `phase_schedule` derive from
it, for one network, the `PhaseSchedule` that `PhasedLR` follows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mask_lightning.errors import ConfigError, did_you_mean
from mask_lightning.optim.param_groups import discriminative_lrs, layer_decay_lrs
from mask_lightning.optim.schedules import Schedule, make_schedule
from mask_lightning.settings.base import check, check_range
from mask_lightning.settings.optim import LastBlocks, PhaseSettings, ScheduleSettings

HEADS = "heads"
"""Name of the last layer group."""

Unfreeze = str | Mapping[str, int] | Sequence[str]
"""Plain values of `PhaseSettings.unfreeze`: "all", "heads", {"last": n}, or names of layer groups."""


def trainable_groups(phase: PhaseSettings, names: Sequence[str]) -> tuple[str, ...]:
    """Return the layer groups that are trained in a phase, in the order of `names`.

    Args:
        phase: the phase.
        names: all layer groups, from the image up, "heads" last.

    Raises:
        ConfigError: the phase names an unknown layer group, or asks for more than there are.

    Example:
        >>> trainable_groups(PhaseSettings(epochs=1, unfreeze={"last": 1}), ["stem", "block1", "block2", "heads"])
        ('block2', 'heads')
    """
    chosen = phase.unfreeze
    if isinstance(chosen, LastBlocks):
        if chosen.last >= len(names):
            raise ConfigError(
                f"finetune.phases unfreezes the last {chosen.last} layer groups, expected 1 to {len(names) - 1} "
                "of this backbone; choose fewer, or all"
            )
        return tuple(names[-chosen.last - 1 :])
    if chosen == "all":
        return tuple(names)
    if chosen == HEADS:
        return (HEADS,)
    listed = [chosen] if isinstance(chosen, str) else chosen
    for name in listed:
        if name not in names:
            raise ConfigError(f"finetune.phases unfreezes {name!r}, no such layer group; {did_you_mean(name, names)}")
    return tuple(name for name in names if name in listed)


def group_lrs(phase: PhaseSettings, names: Sequence[str], lr: float) -> dict[str, float]:
    """Return the maximum lr of each trainable layer group in a phase.

    Args:
        phase: the phase.
        names: all layer groups, from the image up, "heads" last.
        lr: `optim.lr`.

    Raises:
        ConfigError: as `trainable_groups`.

    Example:
        >>> group_lrs(PhaseSettings(epochs=1, lr_scale=0.5, layer_decay=0.5), ["stem", "block1", "heads"], lr=0.4)
        {'stem': 0.05, 'block1': 0.1, 'heads': 0.2}
    """
    high = lr * phase.lr_scale
    if phase.layer_decay is None:
        every = discriminative_lrs(names, low=high / phase.lr_ratio, high=high)
    else:
        every = layer_decay_lrs(names, high=high, decay=phase.layer_decay)
    return {name: every[name] for name in trainable_groups(phase, names)}


def phase_schedule(phase: PhaseSettings, default: ScheduleSettings) -> Schedule:
    """Build the schedule of a phase.

    Args:
        phase: its `schedule` replaces options of the default or, if it has another name, all of them.
        default: the run's schedule.

    Raises:
        ConfigError: unknown name or option, or a value out of range.

    Example:
        >>> default = ScheduleSettings(name="one_cycle", pct_start=0.25)
        >>> schedule = phase_schedule(PhaseSettings(epochs=1, schedule={"div": 10.0}), default)
        >>> round(schedule.lr(0.0), 3)
        0.1
    """
    same = phase.schedule.get("name", default.name) == default.name
    return make_schedule(check(ScheduleSettings, {**(default.model_dump() if same else {}), **phase.schedule}))


def phase_of_epoch(phases: Sequence[PhaseSettings], epoch: int) -> int:
    """Return the index of the phase that an epoch (from 0) belongs to; the last one for epochs after the end.

    Example:
        >>> phase_of_epoch([PhaseSettings(epochs=3), PhaseSettings(epochs=7)], 3)
        1
    """
    ends = list(accumulate(phase.epochs for phase in phases))
    return min(bisect_right(ends, epoch), len(phases) - 1)


@dataclass(frozen=True)
class PhaseSchedule:
    """Learning rates of one phase, in optimizer steps.

    Args:
        steps: optimizer steps in this phase, at least 1.
        lrs: param group name -> its maximum lr, above 0; groups that are left out have lr 0, that is, are frozen.
        schedule: how lr and momentum change from the first step to the last.

    Raises:
        ConfigError: a value is out of range, or no group is trained.
    """

    steps: int
    lrs: Mapping[str, float]
    schedule: Schedule

    def __post_init__(self) -> None:
        check_range("the steps of a phase", self.steps, "[1, inf)", "train for at least one epoch")
        if not self.lrs:
            raise ConfigError("a phase must train at least one param group, got no lrs; name the groups to unfreeze")
        for name, lr in self.lrs.items():
            check_range(f"the lr of group {name!r}", lr, "(0, inf)", "leave the group out to freeze it")


def locate(phases: Sequence[PhaseSchedule], step: int) -> tuple[PhaseSchedule, float]:
    """Return the phase of an optimizer step (from 0) and the position in it, in [0, 1).

    Step s of a phase is at s / steps, as in fastai. Steps after the last phase are at its last step.
    """
    ends = list(accumulate(phase.steps for phase in phases))
    step = min(step, ends[-1] - 1)
    index = bisect_right(ends, step)
    phase = phases[index]
    return phase, (step - ends[index] + phase.steps) / phase.steps


class PhasedLR(LRScheduler):
    """Set the lr of every param group, and its momentum if the schedule has one, at each optimizer step.

    Values are a closed form of `last_epoch`, which here counts optimizer steps. A step that the GradScaler skips
    counts, as it does in Lightning's `global_step`, so that the schedule ends with the run. In Lightning return
    `{"scheduler": PhasedLR(optimizer, phases), "interval": "step"}` from `configure_optimizers`.

    Args:
        optimizer: its param groups have unique "name"s; "betas" or "momentum" is set if a schedule has a momentum.
        phases: in order, at least one.

    Raises:
        ConfigError: there is no phase, a group has no unique name, a phase names an unknown group, or a schedule has
            a momentum and the optimizer has none.

    Example:
        >>> import torch
        >>> from mask_lightning.optim.schedules import flat_cosine
        >>> group = {"name": "heads", "params": [torch.nn.Parameter(torch.zeros(2))]}
        >>> optimizer = torch.optim.SGD([group], lr=0.1)
        >>> scheduler = PhasedLR(optimizer, [PhaseSchedule(steps=8, lrs={"heads": 0.4}, schedule=flat_cosine())])
        >>> scheduler.get_last_lr()
        [0.4]
    """

    def __init__(self, optimizer: Optimizer, phases: Sequence[PhaseSchedule]) -> None:
        self.phases = tuple(phases)
        _check_phases(optimizer, self.phases)
        self.base_momenta = [_get_momentum(group) for group in optimizer.param_groups]
        super().__init__(optimizer)

    def step(self, epoch: int | None = None) -> None:
        """Move to the next optimizer step, or to step `epoch`."""
        # LRScheduler.step warns if the scaler skips the first step.
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._apply()

    def get_lr(self) -> list[float | Tensor]:
        """Return the lr of every param group at `last_epoch`, in the optimizer's order."""
        phase, pos = locate(self.phases, self.last_epoch)
        factor = phase.schedule.lr(pos)
        return [phase.lrs.get(group["name"], 0.0) * factor for group in self.optimizer.param_groups]

    def get_momentum(self) -> list[float | None]:
        """Return the momentum of every param group at `last_epoch`; None for groups without."""
        phase, pos = locate(self.phases, self.last_epoch)
        if phase.schedule.momentum is None:
            return self.base_momenta
        return [phase.schedule.momentum(pos)] * len(self.base_momenta)

    def state_dict(self) -> dict[str, Any]:
        """Return the step, and the momenta that apply in phases without a momentum curve, as plain values."""
        return {"last_epoch": self.last_epoch, "base_momenta": list(self.base_momenta)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`, and set the optimizer's lrs and momenta at once."""
        self.last_epoch = state_dict["last_epoch"]
        self.base_momenta = list(state_dict["base_momenta"])
        self._apply()

    def _apply(self) -> None:
        lrs, momenta = self.get_lr(), self.get_momentum()
        for group, lr, momentum in zip(self.optimizer.param_groups, lrs, momenta, strict=True):
            group["lr"] = lr
            _set_momentum(group, momentum)
        self._last_lr = list(lrs)


def _get_momentum(group: Mapping[str, Any]) -> float | None:
    value = group["betas"][0] if "betas" in group else group.get("momentum")
    return None if value is None else float(value)


def _set_momentum(group: dict[str, Any], value: float | None) -> None:
    if value is None:
        return
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


def _check_phases(optimizer: Optimizer, phases: Sequence[PhaseSchedule]) -> None:
    groups = optimizer.param_groups
    names = [group.get("name") for group in groups]
    if None in names or len(set(names)) < len(names):
        raise ConfigError(f"expected param groups with unique names, got {names}; use build_param_groups")
    if not phases:
        raise ConfigError("expected at least one phase, got none; give a PhaseSchedule per phase")
    for name in (name for phase in phases for name in phase.lrs):
        if name not in names:
            raise ConfigError(
                f"a phase names the param group {name!r}, but there are only {', '.join(map(str, names))}"
            )
    has_curve = any(phase.schedule.momentum for phase in phases)
    if has_curve and any(_get_momentum(group) is None for group in groups):
        raise ConfigError(f"the schedule moves momentum, but {type(optimizer).__name__} has none; set moms to null")
