"""Runs and jobs on disk -> one table: scores, cost, status, and the options that differ."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mask_lightning.errors import RunFolderError
from mask_lightning.metrics.names import lower_is_better
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.settings.identity import flatten
from mask_lightning.sweeps.earlier import find_runs
from mask_lightning.sweeps.records import JobRecord, read_record

FIRST = ("status", "score", "last")
COST = ("seconds", "photos_per_second", "parameters")
# They say nothing about a run; the monitor is a column of its own.
UNSHOWN = frozenset({"outputs", "resume", "inspect", "skip_done", "trainer.progress", "checkpoint.monitor"})


@dataclass(frozen=True)
class Row:
    """One run, or a job that never became one.

    Attributes:
        status: as in result.json, but "interrupted" for one that nobody trains any more.
        folder: of the run; where there is none, of the job's log.
        result: its record; None where there is none.
        options: dotted name -> value of its config; of a job without a run, what was typed.
        job: the sweep's record of it; None for a run outside the sweep.
        error: why it failed.
    """

    status: str
    folder: Path
    result: RunResult | None = None
    options: dict[str, Any] = field(default_factory=dict)
    job: JobRecord | None = None
    error: str | None = None


@dataclass(frozen=True)
class Found:
    """Rows, and a line for each record that could not be read."""

    rows: list[Row]
    unreadable: list[str]


def collect_runs(places: Iterable[Path]) -> Found:
    """Every run below the places, and every job there that failed before it became a run, by what was typed once.

    Jobs of sweeps that point to a run elsewhere (skipped or resumed there) bring that run along, once.
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
            early[tuple(job.overrides)] = _without_run(job, folder)
        elif folder.resolve() not in rows and (folder / "result.json").exists():
            _add_run(folder, rows, unreadable)
    return Found([*rows.values(), *(row for row in early.values() if row.error)], unreadable)


def collect_jobs(sweep: Path) -> Found:
    """The jobs of one sweep in their order, with the runs that they trained, resumed or found."""
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
        rows.extend(found.values() or [_without_run(job, folder)])
    return Found(rows, unreadable)


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


def _without_run(job: JobRecord, folder: Path) -> Row:
    status = "failed" if job.error else "finished" if job.done else "interrupted"
    options = {name: yaml.safe_load(value) for name, value in _typed(job).items()}
    return Row(status, folder, None, options, job, job.error)


def _typed(job: JobRecord) -> dict[str, str]:
    return dict(override.lstrip("+").partition("=")[::2] for override in job.overrides)


def to_frame(rows: Sequence[Row], options: pd.DataFrame) -> pd.DataFrame:
    """A row per run: what it is, its scores, its cost, `options` (one row per run too), and where it lies.

    `score` is the monitored metric of best.ckpt, `last` that of the last validation; one column per task holds its
    macro F1 at best.ckpt. Columns that say the same of every run, or nothing, are left out.
    """
    frame = pd.DataFrame([_cells(row) for row in rows], index=options.index)
    tasks = [column for column in frame if str(column).endswith("_f1")]
    told = [name for name in ("monitor", "error") if name in frame and frame[name].nunique() > (name == "monitor")]
    job = ["job", "action"] if all(row.job for row in rows) else []  # in a comparison they say nothing
    first = frame[[*job, *FIRST, *tasks]]
    return pd.concat([first, options, frame[[*COST, *told, "folder"]]], axis=1)


def _cells(row: Row) -> dict[str, Any]:
    result = row.result
    cells: dict[str, Any] = {
        "job": row.job.number if row.job else None,
        "action": row.job.action if row.job else None,
        "status": row.status,
        "score": result.score if result else None,
        "last": result.last.get(result.monitor) if result else None,
        "monitor": result.monitor if result else None,
        "error": row.error,
        "folder": str(row.folder),
    }
    if result is None:
        return cells | dict.fromkeys(COST)
    side = result.monitor.split("/")[0]
    matches = {name: re.fullmatch(rf"{side}/([^/]+)/f1", name) for name in result.best}
    cells |= {f"{match[1]}_f1": result.best[name] for name, match in matches.items() if match}
    return cells | {name: getattr(result, name) for name in COST}


def differing_options(rows: Sequence[Row]) -> pd.DataFrame:
    """The options of the configs that are not the same in all runs, as text.

    Of options that are alike in every run, such as `data.split_seed` that follows `seed`, only the first stands.
    """
    known = dict.fromkeys(name for row in rows if row.result for name in row.options if name not in UNSHOWN)
    columns: dict[str, list[str | None]] = {}
    seen: list[list[str | None]] = []
    for name in known:
        values = [_text(row.options[name]) if name in row.options else None for row in rows]
        of_runs = [value for value, row in zip(values, rows, strict=True) if row.result]
        told = {value for value in values if value is not None} | ({None} if None in of_runs else set())
        if len(told) > 1 and of_runs not in seen:
            columns[name] = values
            seen.append(of_runs)
    return pd.DataFrame(columns, index=range(len(rows)), dtype=object)


def varied_overrides(rows: Sequence[Row]) -> pd.DataFrame:
    """What was typed differently for the jobs of a sweep, as text: the keys as people know them."""
    typed = [_typed(row.job) if row.job else {} for row in rows]
    names = list(dict.fromkeys(name for options in typed for name in options))
    columns = {name: [options.get(name) for options in typed] for name in names}
    varied = {name: values for name, values in columns.items() if len(set(values)) > 1}
    return pd.DataFrame(varied, index=range(len(rows)), dtype=object)


def ranking(rows: Sequence[Row]) -> list[int]:
    """Positions of the rows, the best score first, those without one last."""

    def key(i: int) -> tuple[bool, float]:
        row = rows[i]
        result = row.result
        if result is None or result.score is None or math.isnan(result.score):
            return True, 0.0
        return False, result.score if lower_is_better(result.monitor) else -result.score

    return sorted(range(len(rows)), key=key)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_text(each) for each in value) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
