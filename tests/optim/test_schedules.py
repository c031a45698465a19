"""Schedules against fastai's recorded values, and the curves that they consist of."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, get_args

import pytest

from mask_lightning.errors import ConfigError
from mask_lightning.optim.schedules import (
    SCHEDULES,
    Combined,
    Constant,
    Cosine,
    Curve,
    Exponential,
    Linear,
    Polynomial,
    Schedule,
    constant,
    cosine,
    flat_cosine,
    make_schedule,
    one_cycle,
)
from mask_lightning.settings.base import check
from mask_lightning.settings.optim import ScheduleSettings

REFERENCE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "fastai_reference.json").read_text())


@pytest.mark.parametrize("case", REFERENCE["one_cycle"])
def test_one_cycle_equals_fastais(case: dict[str, Any]) -> None:
    schedule = one_cycle(case["div"], case["div_final"], case["pct_start"], case["moms"])
    assert schedule.momentum is not None
    for point in case["points"]:
        lr = case["lr_max"] * schedule.lr(point["pos"])
        assert lr == pytest.approx(point["lr"], rel=1e-6)
        assert schedule.momentum(point["pos"]) == pytest.approx(point["mom"], rel=1e-6)


@pytest.mark.parametrize("case", REFERENCE["flat_cos"])
def test_flat_cosine_equals_fastais(case: dict[str, Any]) -> None:
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


def test_every_choice_of_the_settings_has_a_function() -> None:
    assert set(SCHEDULES) == set(get_args(ScheduleSettings.model_fields["name"].annotation))


def test_make_schedule_passes_options_on() -> None:
    assert make_schedule(ScheduleSettings(name="one_cycle", pct_start=0.3, moms=None)) == one_cycle(
        pct_start=0.3, moms=None
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("onecycle", {}, "name must be 'one_cycle', 'flat_cosine', 'cosine' or 'constant', got 'onecycle'"),
        ("flat_cosine", {"pct_star": 0.5}, "did you mean pct_start"),
        ("constant", {"div": 2.0}, "schedule=constant has no option 'div'; it has no options"),
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
        make_schedule(check(ScheduleSettings, {"name": name, **options}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("curve", "start", "middle", "end"),
    [
        (Constant(3.0), 3.0, 3.0, 3.0),
        (Linear(1.0, 0.0), 1.0, 0.5, 0.0),
        (Cosine(0.0, 1.0), 0.0, 0.5, 1.0),
        (Exponential(1e-4, 1.0), 1e-4, 1e-2, 1.0),
        (Polynomial(0.0, 1.0, 2.0), 0.0, 0.25, 1.0),
        (Combined((0.5, 0.5), (Linear(0.0, 1.0), Linear(1.0, 0.2))), 0.0, 1.0, 0.2),
        (Combined((0.0, 1.0), (Constant(9.0), Linear(0.0, 1.0))), 0.0, 0.5, 1.0),
        (Combined((1.0, 0.0), (Linear(0.0, 1.0), Constant(9.0))), 0.0, 0.5, 1.0),
        (Combined((0.1, 0.2, 0.7), (Constant(1.0), Constant(2.0), Constant(3.0))), 1.0, 3.0, 3.0),
    ],
)
def test_curve_at_start_middle_and_end(curve: Curve, start: float, middle: float, end: float) -> None:
    assert [curve(0.0), curve(0.5), curve(1.0)] == pytest.approx([start, middle, end])


def test_a_curve_is_a_plain_value() -> None:
    curve = Combined((0.5, 0.5), (Linear(0.0, 1.0), Cosine(1.0, 0.0)))
    assert pickle.loads(pickle.dumps(curve)) == curve


@pytest.mark.parametrize(
    "build",
    [
        lambda: Exponential(0.0, 1.0),
        lambda: Exponential(1.0, -1.0),
        lambda: Polynomial(0.0, 1.0, 0.0),
        lambda: Combined((0.5, 0.4), (Constant(1.0), Constant(1.0))),
        lambda: Combined((1.5, -0.5), (Constant(1.0), Constant(1.0))),
        lambda: Combined((1.0,), (Constant(1.0), Constant(1.0))),
        lambda: Combined((), ()),
    ],
)
def test_impossible_curve_is_refused(build: object) -> None:
    assert callable(build)
    with pytest.raises(ConfigError):
        build()
