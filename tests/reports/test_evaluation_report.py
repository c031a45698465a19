"""Terminal output of an evaluation."""

from __future__ import annotations

import pytest
from rich.console import Console

from mask_lightning.metrics.bootstrap import Difference, Interval
from mask_lightning.reports import evaluation_report


def as_text(text: object) -> str:
    console = Console(width=120, record=True)
    console.print(text, highlight=False)
    return console.export_text().strip()


@pytest.mark.parametrize(
    ("difference", "want"),
    [
        (
            Difference(0.021, -0.004, 0.046, 0.05),
            "difference +0.021 [-0.004, +0.046]: not significant (5.0% of the bootstrap samples do not show it)",
        ),
        (
            Difference(-0.03, -0.05, -0.01, 0.998),
            "difference -0.030 [-0.050, -0.010]: significant (0.2% of the bootstrap samples do not show it)",
        ),
        (Difference(0.0, 0.0, 0.0, 1.0), "difference +0.000 [+0.000, +0.000]: not significant"),
        (Difference(0.2, None, None, None), "difference +0.200: no interval, because there is only one person"),
    ],
)
def test_a_difference_is_described_with_its_significance(difference: Difference, want: str) -> None:
    assert as_text(evaluation_report.describe(difference)) == want


@pytest.mark.parametrize(
    ("interval", "want"),
    [(Interval(0.5, 0.25, 0.75), "0.500 [0.250, 0.750]"), (Interval(0.5, None, None), "0.500")],
)
def test_an_interval_is_shown_if_known(interval: Interval, want: str) -> None:
    assert as_text(evaluation_report.show_interval(interval)) == want
