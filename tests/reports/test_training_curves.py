"""Learning curves, schedule and LR range test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from mask_lightning.callbacks.lr_range_test import RangeTestResult, Suggestions
from mask_lightning.optim.param_groups import build_param_groups, expand_lrs
from mask_lightning.optim.phases import PhasedLR, PhaseSchedule, group_lrs, phase_schedule
from mask_lightning.reports.figures import to_png
from mask_lightning.reports.training_curves import (
    plot_curves,
    plot_lr_range,
    plot_schedule,
    print_suggestions,
    sample_schedule,
)
from mask_lightning.settings.optim import PhaseSettings, ScheduleSettings

HISTORY = pd.DataFrame({"epoch": [0, 1], "train/loss": [2.0, 1.0], "val/f1": [0.2, 0.4], "val/age/f1": [0.3, 0.5]})


@pytest.mark.parametrize("changing", [False, True])
def test_changing_task_weights_have_a_panel(changing: bool) -> None:
    history = HISTORY.assign(**{"train/age/weight": [1.0, 1.3]}) if changing else HISTORY
    axes = plot_curves(history, [PhaseSettings(epochs=2)], ["mask", "age"]).axes
    assert [axis.get_title() for axis in axes][3:] == (["weight of each task's loss"] if changing else [])
    assert [line.get_label() for line in axes[2].lines] == ["age"]
    if changing:
        assert axes[3].lines[0].get_ydata().tolist() == [1.0, 1.3]


LAYERS = {
    "stem": {"stem.weight": nn.Parameter(torch.zeros(2, 2)), "stem.bias": nn.Parameter(torch.zeros(2))},
    "norm": {"norm.weight": nn.Parameter(torch.zeros(2))},  # nothing of it is decayed
    "heads": {"heads.weight": nn.Parameter(torch.zeros(2, 2))},
}
PHASES = (
    PhaseSettings(epochs=2, unfreeze="heads", schedule={"name": "constant"}),
    PhaseSettings(epochs=3, lr_scale=0.5, lr_ratio=100, schedule={"pct_start": 0.3, "div": 5.0}),
)


def scheduler(phases: Sequence[PhaseSettings] = PHASES, *, steps: int = 4, schedule: str = "one_cycle") -> PhasedLR:
    groups = build_param_groups(LAYERS, weight_decay=0.1)
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9)
    plan = [
        PhaseSchedule(
            steps * phase.epochs,
            expand_lrs(groups, group_lrs(phase, list(LAYERS), 0.1)),
            phase_schedule(phase, ScheduleSettings(name=schedule)),
        )
        for phase in phases
    ]
    return PhasedLR(optimizer, plan)


def test_sampled_lrs_equal_those_of_the_stepped_scheduler() -> None:
    stepped = scheduler()
    points = sample_schedule(scheduler())
    assert list(points) == ["step", "phase", "momentum", "stem", "norm", "heads"]
    assert len(points) == 4 * (2 + 3)
    for _, row in points.iterrows():
        given = {group["name"]: group["lr"] for group in stepped.optimizer.param_groups}
        for name, group in (("stem", "stem"), ("stem", "stem.no_decay"), ("norm", "norm.no_decay"), ("heads", "heads")):
            shown = 0 if math.isnan(row[name]) else row[name]
            assert shown == pytest.approx(given[group]), (row["step"], group)
        assert row["momentum"] == pytest.approx(stepped.optimizer.param_groups[0]["momentum"])
        stepped.optimizer.step()
        stepped.step()


def test_a_long_run_is_sampled_from_end_to_end() -> None:
    points = sample_schedule(scheduler(steps=1000), most=10)
    assert points.groupby("phase")["step"].agg(["min", "max", "size"]).to_numpy().tolist() == [
        [0, 1999, 10],
        [2000, 4999, 10],
    ]
    assert all(before < after for before, after in pairwise(points["step"]))


def test_the_figure_names_groups_and_phases_and_does_not_step_the_scheduler() -> None:
    schedule = scheduler()
    schedule.step(5)
    figure = plot_schedule(schedule, PHASES)
    above, below = figure.axes
    assert [text.get_text() for text in above.texts] == ["heads, 2 epochs", "all, 3 epochs"]
    legend = above.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["stem", "norm", "heads"]
    assert below.get_ylabel() == "momentum"
    assert above.get_xlim() == (0, 20)
    assert schedule.last_epoch == 5
    assert to_png(figure, dpi=40).startswith(b"\x89PNG")


@pytest.mark.parametrize("schedule", ["constant", "one_cycle", "flat_cosine"])
def test_a_single_phase_of_any_schedule_is_drawn(schedule: str) -> None:
    figure = plot_schedule(scheduler([PhaseSettings(epochs=1)], schedule=schedule), [PhaseSettings(epochs=1)])
    assert len(figure.axes) == 2
    assert figure.axes[0].texts[0].get_text() == "all, 1 epoch"


def test_without_momentum_there_is_no_panel_for_it() -> None:
    groups = build_param_groups(LAYERS, weight_decay=0.1)
    plan = [
        PhaseSchedule(3, {"heads": 0.1}, phase_schedule(PhaseSettings(epochs=1), ScheduleSettings(name="constant")))
    ]
    points = sample_schedule(plain := PhasedLR(torch.optim.Adagrad(groups), plan))
    assert points["momentum"].isna().all()
    assert len(plot_schedule(plain, [PhaseSettings(epochs=1)]).axes) == 1


LRS = tuple(np.geomspace(1e-6, 1.0, 61).tolist())
LOSSES = tuple((2.0 - 0.01 * np.minimum(range(61), 40) + 0.5 * np.maximum(np.arange(61) - 45, 0)).tolist())
RESULT = RangeTestResult(LRS, LOSSES, LOSSES, 61, "diverged", 2)
FOUND = Suggestions(valley=1e-4, steep=0.5, slide=2e-3, minimum=1e-3)


def test_all_suggestions_are_marked_inside_the_axes_and_named() -> None:
    axis = plot_lr_range(RESULT, FOUND, "valley").axes[0]
    assert axis.get_xscale() == "log"
    names = [text.get_text() for text in axis.get_legend().get_texts()]
    assert names[2:] == [
        "valley 1.00e-04 (chosen)",
        "minimum 1.00e-03",
        "slide 2.00e-03",
        "steep 5.00e-01, past the lowest loss",
    ]
    low, high = axis.get_ylim()
    marks = [line for line in axis.get_lines() if line.get_marker() not in ("None", "")]
    assert [float(mark.get_xdata()[0]) for mark in marks] == [1e-4, 1e-3, 2e-3, 0.5]
    assert all(low <= mark.get_ydata()[0] <= high for mark in marks)
    assert str(max(marks, key=lambda mark: mark.get_markersize()).get_label()).startswith("valley")
    assert low < min(LOSSES) < 2.0 < high < max(LOSSES)


@pytest.mark.parametrize("losses", [LOSSES, (float("nan"),), tuple([1.7] * 61), (2.0, float("inf"))])
def test_a_curve_without_suggestions_can_be_drawn(losses: tuple[float, ...]) -> None:
    result = RangeTestResult(LRS[: len(losses)], losses, losses, 61, "diverged", 0)
    plot_lr_range(result).canvas.draw()


def test_the_table_warns_about_suggestions_past_the_lowest_loss(capsys: pytest.CaptureFixture[str]) -> None:
    print_suggestions(RESULT, FOUND, "valley")
    rows = {line.split()[1]: line for line in capsys.readouterr().err.splitlines() if line.startswith("│")}
    assert "1.00e-04" in rows["valley"]
    assert "1.800" in rows["valley"]  # step 20 of 60 by 0.01 each
    assert [name for name, row in rows.items() if "past" in row] == ["steep"]


@pytest.mark.parametrize("kind", ["schedule", "lr_range"])
def test_log_axes_have_formatted_powers(draw_texts, kind: str) -> None:
    figure = plot_schedule(scheduler(), PHASES) if kind == "schedule" else plot_lr_range(RESULT, FOUND, "valley")
    drawn = draw_texts(figure)
    assert any("10^{" in text for text in drawn.math)
    assert not any("mathdefault" in text for text in drawn.literal)


def test_task_names_are_shown_literally(draw_texts) -> None:
    name = "$x^2$ 100$"
    history = HISTORY.rename(columns={"val/age/f1": f"val/{name}/f1"})
    assert name in draw_texts(plot_curves(history, [PhaseSettings(epochs=2)], [name])).literal
