"""Figures of a training run: learning curves, learning rate schedule and LR range test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import accumulate, cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table

from mask_lightning.callbacks.lr_range_test import RangeTestResult, Suggestions, is_past_lowest, usable
from mask_lightning.optim.param_groups import NO_DECAY
from mask_lightning.optim.phases import PhasedLR, locate
from mask_lightning.reports.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SIDE_COLOURS,
    SIDE_NAMES,
    count,
    literal,
    new_figure,
)
from mask_lightning.settings.optim import PhaseSettings

TASK_COLOURS = (RED, GREEN, PURPLE, BLUE)
POINTS_PER_PHASE = 400  # of a drawn schedule
DECADES = 2  # drawn below the highest lr of the slowest layer group; the end of one-cycle lies further down
MARKS = {"valley": (RED, "o"), "steep": (GREEN, "^"), "slide": (PURPLE, "s"), "minimum": (ORANGE, "D")}


def plot_curves(history: pd.DataFrame, phases: Sequence[PhaseSettings], tasks: Sequence[str]) -> Figure:
    """Plot loss, macro F1, macro F1 per task and, if they change, the task weights over the epochs.

    Phases are shaded.

    Args:
        history: content of metrics.csv, one row per epoch (`epoch` starts at 0); missing columns are not drawn.
        phases: phases of the run.
        tasks: task names.
    """
    weights_change = any(f"train/{task}/weight" in history for task in tasks)
    panels = 4 if weights_change else 3
    figure = new_figure(13 / 3 * panels, 4)
    axes = figure.subplots(1, panels)
    for side in SIDE_COLOURS:
        _draw_column(axes[0], history, f"{side}/loss", SIDE_COLOURS[side], SIDE_NAMES[side])
        _draw_column(axes[1], history, f"{side}/f1", SIDE_COLOURS[side], SIDE_NAMES[side])
    scored = "val" if "val/f1" in history else "clean_train"
    for task, colour in zip(tasks, cycle(TASK_COLOURS), strict=False):
        _draw_column(axes[2], history, f"{scored}/{task}/f1", colour, literal(task))
        if weights_change:
            _draw_column(axes[3], history, f"train/{task}/weight", colour, literal(task))
    titles = [
        "loss",
        "macro F1" + (", all tasks" if len(tasks) > 1 else ""),
        f"macro F1 per task, {SIDE_NAMES[scored]}",
        *(["weight of each task's loss"] if weights_change else []),
    ]
    for axis, title in zip(axes, titles, strict=True):
        _finish_panel(axis, title, phases)
    for axis in axes[1:3]:
        axis.set_ylim(0, 1)
    return figure


def _draw_column(axis: Axes, history: pd.DataFrame, column: str, colour: str, name: str) -> None:
    if column in history:
        points = history[["epoch", column]].dropna()
        axis.plot(points["epoch"] + 1, points[column], "o-", color=colour, label=name, markersize=4)


def _finish_panel(axis: Axes, title: str, phases: Sequence[PhaseSettings]) -> None:
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
    axis.set_xlim(0.5, (ends[-1] if ends else 1) + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.25)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)


def plot_schedule(scheduler: PhasedLR, phases: Sequence[PhaseSettings]) -> Figure:
    """Plot the lr of every layer group, coloured by depth, and the momentum below; phases are shaded.

    Args:
        scheduler: scheduler of the whole run; its state does not change.
        phases: phases of the run, in order.
    """
    points = sample_schedule(scheduler)
    figure = new_figure(9, 5)
    moving = bool(points["momentum"].notna().any())
    axes = list(figure.subplots(1 + moving, squeeze=False, sharex=True, height_ratios=[3, 1][: 1 + moving])[:, 0])
    _draw_lrs(axes[0], points)
    if moving:
        _draw(axes[1], points, "momentum", color=GREY)
        axes[1].set_ylabel("momentum")
    _mark_phases(axes, scheduler, phases)
    axes[-1].set_xlabel("optimizer step")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def sample_schedule(scheduler: PhasedLR, *, most: int = POINTS_PER_PHASE) -> pd.DataFrame:
    """Compute lr and momentum at sampled steps of a run in closed form, without stepping the scheduler.

    Args:
        scheduler: scheduler of the whole run.
        most: maximum number of sampled steps per phase; the first and the last step are always included.

    Returns:
        One row per sampled step: `step` and `phase` (both start at 0), `momentum` (NaN if the optimizer has none), and
        the lr of each layer group in the optimizer's order (NaN while the group is frozen).
    """
    names = dict.fromkeys(str(group["name"]).removesuffix(NO_DECAY) for group in scheduler.optimizer.param_groups)
    rows, start = [], 0
    for index, phase in enumerate(scheduler.phases):
        maxima = {name: phase.lrs.get(name, phase.lrs.get(name + NO_DECAY, np.nan)) for name in names}
        for step in np.unique(np.linspace(start, start + phase.steps - 1, min(most, phase.steps)).astype(int)):
            _, pos = locate(scheduler.phases, int(step))
            curve = phase.schedule.momentum
            momentum = curve(pos) if curve else scheduler.base_momenta[0]
            lrs = {name: value * phase.schedule.lr(pos) for name, value in maxima.items()}
            rows.append({"step": step, "phase": index, "momentum": momentum, **lrs})
        start += phase.steps
    return pd.DataFrame(rows).astype({"momentum": float})


def _draw_lrs(axis: Axes, points: pd.DataFrame) -> None:
    names = list(points.columns[3:])
    colours = colormaps["viridis"](np.linspace(0.9, 0, len(names)))
    for name, colour in zip(names[:-1], colours, strict=False):
        _draw(axis, points, name, color=colour, lw=1.2, label=name if name in (names[0], names[-2]) else None)
    _draw(axis, points, names[-1], color=RED, lw=1.8, label=names[-1])
    axis.set_yscale("log")
    highest = points[names].max()
    axis.set_ylim(highest.min() / 10**DECADES, 1.6 * highest.max())
    axis.set_ylabel("learning rate")
    axis.legend(title="layer groups" if len(names) < 4 else f"{len(names)} layer groups", fontsize=8, title_fontsize=8)


def _draw(axis: Axes, points: pd.DataFrame, column: str, *, label: str | None = None, **style: object) -> None:
    """Draw one line per phase, because the value may jump between phases."""
    for _, part in points.groupby("phase"):
        if part[column].notna().any():
            axis.plot(part["step"], part[column], label=label, **style)  # type: ignore[arg-type]
            label = None


def _mark_phases(axes: Sequence[Axes], scheduler: PhasedLR, phases: Sequence[PhaseSettings]) -> None:
    start = 0
    for i, (part, phase) in enumerate(zip(scheduler.phases, phases, strict=True)):
        for axis in axes:
            axis.grid(alpha=0.25)
            if len(phases) > 1 and i % 2 == 0:
                axis.axvspan(start, start + part.steps, color=GREY, alpha=0.12, lw=0)
        epochs = f"{phase.epochs} epoch{'s' if phase.epochs > 1 else ''}"
        height = 1.01 + 0.04 * (i % 2)  # alternating, because a short phase may be narrower than its name
        axes[0].text(start, height, f"{phase}, {epochs}", transform=axes[0].get_xaxis_transform(), fontsize=8)
        start += part.steps
    axes[0].set_xlim(0, start)


def plot_lr_range(result: RangeTestResult, suggestions: Suggestions | None = None, chosen: str | None = None) -> Figure:
    """Plot raw and smoothed loss over the lr, with the suggestions as marks; the legend lists their lrs.

    Args:
        result: result of the LR range test.
        suggestions: suggested lrs; None if the curve gives none.
        chosen: name of the suggestion that is used; it gets a larger mark and a vertical line.
    """
    figure = new_figure(9, 5)
    axis = figure.subplots()
    axis.plot(result.lrs, result.raw_losses, color=GREY, alpha=0.4, lw=0.8, label="loss per step")
    axis.plot(result.lrs, result.losses, color=BLUE, lw=2, label="smoothed loss")
    _limit_loss_axis(axis, result)
    found = asdict(suggestions) if suggestions else {}
    for name, lr in sorted(found.items(), key=lambda entry: entry[1]):
        _mark_suggestion(axis, name, lr, result, chosen=name == chosen)
    axis.set_xscale("log")
    axis.set_xlabel("learning rate (largest of all layer groups)")
    axis.set_ylabel("training loss")
    restarts = f", data restarted {count(result.restarts, 'time')}" if result.restarts else ""
    axis.set_title(f"LR range test: {result.stopped} after {len(result.lrs)} steps{restarts}")
    axis.grid(alpha=0.25, which="both")
    axis.legend(fontsize=9, loc="upper left" if found else "best")
    return figure


def _mark_suggestion(axis: Axes, name: str, lr: float, result: RangeTestResult, *, chosen: bool) -> None:
    colour, marker = MARKS[name]
    if chosen:
        axis.axvline(lr, color=colour, lw=1, ls="--")
    label = f"{name} {lr:.2e}" + (" (chosen)" if chosen else "") + _warning(result, lr)
    axis.plot(
        lr,
        min(_loss_at(result, lr), axis.get_ylim()[1]),  # clipped to the upper edge
        marker,
        color=colour,
        label=label,
        markersize=12 if chosen else 8,
        markeredgecolor="black" if chosen else "white",
        zorder=4 if chosen else 3,
        linestyle="none",
        clip_on=False,
    )


def _limit_loss_axis(axis: Axes, result: RangeTestResult) -> None:
    """Limit the y axis to the falling part of the curve; divergence and noisy first steps would flatten it."""
    _, losses = usable(result.lrs, result.losses, num_steps=result.num_steps)
    losses = losses[np.isfinite(losses)]
    if len(losses):
        low = float(losses.min())
        top = max(float(losses[: losses.argmin() + 1].max()), float(np.median(losses)))
        height = max(top - low, 0.05 * abs(top), 1e-6)
        axis.set_ylim(low - 0.3 * height, top + 0.8 * height)


def _loss_at(result: RangeTestResult, lr: float) -> float:
    """Interpolate the smoothed loss at an lr."""
    return float(np.interp(np.log(lr), np.log(result.lrs), result.losses))


def _warning(result: RangeTestResult, lr: float) -> str:
    """Return a warning about a suggested lr, or an empty text."""
    return ", past the lowest loss" if is_past_lowest(result, lr) else ""


def print_suggestions(result: RangeTestResult, suggestions: Suggestions, chosen: str) -> None:
    """Print the suggested lrs and the loss at each."""
    table = Table(title=f"LR range test: {result.stopped} after {len(result.lrs)} steps")
    for heading in ("suggestion", "lr", "loss"):
        table.add_column(heading)
    for name, lr in asdict(suggestions).items():
        style = "bold" if name == chosen else None
        table.add_row(name, f"{lr:.2e}", f"{_loss_at(result, lr):.3f}{_warning(result, lr)}", style=style)
    Console(stderr=True).print(table)


def print_next(folder: Path, command: str) -> None:
    """Print where the result is and the command that trains with the suggested lr."""
    console = Console(stderr=True)
    console.print(f"look at: {folder}/lr_range_test.png, .csv, .json", markup=False, soft_wrap=True)
    console.print(f"next:    {command}", markup=False, highlight=False, soft_wrap=True)
