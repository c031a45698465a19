"""How many photos and people each class has, as bars."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mask_lightning.reports.figures import BLUE, ORANGE, RED, new_figure


def plot_balance(tasks: Mapping[str, pd.DataFrame], codes: pd.DataFrame, *, title: str) -> Figure:
    """Counts (class name -> photos, people) per task on the left, of the combined classes on the right."""
    figure = new_figure(12, 0.32 * len(codes) + 1.6)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1, 1.25])[0]
    heights = [len(counts) for counts in tasks.values()]
    axes = left.subplots(len(tasks), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (name, counts) in zip(axes, tasks.items(), strict=True):
        _draw_bars(axis, counts, name)
    _draw_bars(right.subplots(), codes, " x ".join(tasks))
    figure.suptitle(title, fontsize=10, wrap=True)
    figure.supxlabel("orange: rare, less than a third of an equal share of the photos", fontsize=8, color=ORANGE)
    return figure


def _draw_bars(axis: Axes, counts: pd.DataFrame, title: str) -> None:
    """A bar per class: photos as its length, the numbers behind it; rare ones in orange, absent ones in red."""
    total = max(int(counts["photos"].sum()), 1)
    shares = counts["photos"] / total
    # Rare: less than a third of an equal share, where macro F1 begins to suffer.
    colours = [ORANGE if share < 1 / (3 * len(counts)) else BLUE for share in shares]
    axis.barh(range(len(counts)), counts["photos"], color=colours, height=0.72)
    largest = max(int(counts["photos"].max()), 1)
    for row, (photos, people, share) in enumerate(zip(counts["photos"], counts["people"], shares, strict=True)):
        text = f"{photos:,}  ({share:.1%}, {people:,} people)" if photos else "nobody"
        axis.text(photos + 0.01 * largest, row, f" {text}", va="center", fontsize=8, color="black" if photos else RED)
    axis.set_yticks(range(len(counts)), list(counts.index), fontsize=8)
    axis.set_ylim(len(counts) - 0.4, -0.6)
    axis.set_xlim(0, 1.5 * largest)
    axis.set_xticks([])
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.set_title(title, fontsize=9, loc="left", fontweight="bold")
