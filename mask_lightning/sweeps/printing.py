"""The table of runs on the terminal."""

from __future__ import annotations

import sys
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

SHARES = ("score", "last")
COLOURS = {"finished": "green", "failed": "red", "interrupted": "yellow", "running": "cyan"}
WIDE = 240  # columns, where the table goes into a file or a pipe


def print_table(frame: pd.DataFrame, title: str, *, to_stderr: bool = False) -> None:
    """Print the rows of `to_frame`; the errors of failed runs below, where there is room for them."""
    console = _console(to_stderr)
    table = Table(title=escape(title), title_justify="left")
    shown = [str(column) for column in frame if column != "error"]
    for column in shown:
        number = pd.api.types.is_numeric_dtype(frame[column])
        table.add_column(_heading(column), justify="right" if number else "left", overflow="fold")
    for _, row in frame.iterrows():
        cells = [escape(_cell(column, row[column])) for column in shown]  # [mask, age] is not markup
        table.add_row(*cells, style=_style(row["status"]))
    console.print(table)
    for _, row in frame.iterrows():
        if "error" in frame and not pd.isna(row["error"]):
            name = f"job {row['job']}" if "job" in frame else row["folder"]
            console.print(f"{name}: {row['error']}", style="red", markup=False, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line on stderr."""
    _console(to_stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)


def _console(to_stderr: bool) -> Console:
    stream = sys.stderr if to_stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else WIDE)


def _heading(column: str) -> str:
    return {"photos_per_second": "photos/s"}.get(column, column.replace("_", " "))


def _style(status: str) -> str:
    return "" if status == "finished" else COLOURS.get(status, "")


def _cell(column: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if column in SHARES or column.endswith("_f1"):
        return f"{value:.4f}"
    if column in ("seconds", "job"):
        return f"{value:.0f}"
    if column == "photos_per_second":
        return f"{value:.1f}"
    return f"{value / 1e6:.2f} M" if column == "parameters" else str(value)
