"""Figure of a sweep, one panel per option, and the command that follows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mask_lightning.reports.figures import RED
from mask_lightning.reports.sweep_report import next_command, plot_sweep
from mask_lightning.runs.folder import RunResult
from mask_lightning.sweeps.table import Row


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


def job(folder: str, score: float | None, monitor: str = "val/f1", ensemble: str | None = None) -> Row:
    best = {} if score is None else {monitor: score}
    return Row("finished", Path(folder), RunResult("finished", monitor, best=best), {"ensemble": ensemble})


@pytest.mark.parametrize(
    ("rows", "want"),
    [
        ([job("a", 0.4), job("b", 0.6), job("c", 0.5)], "report ckpt=b"),
        ([job("a", 0.4, "val/loss"), job("b", 0.6, "val/loss")], "report ckpt=a"),
        ([job("a", float("nan")), job("b", 0.1)], "report ckpt=b"),
        ([job("a", None), job("b", None)], None),
        ([job("a", 0.4, ensemble="folds"), job("b", 0.6, ensemble="folds")], "suspects runs=sweep"),
        ([job("a", 0.4, ensemble="age"), job("b", 0.6, ensemble="age")], "vote runs=sweep"),
        ([job("a", 0.4, ensemble="seeds"), job("b", 0.6, ensemble="seeds")], "vote runs=sweep kind=soft"),
        (
            [job("a", None, ensemble="seeds"), job("b", None, ensemble="seeds")],
            "vote runs=sweep kind=soft data.root=PHOTOS",
        ),
        ([job("a", 0.9, "clean_train/f1", ensemble="age")], "vote runs=sweep data.root=PHOTOS"),
    ],
)
def test_the_next_command_fits_the_sweep(rows: list[Row], want: str | None) -> None:
    assert next_command(Path("sweep"), rows) == want
