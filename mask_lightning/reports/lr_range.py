"""The curve of a learning rate range test, its suggestions, and what to type next."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from mask_lightning.callbacks.lr_suggestions import RangeTestResult, Suggestions, is_past_lowest, usable
from mask_lightning.reports.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, new_figure

MARKS = {"valley": (RED, "o"), "steep": (GREEN, "^"), "slide": (PURPLE, "s"), "minimum": (ORANGE, "D")}


def plot_lr_range(result: RangeTestResult, suggestions: Suggestions | None = None, chosen: str | None = None) -> Figure:
    """Smoothed and raw loss over the lr, and the suggestions: their lrs stand in the legend, in their order.

    Args:
        result: the curve.
        suggestions: to be marked, None: there are none.
        chosen: the name of the one that is taken; it is drawn larger, with a line.
    """
    figure = new_figure(9, 5)
    axis = figure.subplots()
    axis.plot(result.lrs, result.raw_losses, color=GREY, alpha=0.4, lw=0.8, label="loss of each step")
    axis.plot(result.lrs, result.losses, color=BLUE, lw=2, label="smoothed loss")
    _limit(axis, result)
    found = asdict(suggestions) if suggestions else {}
    for name, lr in sorted(found.items(), key=lambda entry: entry[1]):
        _mark(axis, name, lr, result, chosen=name == chosen)
    axis.set_xscale("log")
    axis.set_xlabel("learning rate of the layers with the largest one")
    axis.set_ylabel("training loss")
    restarts = f", the data begun {result.restarts + 1} times" if result.restarts else ""
    axis.set_title(f"learning rate range test: {result.stopped} after {len(result.lrs)} steps{restarts}")
    axis.grid(alpha=0.25, which="both")
    axis.legend(fontsize=9, loc="upper left" if found else "best")
    return figure


def _mark(axis: Axes, name: str, lr: float, result: RangeTestResult, *, chosen: bool) -> None:
    colour, marker = MARKS[name]
    if chosen:
        axis.axvline(lr, color=colour, lw=1, ls="--")
    label = f"{name} {lr:.2e}" + (" (chosen)" if chosen else "") + note(result, lr)
    axis.plot(
        lr,
        min(loss_at(result, lr), axis.get_ylim()[1]),  # at the edge, where it lies above
        marker,
        color=colour,
        label=label,
        markersize=12 if chosen else 8,
        markeredgecolor="black" if chosen else "white",
        zorder=4 if chosen else 3,
        linestyle="none",
        clip_on=False,
    )


def _limit(axis: Axes, result: RangeTestResult) -> None:
    """Show where the loss falls: where it diverges, or was the mean of few steps, would press that flat."""
    _, losses = usable(result.lrs, result.losses, num_steps=result.num_steps)
    losses = losses[np.isfinite(losses)]
    if len(losses):
        low = float(losses.min())
        top = max(float(losses[: losses.argmin() + 1].max()), float(np.median(losses)))
        height = max(top - low, 0.05 * abs(top), 1e-6)
        axis.set_ylim(low - 0.3 * height, top + 0.8 * height)


def loss_at(result: RangeTestResult, lr: float) -> float:
    """The smoothed loss at an lr between two steps."""
    return float(np.interp(np.log(lr), np.log(result.lrs), result.losses))


def note(result: RangeTestResult, lr: float) -> str:
    """What to know of a suggestion, if anything."""
    return ", past the lowest loss" if is_past_lowest(result, lr) else ""


def print_suggestions(result: RangeTestResult, suggestions: Suggestions, chosen: str) -> None:
    """The four lrs, and the loss at each."""
    table = Table(title=f"learning rate range test: {result.stopped} after {len(result.lrs)} steps")
    for heading in ("suggestion", "lr", "loss there"):
        table.add_column(heading)
    for name, lr in asdict(suggestions).items():
        style = "bold" if name == chosen else None
        table.add_row(name, f"{lr:.2e}", f"{loss_at(result, lr):.3f}{note(result, lr)}", style=style)
    Console(stderr=True).print(table)


def print_next(folder: Path, command: str) -> None:
    """Where the curve lies, and the command that trains with what it suggests."""
    console = Console(stderr=True)
    console.print(f"look at: {folder}/lr_range_test.png, .csv, .json", markup=False, soft_wrap=True)
    console.print(f"next:    {command}", markup=False, highlight=False, soft_wrap=True)
