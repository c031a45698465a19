"""The picture of the schedule shows what the optimizer will be given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import nn

from mask_lightning.optim.param_groups import build_param_groups, expand_lrs
from mask_lightning.optim.phases import Phase
from mask_lightning.optim.schedules import PhasedLR, PhaseSchedule
from mask_lightning.reports.figures import to_png
from mask_lightning.reports.schedule import plot_schedule, sample_schedule

LAYERS = {
    "stem": {"stem.weight": nn.Parameter(torch.zeros(2, 2)), "stem.bias": nn.Parameter(torch.zeros(2))},
    "norm": {"norm.weight": nn.Parameter(torch.zeros(2))},  # nothing of it is decayed
    "heads": {"heads.weight": nn.Parameter(torch.zeros(2, 2))},
}
PHASES = (
    Phase(2, "heads", schedule={"name": "constant"}),
    Phase(3, lr_scale=0.5, lr_ratio=100, schedule={"pct_start": 0.3, "div": 5.0}),
)


def scheduler(phases: Sequence[Phase] = PHASES, *, steps: int = 4, schedule: str = "one_cycle") -> PhasedLR:
    groups = build_param_groups(LAYERS, weight_decay=0.1)
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9)
    plan = [
        PhaseSchedule(
            steps * phase.epochs,
            expand_lrs(groups, phase.group_lrs(list(LAYERS), 0.1)),
            phase.make_schedule({"name": schedule}),
        )
        for phase in phases
    ]
    return PhasedLR(optimizer, plan)


def test_the_points_are_what_the_optimizer_is_given() -> None:
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


def test_the_picture_names_groups_and_phases_and_leaves_the_schedule_where_it_is() -> None:
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
    figure = plot_schedule(scheduler([Phase(1)], schedule=schedule), [Phase(1)])
    assert len(figure.axes) == 2
    assert figure.axes[0].texts[0].get_text() == "all, 1 epoch"


def test_without_momentum_there_is_no_panel_for_it() -> None:
    groups = build_param_groups(LAYERS, weight_decay=0.1)
    plan = [PhaseSchedule(3, {"heads": 0.1}, Phase(1).make_schedule({"name": "constant"}))]
    points = sample_schedule(plain := PhasedLR(torch.optim.Adagrad(groups), plan))
    assert points["momentum"].isna().all()
    assert len(plot_schedule(plain, [Phase(1)]).axes) == 1
