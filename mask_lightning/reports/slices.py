"""Scores of some of the photos beside each other, as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from mask_lightning.metrics.bootstrap import Interval
from mask_lightning.metrics.slices import Slice
from mask_lightning.reports.figures import BLUE, GREY, RED, new_figure

GAP = 0.6  # rows between the slices of one column and those of the next


def plot_slices(slices: Sequence[Slice], everyone: Interval, worst: Slice | None) -> Figure:
    """Accuracy of each slice with its interval, that of all photos as a line, and the worst in red."""
    columns = list(dict.fromkeys(each.column for each in slices))
    heights = [row + GAP * columns.index(each.column) for row, each in enumerate(slices)]
    figure = new_figure(7.2, 0.27 * (len(slices) + GAP * len(columns)) + 1.1)
    axis = figure.subplots()
    axis.axvline(everyone.value, color=GREY, linewidth=1, linestyle=":")
    axis.set_title(f"dotted: all photos, {everyone.value:.3f}", fontsize=9, loc="left")
    for height, each in zip(heights, slices, strict=True):
        score, colour = each.accuracy, RED if each == worst else BLUE
        if score.low is not None and score.high is not None:
            axis.hlines(height, score.low, score.high, color=colour, linewidth=2)
        axis.plot(score.value, height, "o", color=colour, markersize=5)
    axis.set_yticks(heights, [f"{each.column} {each.value} ({each.people} people)" for each in slices], fontsize=8)
    axis.set_ylim(heights[-1] + 0.7, -0.7)
    axis.set_xlim(0, 1)
    axis.set_xlabel("share of photos right in every task, 95 % interval over people", fontsize=8)
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    return figure
