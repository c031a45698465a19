"""Score against what a sweep varied."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mask_lightning.reports.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, new_figure

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED)
MOST_PANELS = 6
MOST_SIDE_BY_SIDE = 8
DECADES_FOR_LOG = 1.5


def plot_sweep(options: pd.DataFrame, scores: Sequence[float | None], score: str) -> Figure:
    """One panel per option: a point per job, the mean of each value as a line, failed jobs as crosses below.

    Args:
        options: a row per job, a column per option, values as text; numbers among them are told by their look.
        scores: of the jobs; None for those that have none.
        score: what is scored.
    """
    values = pd.Series([math.nan if each is None else each for each in scores], options.index, dtype=float)
    if not len(options.columns):
        options = pd.DataFrame({"job": options.index.astype(str)}, options.index)
    options = options.iloc[:, :MOST_PANELS]
    figure = new_figure(4.2 * len(options.columns) + 0.6, 3.8)
    axes = figure.subplots(1, len(options.columns), sharey=True, squeeze=False)[0]
    by, floor = _colouring(options), _floor(values)
    for axis, name in zip(axes, options, strict=True):
        _panel(axis, options, str(name), values, by, floor)
    axes[0].set_ylabel(score)
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), fontsize=8)
    return figure


def _colouring(options: pd.DataFrame) -> str | None:
    """The option with the fewest values that colours can tell apart, where there are several options."""
    counts = options.nunique()
    fit = counts[counts <= len(COLOURS)]
    return str(fit.idxmin()) if len(counts) > 1 and len(fit) else None


def _panel(
    axis: Axes, options: pd.DataFrame, name: str, values: pd.Series[float], by: str | None, floor: float
) -> None:
    at = _positions(axis, options[name])
    groups = {"jobs": options}
    if by is not None:
        groups = {f"{by}={value}": rows for value, rows in options.groupby(by, sort=False, dropna=False)}
    for colour, (label, rows) in zip(COLOURS, groups.items(), strict=False):
        scored = rows.index[values[rows.index].notna() & at[rows.index].notna()]
        axis.plot(at[scored], values[scored], "o", color=colour, alpha=0.8, label=label)
    means = values.groupby(at).mean().dropna()
    if 1 < len(means) < values.notna().sum():
        axis.plot(means.index, means, "-", color=GREY, lw=1, zorder=0, label="mean")
    failed = values.index[values.isna() & at.notna()]
    if len(failed):
        axis.plot(at[failed], [floor] * len(failed), "x", color=RED, label="without a score", clip_on=False)
    axis.set_xlabel(name)
    axis.grid(alpha=0.25)


def _positions(axis: Axes, column: pd.Series[str]) -> pd.Series[float]:
    """Where the values stand on the axis: few side by side, many numbers as they are; NaN where there is none."""
    numbers = pd.to_numeric(column, errors="coerce")
    numeric = bool(numbers.notna().eq(column.notna()).all())
    if numeric and numbers.nunique() > MOST_SIDE_BY_SIDE:
        if numbers.min() > 0 and math.log10(numbers.max() / numbers.min()) > DECADES_FOR_LOG:
            axis.set_xscale("log")
        return numbers
    values = sorted(column.dropna().unique(), key=lambda value: float(value) if numeric else 0.0)
    axis.set_xticks(range(len(values)), values, rotation=30 if max(map(len, values)) > 8 else 0, fontsize=8)
    axis.set_xlim(-0.5, len(values) - 0.5)
    return column.map({value: i for i, value in enumerate(values)}).astype(float)


def _floor(values: pd.Series[float]) -> float:
    low, high = values.min(), values.max()
    return 0.0 if math.isnan(low) else float(low - 0.1 * ((high - low) or 1))
