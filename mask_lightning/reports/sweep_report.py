"""Output of a sweep: the table of its jobs on the terminal, summary.csv and summary.png.

Imports neither torch nor Lightning, because Hydra's callbacks and `compare` use it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mask_lightning.reports.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, literal, new_figure, save_figure
from mask_lightning.sweeps.table import to_frame, varied_overrides, write_summary

SCORE_COLUMNS = ("score", "last")
STATUS_COLOURS = {"finished": "", "failed": "red", "interrupted": "yellow", "running": "cyan"}
WIDTH = 240  # columns of the table if the output is a file or a pipe
GROUP_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED)
MAX_PANELS = 6
MAX_CATEGORIES = 8  # more distinct numbers than this are drawn on a numeric axis
DECADES_FOR_LOG = 1.5


def report_sweep(sweep: Path) -> None:
    """Write summary.csv and summary.png of the jobs so far, and print their table on stderr."""
    found = write_summary(sweep)
    if not found.rows:
        return
    options = varied_overrides(found.rows)
    frame = to_frame(found.rows, options)
    print_table(frame, str(sweep), to_stderr=True)
    scored = [row for row in found.rows if row.result and row.result.score is not None]
    if scored:
        assert scored[0].result is not None
        scores = [row.result.score if row.result else None for row in found.rows]
        save_figure(plot_sweep(options, scores, scored[0].result.monitor), sweep / "summary.png")
    for line in found.unreadable:
        print(line, file=sys.stderr)
    counts = frame["status"].value_counts()
    jobs = ", ".join(f"{count} {status}" for status, count in counts.items())
    print(f"{jobs}; look at: {sweep}/summary.csv" + (", summary.png" if scored else ""), file=sys.stderr)
    if (counts.index != "finished").any():
        print("to continue, repeat the command: finished jobs are skipped, failed jobs run again", file=sys.stderr)


def print_table(frame: pd.DataFrame, title: str, *, to_stderr: bool = False) -> None:
    """Print the rows of `to_frame` as a table, followed by the errors of failed runs."""
    stream = sys.stderr if to_stderr else sys.stdout
    console = Console(file=stream, width=None if stream.isatty() else WIDTH)
    table = Table(title=escape(title), title_justify="left")
    columns = [str(column) for column in frame if column != "error"]
    for column in columns:
        number = pd.api.types.is_numeric_dtype(frame[column])
        heading = "photos/s" if column == "photos_per_second" else column.replace("_", " ")
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for _, row in frame.iterrows():
        cells = [escape(_format_cell(column, row[column])) for column in columns]  # [mask, age] is not markup
        table.add_row(*cells, style=STATUS_COLOURS.get(row["status"], ""))
    console.print(table)
    for _, row in frame.iterrows():
        if "error" in frame and not pd.isna(row["error"]):
            name = f"job {row['job']}" if "job" in frame else row["folder"]
            console.print(f"{name}: {row['error']}", style="red", markup=False, highlight=False, soft_wrap=True)


def _format_cell(column: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if column in SCORE_COLUMNS or column.endswith("_f1"):
        return f"{value:.4f}"
    if column in ("seconds", "job"):
        return f"{value:.0f}"
    if column == "photos_per_second":
        return f"{value:.1f}"
    return f"{value / 1e6:.2f} M" if column == "parameters" else str(value)


def plot_sweep(options: pd.DataFrame, scores: Sequence[float | None], score: str) -> Figure:
    """Plot the score against each varied option: a point per job, the mean per value as a line.

    Jobs without a score are crosses below the points.

    Args:
        options: one row per job, one column per option, values as text; columns of numbers are recognised.
        scores: score of each job; None if it has none.
        score: name of the score.
    """
    values = pd.Series([math.nan if each is None else each for each in scores], options.index, dtype=float)
    if not len(options.columns):
        options = pd.DataFrame({"job": options.index.astype(str)}, options.index)
    options = options.iloc[:, :MAX_PANELS]
    figure = new_figure(4.2 * len(options.columns) + 0.6, 3.8)
    axes = figure.subplots(1, len(options.columns), sharey=True, squeeze=False)[0]
    colour_by, floor = _choose_colour_option(options), _height_of_crosses(values)
    for axis, name in zip(axes, options, strict=True):
        _draw_panel(axis, options, str(name), values, colour_by, floor)
    axes[0].set_ylabel(literal(score))
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), fontsize=8)
    return figure


def _choose_colour_option(options: pd.DataFrame) -> str | None:
    """Return the option with the fewest values, for the colours; None if none is suitable."""
    counts = options.nunique()
    fit = counts[counts <= len(GROUP_COLOURS)]
    return str(fit.idxmin()) if len(counts) > 1 and len(fit) else None


def _height_of_crosses(values: pd.Series[float]) -> float:
    low, high = values.min(), values.max()
    return 0.0 if math.isnan(low) else float(low - 0.1 * ((high - low) or 1))


def _draw_panel(
    axis: Axes, options: pd.DataFrame, name: str, values: pd.Series[float], colour_by: str | None, floor: float
) -> None:
    positions = _set_positions(axis, options[name])
    groups = {"jobs": options}
    if colour_by is not None:
        by_value = options.groupby(colour_by, sort=False, dropna=False)
        groups = {f"{colour_by}={value}": rows for value, rows in by_value}
    for colour, (label, rows) in zip(GROUP_COLOURS, groups.items(), strict=False):
        scored = rows.index[values[rows.index].notna() & positions[rows.index].notna()]
        axis.plot(positions[scored], values[scored], "o", color=colour, alpha=0.8, label=literal(label))
    means = values.groupby(positions).mean().dropna()
    if 1 < len(means) < values.notna().sum():
        axis.plot(means.index, means, "-", color=GREY, lw=1, zorder=0, label="mean")
    failed = values.index[values.isna() & positions.notna()]
    if len(failed):
        axis.plot(positions[failed], [floor] * len(failed), "x", color=RED, label="without score", clip_on=False)
    axis.set_xlabel(literal(name))
    axis.grid(alpha=0.25)


def _set_positions(axis: Axes, column: pd.Series[str]) -> pd.Series[float]:
    """Set up the x axis and return the position of each value, NaN for a missing one.

    Many distinct numbers are drawn on a linear or log axis, everything else as equally spaced categories.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    numeric = bool(numbers.notna().eq(column.notna()).all())
    if numeric and numbers.nunique() > MAX_CATEGORIES:
        if numbers.min() > 0 and math.log10(numbers.max() / numbers.min()) > DECADES_FOR_LOG:
            axis.set_xscale("log")
        return numbers
    values = sorted(column.dropna().unique(), key=lambda value: float(value) if numeric else 0.0)
    rotation = 30 if max(map(len, values)) > 8 else 0
    axis.set_xticks(range(len(values)), [literal(value) for value in values], rotation=rotation, fontsize=8)
    axis.set_xlim(-0.5, len(values) - 0.5)
    return column.map({value: i for i, value in enumerate(values)}).astype(float)
