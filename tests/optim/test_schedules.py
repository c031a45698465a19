from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mask_lightning.errors import ConfigError
from mask_lightning.optim.schedules import (
    PhasedLR,
    PhaseSchedule,
    Schedule,
    constant,
    cosine,
    flat_cosine,
    locate,
    make_schedule,
    one_cycle,
)

REFERENCE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "fastai_reference.json").read_text())


def groups(*names: str, **options: Any) -> list[dict[str, Any]]:
    return [{"name": name, "params": [nn.Parameter(torch.ones(2))], **options} for name in names]


def adam(*names: str) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups(*names), lr=1.0, betas=(0.9, 0.99))


def train_step(optimizer: torch.optim.Optimizer, scheduler: PhasedLR) -> None:
    optimizer.step()
    scheduler.step()


def values(optimizer: torch.optim.Optimizer) -> list[tuple[float, float]]:
    return [(group["lr"], group["betas"][0]) for group in optimizer.param_groups]


@pytest.mark.parametrize("case", REFERENCE["one_cycle"])
def test_one_cycle_is_fastais(case: dict[str, Any]) -> None:
    schedule = one_cycle(case["div"], case["div_final"], case["pct_start"], case["moms"])
    assert schedule.momentum is not None
    for point in case["points"]:
        lr = case["lr_max"] * schedule.lr(point["pos"])
        assert lr == pytest.approx(point["lr"], rel=1e-6)
        assert schedule.momentum(point["pos"]) == pytest.approx(point["mom"], rel=1e-6)


@pytest.mark.parametrize("case", REFERENCE["flat_cos"])
def test_flat_cosine_is_fastais(case: dict[str, Any]) -> None:
    schedule = flat_cosine(case["div_final"], case["pct_start"])
    assert schedule.momentum is None
    for point in case["points"]:
        assert case["lr"] * schedule.lr(point["pos"]) == pytest.approx(point["lr"], rel=1e-6)


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (cosine(0.1, div=10.0, div_final=100.0), {0.0: 0.1, 0.05: 0.55, 0.1: 1.0, 0.55: 0.505, 1.0: 0.01}),
        (cosine(0.0), {0.0: 1.0, 1.0: 1e-5}),
        (constant(), {0.0: 1.0, 0.5: 1.0, 1.0: 1.0}),
        (one_cycle(pct_start=0.0), {0.0: 1.0, 1.0: 1e-5}),
        (one_cycle(pct_start=1.0), {0.0: 0.04, 1.0: 1.0}),
        (flat_cosine(pct_start=1.0), {0.0: 1.0, 1.0: 1.0}),
    ],
)
def test_lr_factor_at(schedule: Schedule, points: dict[float, float]) -> None:
    assert {pos: schedule.lr(pos) for pos in points} == pytest.approx(points)


def test_make_schedule_passes_options_on() -> None:
    assert make_schedule("one_cycle", pct_start=0.3, moms=None) == one_cycle(pct_start=0.3, moms=None)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("onecycle", {}, "did you mean one_cycle"),
        ("flat_cosine", {"pct_star": 0.5}, "did you mean pct_start"),
        ("constant", {"div": 2.0}, "has no option 'div'; it has none"),
        ("one_cycle", {"pct_start": 1.5}, r"pct_start must be in \[0, 1\], got 1.5"),
        ("one_cycle", {"pct_start": "a"}, "pct_start must be in"),
        ("one_cycle", {"pct_start": float("nan")}, "pct_start must be in"),
        ("one_cycle", {"div": 0.5}, "div must be in"),
        ("flat_cosine", {"div_final": float("inf")}, "div_final must be in"),
        ("one_cycle", {"moms": (0.9, 0.8)}, "three momenta"),
        ("one_cycle", {"moms": 0.9}, "three momenta"),
        ("one_cycle", {"moms": (0.9, 0.8, 1.0)}, r"each of moms must be in \[0, 1\)"),
        ("cosine", {"warmup_fraction": 1.0}, "warmup_fraction must be in"),
    ],
)
def test_bad_schedule_is_refused_in_one_line(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_schedule(name, **options)
    assert "\n" not in str(caught.value)


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


def test_phased_lr_matches_groups_by_name_and_gives_momentum_back() -> None:
    optimizer = adam("head", "body")
    scheduler = PhasedLR(optimizer, two_phases())
    seen: list[Any] = []
    for _ in range(6):
        seen.append(values(optimizer))
        train_step(optimizer, scheduler)
    second = [(0.01, 0.9), (0.001, 0.9)]
    assert seen[0] == [(pytest.approx(0.004), 0.95), (0.0, 0.95)]
    assert seen[1] == [(0.1, pytest.approx(0.85)), (0.0, pytest.approx(0.85))]
    assert seen[2:] == [second] * 4  # the last one is past the end
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
        (torch.optim.SGD([nn.Parameter(torch.ones(1))]), [], "a name of its own"),
        (adam("a", "a"), [], "a name of its own"),
        (
            torch.optim.Adagrad(groups("a")),
            [PhaseSchedule(1, {"a": 1.0}, one_cycle())],
            "moves momentum, but Adagrad has none",
        ),
    ],
)
def test_phases_that_do_not_fit_are_refused(
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
