"""How honest probabilities are, as pictures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mask_lightning.metrics.calibration import Reliability, TaskCalibration
from mask_lightning.reports.figures import BLUE, GREY, ORANGE, new_figure


def plot_reliability(tasks: Mapping[str, TaskCalibration]) -> Figure:
    """A panel per task: above, how often answers are right by their probability; below, how many there are."""
    figure = new_figure(3.4 * len(tasks) + 0.4, 4.6)
    upper, lower = figure.subplots(2, len(tasks), squeeze=False, sharex=True, sharey="row", height_ratios=[3, 1])
    for above, below, (name, task) in zip(upper, lower, tasks.items(), strict=True):
        _draw_accuracy(above, task)
        above.set_title(f"{name}: {_headline(task)}", fontsize=9)
        _draw_counts(below, task.before)
    upper[0].set_ylabel("share of right answers", fontsize=9)
    lower[0].set_ylabel("share of photos", fontsize=9)
    for axis in figure.axes:
        axis.tick_params(labelsize=8)
    figure.supxlabel("probability of the answer", fontsize=9)
    return figure


def _headline(task: TaskCalibration) -> str:
    after = f" -> {task.after.ece:.3f}" if task.after is not None else ""
    return f"ECE {task.before.ece:.3f}{after}"


def _draw_accuracy(axis: Axes, task: TaskCalibration) -> None:
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="honest")
    _draw_line(axis, task.before, ORANGE, "as the network says it")
    if task.after is not None:
        _draw_line(axis, task.after, BLUE, f"temperature {task.temperature:.2f}")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1.02)
    axis.legend(fontsize=7, loc="upper left")


def _draw_line(axis: Axes, reliability: Reliability, colour: str, label: str) -> None:
    filled = reliability.photos > 0
    # A dot as large as its bin, so that nobody reads much into three photos.
    sizes = 8 + 90 * reliability.photos[filled] / reliability.photos.sum()
    confidence, accuracy = reliability.confidence[filled], reliability.accuracy[filled]
    axis.plot(confidence, accuracy, color=colour, linewidth=1, label=label)
    axis.scatter(confidence, accuracy, s=sizes, color=colour, zorder=3)


def _draw_counts(axis: Axes, reliability: Reliability) -> None:
    shares = reliability.photos / reliability.photos.sum()
    axis.bar(reliability.edges[:-1], shares, width=np.diff(reliability.edges), align="edge", color=ORANGE)
