"""What a multirun leaves in its folder: summary.csv, summary.png, and a table on the terminal."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mask_lightning.reports.figures import save_figure
from mask_lightning.reports.sweep import plot_sweep
from mask_lightning.sweeps.printing import print_table, say
from mask_lightning.sweeps.table import Found, Row, collect_jobs, to_frame, varied_overrides
from mask_lightning.utils.files import write_atomically


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """The table as CSV, atomically."""
    write_atomically(path, frame.to_csv(index=False).encode())


def write_summary(sweep: Path) -> Found:
    """summary.csv of the jobs so far, in the order of their numbers."""
    found = collect_jobs(sweep)
    if found.rows:
        write_csv(to_frame(found.rows, varied_overrides(found.rows)), sweep / "summary.csv")
    return found


def report(sweep: Path) -> None:
    """summary.csv and summary.png of the jobs so far, the table on stderr, and how many failed."""
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
        say(line)
    counts = frame["status"].value_counts()
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    say(f"{told}; look at: {sweep}/summary.csv" + (", summary.png" if scored else ""))
    if (counts.index != "finished").any():
        say("the same command again goes on: what is finished is skipped, failed jobs are repeated")


def failed(sweep: Path) -> list[Row]:
    """The jobs of the sweep that failed."""
    return [row for row in collect_jobs(sweep).rows if row.status == "failed"]
