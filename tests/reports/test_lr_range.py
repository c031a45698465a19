"""The picture and the table of a range test say what was found, and what was not."""

from __future__ import annotations

import numpy as np
import pytest

from mask_lightning.callbacks.lr_suggestions import RangeTestResult, Suggestions
from mask_lightning.reports.lr_range import plot_lr_range, print_suggestions

LRS = tuple(np.geomspace(1e-6, 1.0, 61).tolist())
LOSSES = tuple((2.0 - 0.01 * np.minimum(range(61), 40) + 0.5 * np.maximum(np.arange(61) - 45, 0)).tolist())
RESULT = RangeTestResult(LRS, LOSSES, LOSSES, 61, "diverged", 2)
FOUND = Suggestions(valley=1e-4, steep=0.5, slide=2e-3, minimum=1e-3)


def test_all_four_are_marked_within_the_picture_and_named() -> None:
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
    assert max(marks, key=lambda mark: mark.get_markersize()).get_label().startswith("valley")
    assert low < min(LOSSES) < 2.0 < high < max(LOSSES)


@pytest.mark.parametrize("losses", [LOSSES, (float("nan"),), tuple([1.7] * 61), (2.0, float("inf"))])
def test_a_curve_without_suggestions_is_drawn_too(losses: tuple[float, ...]) -> None:
    result = RangeTestResult(LRS[: len(losses)], losses, losses, 61, "diverged", 0)
    plot_lr_range(result).canvas.draw()


def test_the_table_says_what_lies_past_the_lowest_loss(capsys: pytest.CaptureFixture[str]) -> None:
    print_suggestions(RESULT, FOUND, "valley")
    rows = {line.split()[1]: line for line in capsys.readouterr().err.splitlines() if line.startswith("│")}
    assert "1.00e-04" in rows["valley"]
    assert "1.800" in rows["valley"]  # step 20 of 60 by 0.01 each
    assert [name for name, row in rows.items() if "past" in row] == ["steep"]
