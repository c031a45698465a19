"""Table of runs and jobs: scores, cost, status, and the options that differ."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mask_lightning.errors import RunFolderError
from mask_lightning.metrics.names import lower_is_better
from mask_lightning.metrics.scores import JOINT, MAIN_METRIC, MEAN
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.settings.identity import added_defaults, flatten
from mask_lightning.sweeps.records import JobRecord, find_runs, read_record
from mask_lightning.utils.files import write_atomically

MISSING = object()  # value of an option that a run does not have
FIRST = ("status", "score", "last")
COST = ("seconds", "photos_per_second", "parameters")
# Options without influence on the result; the monitor is a column of its own.
HIDDEN_OPTIONS = frozenset({"outputs", "resume", "inspect", "skip_done", "trainer.progress", "checkpoint.monitor"})


@dataclass(frozen=True)
class Row:
    """A run, or a job that failed before its run started.

    Attributes:
        status: status of result.json, but "interrupted" instead of "running" if no process trains the run.
        folder: run folder; without a run, the folder of the job's log.
        result: content of result.json; None without a run.
        options: config as dotted name -> value; without a run, the overrides of the job.
        job: record of the job; None for a run outside a sweep.
        error: why it failed, if it failed.
    """

    status: str
    folder: Path
    result: RunResult | None = None
    options: dict[str, Any] = field(default_factory=dict)
    job: JobRecord | None = None
    error: str | None = None


@dataclass(frozen=True)
class Found:
    """Rows of the table, and an error line for each unreadable record."""

    rows: list[Row]
    unreadable: list[str]


def collect_runs(places: Iterable[Path]) -> Found:
    """Collect all runs below `places`, including runs elsewhere that jobs of a sweep skipped or resumed.

    Jobs that failed before their run started are included, once per combination of overrides.
    """
    places = list(places)
    rows: dict[Path, Row] = {}
    early: dict[tuple[str, ...], Row] = {}
    unreadable: list[str] = []
    for folder in find_runs(places):
        _add_run(folder, rows, unreadable)
    for path in sorted(path for place in places for path in place.rglob("jobs/*.json")):
        job = _read_job(path, unreadable)
        if job is None:
            continue
        folder = _folder_of(job, path.parents[1])
        if job.action is None:
            early[tuple(job.overrides)] = _row_without_run(job, folder)
        elif folder.resolve() not in rows and (folder / "result.json").exists():
            _add_run(folder, rows, unreadable)
    return Found([*rows.values(), *(row for row in early.values() if row.error)], unreadable)


def collect_jobs(sweep: Path) -> Found:
    """Collect the jobs of one sweep in order, with the runs that they trained, resumed or skipped."""
    rows: list[Row] = []
    unreadable: list[str] = []
    for path in sorted((sweep / "jobs").glob("*.json"), key=lambda path: (len(path.stem), path.stem)):
        job = _read_job(path, unreadable)
        if job is None:
            continue
        folder = _folder_of(job, sweep)
        found: dict[Path, Row] = {}
        if (folder / "result.json").exists():
            _add_run(folder, found, unreadable, job)
        rows.extend(found.values() or [_row_without_run(job, folder)])
    return Found(rows, unreadable)


def failed_jobs(sweep: Path) -> list[Row]:
    """Return the failed jobs of a sweep."""
    return [row for row in collect_jobs(sweep).rows if row.status == "failed"]


def write_summary(sweep: Path) -> Found:
    """Write summary.csv of the jobs so far, in order, and return them."""
    found = collect_jobs(sweep)
    if found.rows:
        write_csv(to_frame(found.rows, varied_overrides(found.rows)), sweep / "summary.csv")
    return found


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write the table as CSV, atomically."""
    write_atomically(path, frame.to_csv(index=False).encode())


def _folder_of(job: JobRecord, sweep: Path) -> Path:
    return Path(os.path.normpath(sweep / job.folder))


def _read_job(path: Path, unreadable: list[str]) -> JobRecord | None:
    try:
        return read_record(path)
    except RunFolderError as error:
        unreadable.append(str(error))
        return None


def _add_run(folder: Path, rows: dict[Path, Row], unreadable: list[str], job: JobRecord | None = None) -> None:
    run = RunFolder(folder)
    try:
        result, options = run.read_result(), flatten(run.read_config())
    except RunFolderError as error:
        unreadable.append(str(error))
        return
    status: str = result.status
    if status == "running" and not run.is_held():
        status = "interrupted"
    reason = (job.error if job else None) or result.error
    rows[folder.resolve()] = Row("failed" if job and job.error else status, folder, result, options, job, reason)


def _row_without_run(job: JobRecord, folder: Path) -> Row:
    status = "failed" if job.error else "finished" if job.done else "interrupted"
    options = {name: yaml.safe_load(value) for name, value in _split_overrides(job).items()}
    return Row(status, folder, None, options, job, job.error)


def _split_overrides(job: JobRecord) -> dict[str, str]:
    return dict(override.lstrip("+").partition("=")[::2] for override in job.overrides)


def to_frame(rows: Sequence[Row], options: pd.DataFrame) -> pd.DataFrame:
    """Build the table: one row per run with status, scores, options, cost and folder.

    `score` is the monitored metric of best.ckpt, `last` that of the last validation, and each task has a column with
    its macro F1 at best.ckpt. Columns that are empty or the same for all runs are left out; `score_of` tells if the
    score is that of the combined class or the mean of the tasks.

    Args:
        rows: runs and jobs.
        options: one row per run, one column per shown option.
    """
    frame = pd.DataFrame([_cells(row) for row in rows], index=options.index)
    tasks = [column for column in frame if str(column).endswith("_f1")]
    least = {"monitor": 1, "score_of": 1, "error": 0}  # different values that are not worth a column
    optional = [name for name, count in least.items() if name in frame and frame[name].nunique() > count]
    job = ["job", "action"] if all(row.job for row in rows) else []  # only within one sweep
    if not any(row.result for row in rows):  # jobs that train nothing
        return pd.concat([frame[[*job[:1], "status"]], options, frame[[*optional, "folder"]]], axis=1)
    first = frame[[*job, *FIRST, *tasks]]
    return pd.concat([first, options, frame[[*COST, *optional, "folder"]]], axis=1)


def _cells(row: Row) -> dict[str, Any]:
    result = row.result
    cells: dict[str, Any] = {
        "job": row.job.number if row.job else None,
        "action": row.job.action if row.job else None,
        "status": row.status,
        "score": result.score if result else None,
        "last": result.last.get(result.monitor) if result else None,
        "monitor": result.monitor if result else None,
        "score_of": (result.score_of or None) if result else None,
        "error": row.error,
        "folder": str(row.folder),
    }
    if result is None:
        return cells | dict.fromkeys(COST)
    side = result.monitor.split("/")[0]
    matches = {name: re.fullmatch(rf"{side}/([^/]+)/{MAIN_METRIC}", name) for name in result.best}
    cells |= {f"{match[1]}_f1": result.best[name] for name, match in matches.items() if match}
    return cells | {name: getattr(result, name) for name in COST}


def differing_options(rows: Sequence[Row]) -> pd.DataFrame:
    """Return the options that differ between the runs, as text.

    If several options have the same values in every run, such as `seed` and `data.split_seed`, only the first is kept.
    """
    known = dict.fromkeys(name for row in rows if row.result for name in row.options if name not in HIDDEN_OPTIONS)
    columns: dict[str, list[str | None]] = {}
    seen: list[list[str | None]] = []
    defaults = added_defaults()
    for name in known:
        recorded = [row.options.get(name, defaults.get(name, MISSING)) for row in rows]
        values = [None if value is MISSING else _text(value) for value in recorded]
        of_runs = [value for value, row in zip(values, rows, strict=True) if row.result]
        distinct = {value for value in values if value is not None} | ({None} if None in of_runs else set())
        if len(distinct) > 1 and of_runs not in seen:
            columns[name] = values
            seen.append(of_runs)
    return pd.DataFrame(columns, index=range(len(rows)), dtype=object)


def varied_overrides(rows: Sequence[Row]) -> pd.DataFrame:
    """Return the overrides that differ between the jobs of a sweep, as typed."""
    overrides = [_split_overrides(row.job) if row.job else {} for row in rows]
    names = list(dict.fromkeys(name for options in overrides for name in options))
    columns = {name: [options.get(name) for options in overrides] for name in names}
    varied = {name: values for name, values in columns.items() if len(set(values)) > 1}
    return pd.DataFrame(varied, index=range(len(rows)), dtype=object)


def best_first(rows: Sequence[Row]) -> list[int]:
    """Return the indices of the rows, sorted by score, the best first and rows without a score last."""

    def key(i: int) -> tuple[bool, float]:
        row = rows[i]
        result = row.result
        if result is None or result.score is None or math.isnan(result.score):
            return True, 0.0
        return False, result.score if lower_is_better(result.monitor) else -result.score

    return sorted(range(len(rows)), key=key)


def warn_of_means(rows: Iterable[Row]) -> str | None:
    """Return a warning if some scores are of the combined class and others the mean of the tasks; None if not."""
    counts = Counter(row.result.score_of for row in rows if row.result and row.result.score is not None)
    if not (counts[JOINT] and counts[MEAN]):
        return None
    return (
        f"the score of {counts[JOINT]} runs is of the combined class, that of {counts[MEAN]} is the {MEAN}, as too few "
        "of their held-out photos are labelled for all tasks: compare the tasks' scores"
    )


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_text(each) for each in value) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
