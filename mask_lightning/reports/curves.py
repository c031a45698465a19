"""Loss, score and lr over the epochs of a run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, cycle

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mask_lightning.optim.phases import Phase
from mask_lightning.reports.figures import (
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    RED,
    SIDE_COLOURS,
    SIDE_NAMES,
    new_figure,
)

TASK_COLOURS = (RED, GREEN, PURPLE, BLUE)


def plot_curves(history: pd.DataFrame, phases: Sequence[Phase], tasks: Sequence[str]) -> Figure:
    """Columns of metrics.csv -> panels: loss, macro F1, macro F1 per task, and the tasks' weights where they move.

    Phases are shaded spans.

    Args:
        history: a row per epoch (`epoch` from 0); columns that are missing are left out.
        phases: as the run had them.
        tasks: names of the tasks.
    """
    weighed = any(f"train/{task}/weight" in history for task in tasks)
    panels = 4 if weighed else 3
    figure = new_figure(13 / 3 * panels, 4)
    axes = figure.subplots(1, panels)
    for side in SIDE_COLOURS:
        _line(axes[0], history, f"{side}/loss", SIDE_COLOURS[side], SIDE_NAMES[side])
        _line(axes[1], history, f"{side}/f1", SIDE_COLOURS[side], SIDE_NAMES[side])
    scored = "val" if "val/f1" in history else "clean_train"
    for task, colour in zip(tasks, cycle(TASK_COLOURS), strict=False):
        _line(axes[2], history, f"{scored}/{task}/f1", colour, task)
        if weighed:
            _line(axes[3], history, f"train/{task}/weight", colour, task)
    titles = [
        "loss",
        "macro F1" + (", all tasks combined" if len(tasks) > 1 else ""),
        f"macro F1 per task, {SIDE_NAMES[scored]}",
        *(["weight of each task's loss"] if weighed else []),
    ]
    for axis, title in zip(axes, titles, strict=True):
        _dress(axis, title, phases)
    for axis in axes[1:3]:
        axis.set_ylim(0, 1)
    return figure


def _line(axis: Axes, history: pd.DataFrame, column: str, colour: str, name: str) -> None:
    if column in history:
        points = history[["epoch", column]].dropna()
        axis.plot(points["epoch"] + 1, points[column], "o-", color=colour, label=name, markersize=4)


def _dress(axis: Axes, title: str, phases: Sequence[Phase]) -> None:
    ends = list(accumulate(phase.epochs for phase in phases))
    for i, (phase, end) in enumerate(zip(phases, ends, strict=True)):
        if len(phases) > 1 and i % 2 == 0:
            axis.axvspan(end - phase.epochs + 0.5, end + 0.5, color=GREY, alpha=0.12, lw=0)
        if len(phases) > 1:
            axis.text(
                end - phase.epochs + 0.6,
                0.99,
                str(phase),
                transform=axis.get_xaxis_transform(),
                va="top",
                fontsize=7,
            )
    axis.set_title(title)
    axis.set_xlabel("epoch")
    axis.set_xlim(0.5, ends[-1] + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.25)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)
