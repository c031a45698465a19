"""Phases of a run, and the scheduler that follows them."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn

from mask_lightning.errors import ConfigError
from mask_lightning.optim.phases import (
    PhasedLR,
    PhaseSchedule,
    group_lrs,
    locate,
    phase_of_epoch,
    phase_schedule,
    trainable_groups,
)
from mask_lightning.optim.schedules import Schedule, constant, flat_cosine, one_cycle
from mask_lightning.settings.base import check
from mask_lightning.settings.optim import PhaseSettings, ScheduleSettings

NAMES = ["stem", "block1", "block2", "block3", "heads"]


@pytest.mark.parametrize(
    ("unfreeze", "want", "shown"),
    [
        ("all", ("stem", "block1", "block2", "block3", "heads"), "all"),
        ("heads", ("heads",), "heads"),
        ({"last": 1}, ("block3", "heads"), "last 1"),
        ({"last": 2}, ("block2", "block3", "heads"), "last 2"),
        ({"last": 4}, ("stem", "block1", "block2", "block3", "heads"), "last 4"),
        ("block2", ("block2",), "block2"),
        (["heads", "block1"], ("block1", "heads"), "heads, block1"),
        (["stem", "stem"], ("stem",), "stem, stem"),
    ],
)
def test_trainable_groups_are_in_order_from_the_image_up(unfreeze: Any, want: tuple[str, ...], shown: str) -> None:
    phase = PhaseSettings(epochs=1, unfreeze=unfreeze)
    assert trainable_groups(phase, NAMES) == want
    assert str(phase) == shown


def test_the_text_of_a_phase_includes_its_image_size() -> None:
    unfrozen: list[Any] = ["all", {"last": 2}, ["stem", "heads"]]
    shown = [str(PhaseSettings(epochs=1, unfreeze=each, image_size=128)) for each in unfrozen]
    assert shown == ["all at 128 px", "last 2 at 128 px", "stem, heads at 128 px"]


@pytest.mark.parametrize(
    ("unfreeze", "message"),
    [
        ("blok3", r"unfreezes 'blok3', no such layer group; did you mean block3"),
        (["heads", "block9"], "unfreezes 'block9', no such layer group"),
        ({"last": 5}, "the last 5 layer groups, expected 1 to 4 of this backbone; choose fewer, or all"),
    ],
)
def test_unfreeze_that_does_not_fit_the_backbone_is_refused(unfreeze: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trainable_groups(PhaseSettings(epochs=1, unfreeze=unfreeze), NAMES)


@pytest.mark.parametrize(
    ("unfreeze", "message"),
    [
        ([], "unfreeze must be .*a list with at least 1 item"),
        ({"last": 0}, "unfreeze.last must be greater than or equal to 1, got 0"),
        ({"last": -1}, "unfreeze.last must be greater than or equal to 1, got -1"),
    ],
)
def test_unfreeze_without_layer_groups_is_refused(unfreeze: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(PhaseSettings, {"epochs": 1, "unfreeze": unfreeze})


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ({}, dict.fromkeys(NAMES, 0.1)),
        ({"lr_scale": 0.5}, dict.fromkeys(NAMES, 0.05)),
        # fastai's slice(1e-3, 1e-1): factors of 10 ** 0.5 between five layer groups
        ({"lr_ratio": 100}, {n: 10 ** (-3 + i / 2) for i, n in enumerate(NAMES)}),
        ({"unfreeze": {"last": 1}, "lr_ratio": 100}, {"block3": 10**-1.5, "heads": 0.1}),
        ({"unfreeze": "heads", "lr_scale": 2, "lr_ratio": 100}, {"heads": 0.2}),
        ({"unfreeze": "stem", "lr_scale": 2, "lr_ratio": 10}, {"stem": 0.02}),
        ({"layer_decay": 0.5, "lr_ratio": 7}, {n: 0.1 * 0.5 ** (4 - i) for i, n in enumerate(NAMES)}),
        ({"unfreeze": {"last": 1}, "lr_scale": 2, "layer_decay": 0.5}, {"block3": 0.1, "heads": 0.2}),
    ],
)
def test_lrs_are_evenly_spaced_in_log_lr_and_frozen_groups_have_none(
    options: dict[str, Any], want: dict[str, float]
) -> None:
    found = group_lrs(PhaseSettings(epochs=1, **options), NAMES, lr=0.1)
    assert found == pytest.approx(want)
    assert list(found) == list(want)


@pytest.mark.parametrize(
    ("own", "want"),
    [
        ({}, one_cycle(div=9.0, pct_start=0.4)),
        ({"pct_start": 0.2}, one_cycle(div=9.0, pct_start=0.2)),
        ({"name": "one_cycle", "div": 3.0}, one_cycle(div=3.0, pct_start=0.4)),
        ({"name": "constant"}, constant()),  # the run's options belong to another schedule
        ({"name": "flat_cosine", "pct_start": 0.5}, flat_cosine(pct_start=0.5)),
    ],
)
def test_a_phase_may_have_its_own_schedule(own: dict[str, Any], want: Schedule) -> None:
    default = ScheduleSettings(name="one_cycle", div=9.0, pct_start=0.4)
    assert phase_schedule(PhaseSettings(epochs=1, schedule=own), default) == want
    assert default.options == {"div": 9.0, "pct_start": 0.4}


@pytest.mark.parametrize(
    ("own", "message"),
    [({"name": "onecycle"}, "name must be 'one_cycle', "), ({"pct_star": 0.2}, "did you mean pct_start")],
)
def test_an_impossible_schedule_of_a_phase_is_refused(own: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        phase_schedule(PhaseSettings(epochs=1, schedule=own), ScheduleSettings(name="one_cycle"))


@pytest.mark.parametrize(
    ("epochs", "want"),
    [([3], [0, 0, 0, 0]), ([1, 2], [0, 1, 1, 1]), ([2, 1, 1], [0, 0, 1, 2, 2, 2])],
)
def test_epochs_after_the_end_belong_to_the_last_phase(epochs: list[int], want: list[int]) -> None:
    phases = [PhaseSettings(epochs=count) for count in epochs]
    assert [phase_of_epoch(phases, epoch) for epoch in range(len(want))] == want


# ---- the scheduler


def groups(*names: str, **options: Any) -> list[dict[str, Any]]:
    return [{"name": name, "params": [nn.Parameter(torch.ones(2))], **options} for name in names]


def adam(*names: str) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups(*names), lr=1.0, betas=(0.9, 0.99))


def train_step(optimizer: torch.optim.Optimizer, scheduler: PhasedLR) -> None:
    optimizer.step()
    scheduler.step()


def values(optimizer: torch.optim.Optimizer) -> list[tuple[float, float]]:
    return [(group["lr"], group["betas"][0]) for group in optimizer.param_groups]


@pytest.mark.parametrize(
    ("step", "phase", "pos"),
    [(0, 0, 0.0), (1, 0, 0.5), (2, 1, 0.0), (5, 1, 0.75), (6, 1, 0.75), (99, 1, 0.75)],
)
def test_locate(step: int, phase: int, pos: float) -> None:
    phases = [PhaseSchedule(steps, {"a": 1.0}, constant()) for steps in (2, 4)]
    found, at = locate(phases, step)
    assert found is phases[phase]
    assert at == pos


def two_phases() -> list[PhaseSchedule]:
    return [
        PhaseSchedule(2, {"head": 0.1}, one_cycle(pct_start=0.5, moms=(0.95, 0.85, 0.95))),
        PhaseSchedule(3, {"body": 0.001, "head": 0.01}, constant()),
    ]


def test_phased_lr_matches_groups_by_name_and_restores_momentum() -> None:
    optimizer = adam("head", "body")
    scheduler = PhasedLR(optimizer, two_phases())
    seen: list[Any] = []
    for _ in range(6):
        seen.append(values(optimizer))
        train_step(optimizer, scheduler)
    second = [(0.01, 0.9), (0.001, 0.9)]
    assert seen[0] == [(pytest.approx(0.004), 0.95), (0.0, 0.95)]
    assert seen[1] == [(0.1, pytest.approx(0.85)), (0.0, pytest.approx(0.85))]
    assert seen[2:] == [second] * 4  # the last one is after the end
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.99)
    assert scheduler.get_last_lr() == [0.01, 0.001]


def test_phased_lr_sets_sgds_momentum() -> None:
    optimizer = torch.optim.SGD(groups("all"), lr=1.0, momentum=0.5)
    PhasedLR(optimizer, [PhaseSchedule(4, {"all": 0.1}, one_cycle())])
    assert optimizer.param_groups[0]["momentum"] == 0.95


@pytest.mark.parametrize("at", [0, 1, 2, 3, 5, 7])
@pytest.mark.parametrize("with_optimizer", [True, False])
def test_resume_is_exact(at: int, with_optimizer: bool) -> None:
    optimizer = adam("head", "body")
    scheduler = PhasedLR(optimizer, two_phases())
    for _ in range(at):
        train_step(optimizer, scheduler)
    file = io.BytesIO()
    torch.save((optimizer.state_dict(), scheduler.state_dict()), file)
    file.seek(0)
    saved_optimizer, saved_scheduler = torch.load(file, weights_only=True)

    resumed = adam("head", "body")
    resumed_scheduler = PhasedLR(resumed, two_phases())
    if with_optimizer:
        resumed.load_state_dict(saved_optimizer)
    resumed_scheduler.load_state_dict(saved_scheduler)
    for _ in range(4):
        assert values(resumed) == values(optimizer)
        assert resumed_scheduler.get_last_lr() == scheduler.get_last_lr()
        train_step(optimizer, scheduler)
        train_step(resumed, resumed_scheduler)


def test_no_warning_when_the_scaler_skipped_the_first_step() -> None:
    scheduler = PhasedLR(adam("all"), [PhaseSchedule(4, {"all": 1.0}, flat_cosine())])
    scheduler.step()
    scheduler.step()
    assert scheduler.last_epoch == 2


@pytest.mark.parametrize(
    ("optimizer", "phases", "message"),
    [
        (adam("a"), [], "at least one phase"),
        (adam("a", "b"), [PhaseSchedule(1, {"c": 1.0}, constant())], "'c', but there are only a, b"),
        (torch.optim.SGD([nn.Parameter(torch.ones(1))]), [], "param groups with unique names"),
        (adam("a", "a"), [], "param groups with unique names"),
        (
            torch.optim.Adagrad(groups("a")),
            [PhaseSchedule(1, {"a": 1.0}, one_cycle())],
            "moves momentum, but Adagrad has none",
        ),
    ],
)
def test_phases_that_do_not_fit_the_optimizer_are_refused(
    optimizer: torch.optim.Optimizer, phases: list[PhaseSchedule], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        PhasedLR(optimizer, phases)


@pytest.mark.parametrize(
    ("steps", "lrs", "message"),
    [
        (0, {"a": 1.0}, "steps of a phase"),
        (1, {}, "at least one param group"),
        (1, {"a": 0.0}, "leave the group out"),
        (1, {"a": float("nan")}, "lr of group 'a'"),
    ],
)
def test_impossible_phase_is_refused(steps: int, lrs: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PhaseSchedule(steps, lrs, constant())
