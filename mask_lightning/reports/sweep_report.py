"""Output of a sweep: the table of its jobs on the terminal, summary.csv and summary.png.

Imports neither torch nor Lightning, because Hydra's callbacks and `compare` use it.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from mask_lightning.reports.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, literal, new_figure, save_figure
from mask_lightning.reports.study_plots import save_study_plots
from mask_lightning.settings.multirun import SearchSettings
from mask_lightning.sweeps.paired import PairedDifference
from mask_lightning.sweeps.table import Row, best_first, to_frame, varied_overrides, write_summary

SCORE_COLUMNS = ("score", "last")
STATUS_COLOURS = {"finished": "", "pruned": "dim", "failed": "red", "interrupted": "yellow", "running": "cyan"}
WIDTH = 240  # columns of the table if the output is a file or a pipe
EXPENDABLE = ("parameters", "photos_per_second", "last", "seconds", "monitor", "score_of")  # columns, the first to go
GROUP_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED)
MAX_PANELS = 6
MAX_CATEGORIES = 8  # more distinct numbers than this are drawn on a numeric axis
DECADES_FOR_LOG = 1.5


def report_sweep(sweep: Path, search: SearchSettings | None = None) -> None:
    """Write summary.csv and the figures of the jobs so far, and print their table on stderr.

    Args:
        sweep: folder of the sweep.
        search: options of Optuna's search, which adds the figures of its study; None without.
    """
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
    figures = ["summary.png"] if scored else []
    if search is not None:
        figures += save_study_plots(search, sweep)
    for line in found.unreadable:
        print(line, file=sys.stderr)
    counts = frame["status"].value_counts()
    jobs = ", ".join(f"{count} {status}" for status, count in counts.items())
    print(f"{jobs}; look at: {sweep}/{', '.join(['summary.csv', *figures])}", file=sys.stderr)
    if not counts.index.isin(["finished", "pruned"]).all():
        print("to continue, repeat the command: finished jobs are skipped, failed jobs run again", file=sys.stderr)
    elif following := next_command(sweep, found.rows):
        print(f"next:    python -m mask_lightning.{following}", file=sys.stderr)


def next_command(sweep: Path, rows: Sequence[Row]) -> str | None:
    """Return the command that follows a sweep: what its ensemble is for, otherwise a report on its best run.

    Args:
        sweep: folder of the sweep.
        rows: its jobs, all of them finished or pruned.

    Returns:
        The command without `python -m mask_lightning.`; None if no run can be called the best.
    """
    ensemble = rows[0].options.get("ensemble")
    best = rows[best_first(rows)[0]]
    monitor = best.result.monitor if best.result is not None and best.result.score is not None else ""
    if ensemble == "folds":
        return f"suspects runs={sweep}"
    if ensemble:
        kind = " kind=soft" if ensemble == "seeds" else ""
        return f"vote runs={sweep}{kind}{'' if monitor.startswith('val/') else ' data.root=PHOTOS'}"
    return f"report ckpt={best.folder}" if monitor else None


def print_table(frame: pd.DataFrame, title: str, *, to_stderr: bool = False) -> None:
    """Print the rows of `to_frame` as a table, followed by the errors of failed runs.

    On a narrow terminal the columns of EXPENDABLE are left out one by one, and named below the table.
    """
    console = _console(to_stderr=to_stderr)
    columns = [str(column) for column in frame if column != "error"]
    expendable = [column for column in EXPENDABLE if column in columns]
    expendable += [column for column in reversed(columns) if column.endswith("_f1")]
    left_out: list[str] = []
    table = _runs_table(frame, columns, title)
    while expendable and _width(table, console) > console.width:
        left_out.append(expendable.pop(0))
        columns.remove(left_out[-1])
        table = _runs_table(frame, columns, title)
    if _width(table, console) > console.width:
        table = _runs_table(frame, columns, title, narrow=True)
    console.print(table)
    if left_out:
        console.print(f"left out, as the terminal has {console.width} columns: {', '.join(left_out)}", highlight=False)
    for _, row in frame.iterrows():
        if "error" in frame and not pd.isna(row["error"]):
            name = f"job {row['job']}" if "job" in frame else row["folder"]
            console.print(f"{name}: {row['error']}", style="red", markup=False, highlight=False, soft_wrap=True)


def _console(*, to_stderr: bool = False) -> Console:
    """Console of the width of the terminal, or of $COLUMNS; of WIDTH if the output is a file or a pipe."""
    stream = sys.stderr if to_stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() or "COLUMNS" in os.environ else WIDTH)


def _width(table: Table, console: Console) -> int:
    """Return the width that the table needs without breaking a cell."""
    return Measurement.get(console, console.options.update(max_width=10 * WIDTH), table).maximum


def _runs_table(frame: pd.DataFrame, columns: Sequence[str], title: str, *, narrow: bool = False) -> Table:
    """Build the table of runs; a narrow one breaks headings between words, and folders anywhere."""
    table = Table(title=escape(title), title_justify="left")
    for column in columns:
        number = pd.api.types.is_numeric_dtype(frame[column])
        heading = "photos/s" if column == "photos_per_second" else column.replace("_", " ")
        heading = heading.replace(".", ". ") if narrow else heading
        short = narrow and column in ("status", *SCORE_COLUMNS)
        table.add_column(heading, justify="right" if number else "left", overflow="fold", no_wrap=short)
    for _, row in frame.iterrows():
        cells = [escape(_format_cell(column, row[column])) for column in columns]  # [mask, age] is not markup
        table.add_row(*cells, style=STATUS_COLOURS.get(row["status"], ""))
    return table


def print_paired(
    differences: Sequence[PairedDifference], baseline: str, scores: Mapping[int, float], metric: str
) -> None:
    """Print a row per configuration: score, difference from the baseline, standard error, wins, interval over people.

    Args:
        differences: of the configurations, in the order of the rows.
        baseline: name of the baseline.
        scores: seed -> score of the baseline.
        metric: key of the scores.
    """
    frame = paired_frame(differences, baseline, scores)
    table = Table(title=escape(f"{metric}: difference from {baseline}, paired by seed"), title_justify="left")
    people = frame["low"].notna().any()
    headings = ["configuration", "seeds", "score", "difference", "SE", "wins", *(["people 95 %"] if people else [])]
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "configuration" else "right", overflow="fold")
    for row in frame.to_dict("records"):
        own = row["difference"] is None or pd.isna(row["difference"])
        error = "" if pd.isna(row["standard_error"]) else f"{row['standard_error']:.4f}"
        interval = "" if pd.isna(row["low"]) else f"[{row['low']:+.3f}, {row['high']:+.3f}]"
        cells = [row["configuration"], str(row["seeds"]), f"{row['score']:.4f}"]
        cells += ["", "", ""] if own else [f"{row['difference']:+.4f}", error, f"{row['wins']:.0f}/{row['seeds']}"]
        table.add_row(*map(escape, [*cells, *([interval] if people else [])]), style="dim" if own else "")
    console = _console()
    console.print(table)
    text = "SE: standard error of the mean difference over seeds."
    text += " people 95 %: bootstrap over people, seeds fixed." if people else ""
    console.print(text, highlight=False)


def paired_frame(differences: Sequence[PairedDifference], baseline: str, scores: Mapping[int, float]) -> pd.DataFrame:
    """Build the table of `print_paired`: the baseline first, without a difference."""
    columns = ("configuration", "seeds", "score", "difference", "standard_error", "wins", "low", "high")
    rows: list[dict[str, Any]] = [
        {"configuration": baseline, "seeds": len(scores), "score": mean(scores.values())},
        *(
            {
                "configuration": each.name,
                "seeds": len(each.scores),
                "score": mean(each.scores.values()),
                "difference": each.mean,
                "standard_error": each.standard_error,
                "wins": each.wins,
                "low": each.people.low if each.people else None,
                "high": each.people.high if each.people else None,
            }
            for each in differences
        ),
    ]
    return pd.DataFrame(rows, columns=list(columns))


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
