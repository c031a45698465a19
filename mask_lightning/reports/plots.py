"""Figures of evaluation results: confusion matrices, class balance, calibration, slices and ensembles.

Titles and names are plain text: `$` in them is shown, not parsed as mathematics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, SupportsFloat

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mask_lightning.metrics.bootstrap import Interval
from mask_lightning.metrics.calibration import Reliability, TaskCalibration
from mask_lightning.metrics.slices import Slice
from mask_lightning.reports.figures import BLUE, GREY, ORANGE, RED, literal, new_figure

SLICE_GAP = 0.6  # rows between the slices of one column and those of the next


def plot_confusion(
    counts: npt.NDArray[np.int64], classes: Sequence[str], title: str, *, show: Literal["counts", "rates"] = "counts"
) -> Figure:
    """Plot a confusion matrix; the colour is the share of the true class.

    Args:
        counts: (C, C) photos, `[true, pred]`.
        classes: C class names.
        title: title of the figure.
        show: number in each cell: photos ("counts") or share of the true class ("rates").
    """
    total = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(total, 1)
    side = max(3.6, 0.5 * len(classes) + 1.6)
    figure = new_figure(side + 0.9, side)
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(classes))
    axis.set_xticks(ticks, [literal(name) for name in classes], rotation=90 if len(classes) > 6 else 0, fontsize=8)
    axis.set_yticks(ticks, [f"{literal(name)} ({n})" for name, n in zip(classes, total[:, 0], strict=True)], fontsize=8)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true (photos)")
    axis.set_title(literal(title), fontsize=10)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = str(count) if show == "counts" else f"{shares[row, column]:.0%}"
            axis.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, ax=axis, label="share of the true class", shrink=0.8)
    return figure


def plot_balance(tasks: Mapping[str, pd.DataFrame], codes: pd.DataFrame, *, title: str) -> Figure:
    """Plot the number of photos per class: each task on the left, the combined classes on the right.

    Args:
        tasks: task name -> one row per class name with the columns `photos` and `people`.
        codes: the same for the combined classes.
        title: title of the figure.
    """
    figure = new_figure(12, 0.32 * len(codes) + 1.6)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1, 1.25])[0]
    heights = [len(counts) for counts in tasks.values()]
    axes = left.subplots(len(tasks), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (name, counts) in zip(axes, tasks.items(), strict=True):
        _draw_bars(axis, counts, name)
    _draw_bars(right.subplots(), codes, " x ".join(tasks))
    figure.suptitle(literal(title), fontsize=10, wrap=True)
    figure.supxlabel("orange: rare class, less than a third of an equal share of the photos", fontsize=8, color=ORANGE)
    return figure


def _draw_bars(axis: Axes, counts: pd.DataFrame, title: str) -> None:
    """Draw one bar per class with its numbers; rare classes are orange, classes without photos are labelled in red."""
    total = max(int(counts["photos"].sum()), 1)
    shares = counts["photos"] / total
    # Below about a third of an equal share, macro F1 begins to suffer.
    colours = [ORANGE if share < 1 / (3 * len(counts)) else BLUE for share in shares]
    axis.barh(range(len(counts)), counts["photos"], color=colours, height=0.72)
    largest = max(int(counts["photos"].max()), 1)
    for row, (photos, people, share) in enumerate(zip(counts["photos"], counts["people"], shares, strict=True)):
        text = f"{photos:,}  ({share:.1%}, {people:,} people)" if photos else "none"
        axis.text(photos + 0.01 * largest, row, f" {text}", va="center", fontsize=8, color="black" if photos else RED)
    axis.set_yticks(range(len(counts)), [literal(name) for name in counts.index], fontsize=8)
    axis.set_ylim(len(counts) - 0.4, -0.6)
    axis.set_xlim(0, 1.5 * largest)
    axis.set_xticks([])
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.set_title(literal(title), fontsize=9, loc="left", fontweight="bold")


def plot_reliability(tasks: Mapping[str, TaskCalibration]) -> Figure:
    """Plot a reliability diagram per task: accuracy by predicted probability above, share of photos below."""
    figure = new_figure(3.4 * len(tasks) + 0.4, 4.6)
    upper, lower = figure.subplots(2, len(tasks), squeeze=False, sharex=True, sharey="row", height_ratios=[3, 1])
    for above, below, (name, task) in zip(upper, lower, tasks.items(), strict=True):
        _draw_accuracy(above, task)
        above.set_title(f"{literal(name)}: {_calibration_errors(task)}", fontsize=9)
        _draw_counts(below, task.before)
    upper[0].set_ylabel("accuracy", fontsize=9)
    lower[0].set_ylabel("share of photos", fontsize=9)
    for axis in figure.axes:
        axis.tick_params(labelsize=8)
    figure.supxlabel("predicted probability", fontsize=9)
    return figure


def _calibration_errors(task: TaskCalibration) -> str:
    after = f" -> {task.after.ece:.3f}" if task.after is not None else ""
    return f"ECE {task.before.ece:.3f}{after}"


def _draw_accuracy(axis: Axes, task: TaskCalibration) -> None:
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="perfect calibration")
    _draw_line(axis, task.before, ORANGE, "uncalibrated")
    if task.after is not None:
        _draw_line(axis, task.after, BLUE, f"temperature {task.temperature:.2f}")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1.02)
    axis.legend(fontsize=7, loc="upper left")


def _draw_line(axis: Axes, reliability: Reliability, colour: str, label: str) -> None:
    filled = reliability.photos > 0
    # The dot grows with the bin, because a bin of three photos means little.
    sizes = 8 + 90 * reliability.photos[filled] / reliability.photos.sum()
    confidence, accuracy = reliability.confidence[filled], reliability.accuracy[filled]
    axis.plot(confidence, accuracy, color=colour, linewidth=1, label=label)
    axis.scatter(confidence, accuracy, s=sizes, color=colour, zorder=3)


def _draw_counts(axis: Axes, reliability: Reliability) -> None:
    shares = reliability.photos / reliability.photos.sum()
    axis.bar(reliability.edges[:-1], shares, width=np.diff(reliability.edges), align="edge", color=ORANGE)


def plot_slices(slices: Sequence[Slice], everyone: Interval, worst: Slice | None) -> Figure:
    """Plot the accuracy of each slice with its interval; the worst slice is red.

    Args:
        slices: slices, grouped by column.
        everyone: accuracy on all photos, drawn as a dotted line.
        worst: the worst slice, or None.
    """
    columns = list(dict.fromkeys(each.column for each in slices))
    heights = [row + SLICE_GAP * columns.index(each.column) for row, each in enumerate(slices)]
    figure = new_figure(7.2, 0.27 * (len(slices) + SLICE_GAP * len(columns)) + 1.1)
    axis = figure.subplots()
    axis.axvline(everyone.value, color=GREY, linewidth=1, linestyle=":")
    axis.set_title(f"dotted: all photos, {everyone.value:.3f}", fontsize=9, loc="left")
    for height, each in zip(heights, slices, strict=True):
        score, colour = each.accuracy, RED if each == worst else BLUE
        if score.low is not None and score.high is not None:
            axis.hlines(height, score.low, score.high, color=colour, linewidth=2)
        axis.plot(score.value, height, "o", color=colour, markersize=5)
    axis.set_yticks(
        heights, [literal(f"{each.column} {each.value} ({each.people} people)") for each in slices], fontsize=8
    )
    axis.set_ylim(heights[-1] + 0.7, -0.7)
    axis.set_xlim(0, 1)
    axis.set_xlabel("share of photos correct in every task, 95 % interval over people", fontsize=8)
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def plot_numbers(
    numbers: npt.NDArray[np.float32],
    classes: Sequence[str],
    *,
    top: float,
    errors: Mapping[str, SupportsFloat],
    title: str,
) -> Figure:
    """Plot predicted against true numbers, such as ages, with the mean prediction of each class.

    Args:
        numbers: (N, 3) class index, true number and predicted number of each photo.
        classes: names of the classes that the number is divided into.
        top: largest number that can be predicted; larger true numbers count as this one.
        errors: contains `bias/<class>`, the mean of predicted - true.
        title: title of the figure.
    """
    figure = new_figure(6.4, 4.8)
    axis = figure.subplots()
    target, truth, pred = numbers.T
    spread = np.random.default_rng(0).uniform(-0.4, 0.4, len(truth))  # jitter: whole years would overlap
    axis.scatter(truth + spread, pred, s=8, alpha=0.3, color=BLUE, linewidths=0, label="photo")
    end = max(truth.max(initial=top), top)
    axis.plot([0, top, end], [0, top, top], color=GREY, linewidth=1, label="correct")
    axis.plot([], [], color=ORANGE, linewidth=2, label="mean of the class")
    for i, name in enumerate(classes):
        of_class = target == i
        if of_class.any():
            left, right, mean = truth[of_class].min(), truth[of_class].max(), pred[of_class].mean()
            axis.hlines(mean, left - 0.5, right + 0.5, color=ORANGE, linewidth=2)
            text = f"{literal(name)}: {float(errors[f'bias/{name}']):+.1f}"
            axis.annotate(text, (left, mean), xytext=(0, 3), textcoords="offset points", fontsize=8)
    axis.set_xlabel("true")
    axis.set_ylabel("predicted")
    axis.set_xlim(0, end + 2)
    axis.set_ylim(0, top + 4)
    axis.set_title(literal(title), fontsize=10)
    axis.legend(loc="upper left", fontsize=8)
    return figure
