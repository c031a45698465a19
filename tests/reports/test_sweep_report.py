"""Figure of a sweep: one panel per option."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mask_lightning.reports.figures import RED
from mask_lightning.reports.sweep_report import plot_sweep


def points(figure, panel: int, marker: str) -> int:
    return sum(len(line.get_xdata()) for line in figure.axes[panel].get_lines() if line.get_marker() == marker)


def test_every_job_is_a_point_in_every_panel_and_a_failed_one_a_cross() -> None:
    options = pd.DataFrame({"model": ["lite0", "lite0", "lite2", "lite2"], "seed": ["0", "1", "0", "1"]})
    figure = plot_sweep(options, [0.4, 0.5, None, 0.3], "val/f1")
    assert [axis.get_xlabel() for axis in figure.axes] == ["model", "seed"]
    assert figure.axes[0].get_ylabel() == "val/f1"
    assert [(points(figure, i, "o"), points(figure, i, "x")) for i in range(2)] == [(3, 1), (3, 1)]
    (cross,) = [line for line in figure.axes[0].get_lines() if line.get_marker() == "x"]
    assert cross.get_color() == RED
    assert cross.get_ydata()[0] < 0.3


def test_few_numbers_are_sorted_categories() -> None:
    figure = plot_sweep(pd.DataFrame({"optim.lr": ["0.01", "0.0001", "0.001"]}), [0.1, 0.2, 0.3], "val/f1")
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0.0001", "0.001", "0.01"]


@pytest.mark.parametrize(("low", "high", "scale"), [(-4, -1, "log"), (-1, 0, "linear")])
def test_many_numbers_have_a_numeric_axis(low: int, high: int, scale: str) -> None:
    lrs = [str(lr) for lr in np.logspace(low, high, 20)]
    figure = plot_sweep(pd.DataFrame({"optim.lr": lrs}), [0.1] * 20, "val/f1")
    assert figure.axes[0].get_xscale() == scale
    assert points(figure, 0, "o") == 20


def test_without_varied_options_the_jobs_are_shown() -> None:
    figure = plot_sweep(pd.DataFrame(index=range(2)), [0.1, None], "val/f1")
    assert figure.axes[0].get_xlabel() == "job"
    assert (points(figure, 0, "o"), points(figure, 0, "x")) == (1, 1)


def test_a_job_without_the_option_is_missing_in_its_panel() -> None:
    options = pd.DataFrame({"model": ["lite0", "lite2", None], "seed": ["0", "1", "2"]}, dtype=object)
    figure = plot_sweep(options, [0.1, 0.2, 0.3], "val/f1")
    assert (points(figure, 0, "o"), points(figure, 1, "o")) == (2, 3)


def test_names_are_shown_literally(draw_texts) -> None:
    options = pd.DataFrame({"$a$": ["$x^2$ 100$", "b", "c"], "seed": ["0", "0", "1"]})
    drawn = draw_texts(plot_sweep(options, [0.1, None, 0.2], "val/$y$/f1"))
    assert {"$a$", "$x^2$ 100$", "val/$y$/f1"} <= set(drawn.literal)
    assert drawn.math == ()
