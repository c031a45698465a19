"""Differences in words, and tables that hold whatever a label is called."""

from __future__ import annotations

import pytest
from rich.console import Console

from mask_lightning.metrics.bootstrap import Difference, Interval
from mask_lightning.metrics.slices import Slice
from mask_lightning.reports import evaluation_report
from mask_lightning.reports.slices import plot_slices


def rendered(text: object) -> str:
    console = Console(width=120, record=True)
    console.print(text, highlight=False)
    return console.export_text().strip()


@pytest.mark.parametrize(
    ("difference", "want"),
    [
        (
            Difference(0.021, -0.004, 0.046, 0.05),
            "the difference +0.021 [-0.004, +0.046]: not shown to be real (5.0% of the draws of people say otherwise)",
        ),
        (
            Difference(-0.03, -0.05, -0.01, 0.998),
            "the difference -0.030 [-0.050, -0.010]: shown to be real (0.2% of the draws of people say otherwise)",
        ),
        (Difference(0.0, 0.0, 0.0, 1.0), "the difference +0.000 [+0.000, +0.000]: not shown to be real"),
        (Difference(0.2, None, None, None), "the difference +0.200: of a single person, who says nothing about others"),
    ],
)
def test_a_difference_in_words(difference: Difference, want: str) -> None:
    assert rendered(evaluation_report.describe(difference)) == want


@pytest.mark.parametrize(
    ("interval", "want"),
    [(Interval(0.5, 0.25, 0.75), "0.500 [0.250, 0.750]"), (Interval(0.5, None, None), "0.500")],
)
def test_an_interval(interval: Interval, want: str) -> None:
    assert rendered(evaluation_report.show_interval(interval)) == want


def test_slices_are_drawn_with_the_worst_in_its_own_colour() -> None:
    slices = [
        Slice("race", f"$x_{i}", 10, 70, Interval(score, score - 0.1, score + 0.1), 0.5, {})
        for i, score in enumerate((0.4, 0.6, 0.8))
    ]
    alone = Slice("city", "one", 1, 7, Interval(0.1, None, None), 0.1, {})
    figure = plot_slices([*slices, alone], Interval(0.6, 0.5, 0.7), slices[0])
    (axis,) = figure.axes
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert [float(line.get_xdata()[0]) for line in dots] == [0.4, 0.6, 0.8, 0.1]
    assert len({line.get_color() for line in dots}) == 2
    assert len(axis.collections) == 3  # no interval for a single person
