"""Learning-rate and momentum schedules, and the scheduler that follows them phase by phase."""

from __future__ import annotations

import inspect
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mask_lightning.errors import ConfigError, did_you_mean
from mask_lightning.optim.curves import Combined, Constant, Cosine, Curve, Linear, check_range


@dataclass(frozen=True)
class Schedule:
    """How one phase runs: `lr(pos)` is a factor of a group's max lr, `momentum(pos)` (or None) absolute."""

    lr: Curve
    momentum: Curve | None = None


def one_cycle(
    div: float = 25.0,
    div_final: float = 1e5,
    pct_start: float = 0.25,
    moms: Sequence[float] | None = (0.95, 0.85, 0.95),
) -> Schedule:
    """fastai's one-cycle: up from 1/`div` to 1 in `pct_start` of the time, down to 1/`div_final`, by cosines.

    `moms` (start, middle, end) moves against the lr; None leaves momentum alone.
    Paper: Smith, A disciplined approach to neural network hyper-parameters, arXiv:1803.09820.
    """
    _check_fade(div, div_final, pct_start)
    shares = (pct_start, 1 - pct_start)
    lr = Combined(shares, (Cosine(1 / div, 1.0), Cosine(1.0, 1 / div_final)))
    if moms is None:
        return Schedule(lr)
    if isinstance(moms, str) or not isinstance(moms, Sequence) or len(moms) != 3:
        raise ConfigError(f"moms must be three momenta (start, middle, end) or null, got {moms!r}")
    for value in moms:
        check_range("each of moms", value, "[0, 1)")
    start, middle, end = moms
    return Schedule(lr, Combined(shares, (Cosine(start, middle), Cosine(middle, end))))


def flat_cosine(div_final: float = 1e5, pct_start: float = 0.75) -> Schedule:
    """fastai's `fit_flat_cos`: 1 for `pct_start` of the time, then a cosine down to 1/`div_final`."""
    _check_fade(1.0, div_final, pct_start)
    return Schedule(Combined((pct_start, 1 - pct_start), (Constant(1.0), Cosine(1.0, 1 / div_final))))


def cosine(warmup_fraction: float = 0.05, div: float = 25.0, div_final: float = 1e5) -> Schedule:
    """A line from 1/`div` to 1 for `warmup_fraction` of the time, then a cosine down to 1/`div_final`."""
    check_range("warmup_fraction", warmup_fraction, "[0, 1)")
    _check_fade(div, div_final, 0.0)
    shares = (warmup_fraction, 1 - warmup_fraction)
    return Schedule(Combined(shares, (Linear(1 / div, 1.0), Cosine(1.0, 1 / div_final))))


def constant() -> Schedule:
    """The max lr all the time."""
    return Schedule(Constant(1.0))


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "one_cycle": one_cycle,
    "flat_cosine": flat_cosine,
    "cosine": cosine,
    "constant": constant,
}


def make_schedule(name: str, **options: Any) -> Schedule:
    """The schedule `name` of `SCHEDULES`, with that builder's options.

    Raises ConfigError for an unknown name or option, or a value out of range.
    """
    if name not in SCHEDULES:
        raise ConfigError(f"unknown schedule {name!r}; {did_you_mean(name, SCHEDULES)}")
    known = inspect.signature(SCHEDULES[name]).parameters
    for option in options:
        if option not in known:
            remedy = did_you_mean(option, known) if known else "it has none"
            raise ConfigError(f"schedule {name!r} has no option {option!r}; {remedy}")
    return SCHEDULES[name](**options)


@dataclass(frozen=True)
class PhaseSchedule:
    """One phase of a run.

    Args:
        steps: optimizer steps in this phase, at least 1.
        lrs: param group name -> its max lr here, above 0; a group left out has lr 0, that is, it is frozen.
        schedule: how lr and momentum move from the first step to the last.
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
    """The phase of optimizer step `step` (0 is the first of the run) and the position in it.

    Step s of a phase is at s / steps, as in fastai; beyond the last phase its last step stays.
    """
    ends = list(accumulate(phase.steps for phase in phases))
    step = min(step, ends[-1] - 1)
    phase = phases[bisect_right(ends, step)]
    return phase, (step - ends[bisect_right(ends, step)] + phase.steps) / phase.steps


class PhasedLR(LRScheduler):
    """Sets every param group's lr, and its momentum where the schedule has one, once per optimizer step.

    A closed form of `last_epoch`, which here counts optimizer steps: see `locate`. A step that the GradScaler
    skips counts, as it does in Lightning's `global_step`, so that the schedule ends with the run.
    For Lightning: `{"scheduler": PhasedLR(optimizer, phases), "interval": "step"}`.

    Args:
        optimizer: its param groups carry unique "name"s; "betas" or "momentum" is set where phases say so.
        phases: one after the other, at least one.

    Raises:
        ConfigError: no phase, a group without a name of its own, a phase that names an unknown group, or
            a schedule that moves momentum where the optimizer has none.
    """

    def __init__(self, optimizer: Optimizer, phases: Sequence[PhaseSchedule]) -> None:
        self.phases = tuple(phases)
        _check_phases(optimizer, self.phases)
        self.base_momenta = [_get_momentum(group) for group in optimizer.param_groups]
        super().__init__(optimizer)

    def step(self, epoch: int | None = None) -> None:
        """Move to the next optimizer step, or to step `epoch`."""
        # not the parent's, which warns when the scaler skips the very first step
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._apply()

    def get_lr(self) -> list[float | Tensor]:
        """The lr of every param group at `last_epoch`, in the optimizer's order."""
        phase, pos = locate(self.phases, self.last_epoch)
        factor = phase.schedule.lr(pos)
        return [phase.lrs.get(group["name"], 0.0) * factor for group in self.optimizer.param_groups]

    def get_momentum(self) -> list[float | None]:
        """The momentum of every param group at `last_epoch`; None where it has none."""
        phase, pos = locate(self.phases, self.last_epoch)
        if phase.schedule.momentum is None:
            return self.base_momenta
        return [phase.schedule.momentum(pos)] * len(self.base_momenta)

    def state_dict(self) -> dict[str, Any]:
        """Plain values: where it stands, and the momenta that phases without a momentum curve return to."""
        return {"last_epoch": self.last_epoch, "base_momenta": list(self.base_momenta)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`; the optimizer's lrs and momenta are right at once."""
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
        raise ConfigError(f"every param group needs a name of its own, got {names}; use build_param_groups")
    if not phases:
        raise ConfigError("expected at least one phase, got none; give a PhaseSchedule per phase")
    for name in (name for phase in phases for name in phase.lrs):
        if name not in names:
            raise ConfigError(
                f"a phase names the param group {name!r}, but there are only {', '.join(map(str, names))}"
            )
    moves = any(phase.schedule.momentum for phase in phases)
    if moves and any(_get_momentum(group) is None for group in groups):
        raise ConfigError(f"the schedule moves momentum, but {type(optimizer).__name__} has none; set moms to null")


def _check_fade(div: float, div_final: float, pct_start: float) -> None:
    check_range("div", div, "[1, inf)")
    check_range("div_final", div_final, "[1, inf)")
    check_range("pct_start", pct_start, "[0, 1]")
