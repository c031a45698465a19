"""Records of the jobs of a sweep, and earlier runs that make a job unnecessary.

Each job has a file `<sweep>/jobs/<number>.json`, also if it failed before training or was skipped. Records are files
because a launcher may run jobs in other processes or on other machines.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from mask_lightning.errors import RunFolderError
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.utils.files import write_json

Action = Literal["trained", "resumed", "skipped", "elsewhere"]


@dataclass(frozen=True)
class JobRecord:
    """One job of a sweep.

    Attributes:
        number: number of the job in its sweep, starts at 0.
        overrides: overrides of this job, as typed.
        folder: run folder relative to the sweep (the run of a skipped job is in another sweep); before there is a run,
            the folder of the job's log.
        action: "trained", "resumed", "skipped" because a run of the same config on the same photos is finished, or
            "elsewhere" because another process trains it; None until this is decided.
        error: why the job failed, in one line.
        can_be_mended: True if the user can correct the error, False if it is a bug.
        again: True if a cluster requeued the job after it had started.
        done: True if the job ended without an error.
    """

    number: int
    overrides: Sequence[str]
    folder: str
    action: Action | None = None
    error: str | None = None
    can_be_mended: bool = False
    again: bool = False
    done: bool = False


def in_sweep() -> bool:
    """Return True if this process runs a job of a multirun."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


@contextmanager
def record_job() -> Iterator[None]:
    """Record the start and the successful end of a job; does nothing outside a multirun."""
    if not in_sweep():
        yield
        return
    job = HydraConfig.get()
    number, folder = int(job.job.num), os.path.relpath(job.runtime.output_dir, sweep_folder())
    again = _path(sweep_folder(), number).exists()  # `clear_records` has removed the records of earlier starts
    _write(sweep_folder(), JobRecord(number, list(job.overrides.task), folder, again=again))
    yield
    update_record(done=True)


def record_failure(error: Exception, text: str, *, can_be_mended: bool) -> None:
    """Record why a job failed, and write the traceback into its log file; does nothing outside a multirun.

    Args:
        error: the exception.
        text: the error in one line.
        can_be_mended: True if the user can correct the error.
    """
    if not in_sweep():
        return
    origin = __name__, logging.ERROR, __file__, 0, "the job failed", None
    entry = logging.LogRecord(*origin, (type(error), error, error.__traceback__))
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):  # the terminal shows one line only
            handler.handle(entry)
    with suppress(OSError, RunFolderError):  # a full disk, which made the job fail, must not end the sweep
        update_record(error=text, can_be_mended=can_be_mended)


def update_record(**changes: Any) -> None:
    """Update the record of the current job; `folder` is relative to the working directory."""
    sweep, number = sweep_folder(), int(HydraConfig.get().job.num)
    if "folder" in changes:
        changes["folder"] = os.path.relpath(changes["folder"], sweep)
    _write(sweep, replace(read_record(_path(sweep, number)), **changes))


def was_requeued() -> bool:
    """Return True if a cluster requeued the current job after it had started."""
    return read_record(_path(sweep_folder(), int(HydraConfig.get().job.num))).again


def sweep_folder() -> Path:
    """Return the folder of the sweep of the current job."""
    return Path(HydraConfig.get().sweep.dir)


def clear_records(sweep: Path) -> None:
    """Remove the job records of earlier starts in the same folder; their runs stay."""
    for path in (sweep / "jobs").glob("*.json"):
        path.unlink()


def read_record(path: Path) -> JobRecord:
    """Read a record.

    Raises:
        RunFolderError: the file cannot be read.
    """
    try:
        values = json.loads(path.read_text())
        known = {entry.name for entry in fields(JobRecord)}
        return JobRecord(**{key: value for key, value in values.items() if key in known})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RunFolderError(f"cannot read the job record {path} ({error}); remove it") from error


def _path(sweep: Path, number: int) -> Path:
    return sweep / "jobs" / f"{number}.json"


def _write(sweep: Path, record: JobRecord) -> None:
    path = _path(sweep, record.number)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(record))


@dataclass(frozen=True)
class EarlierRun:
    """Existing run with the config of a job, and what to do with it."""

    folder: RunFolder
    result: RunResult
    action: Action = "skipped"


def find_runs(places: Iterable[Path]) -> list[Path]:
    """Find all folders below `places` with a result.json, each once, sorted within a place.

    Hidden folders are skipped, and folders with an empty result.json, where a run is about to start.
    """
    found = {
        record.parent.resolve(): record.parent
        for place in places
        for record in sorted(place.rglob("result.json"))
        if not any(part.startswith(".") and part.strip(".") for part in record.relative_to(place).parts)
        and record.stat().st_size
    }
    return list(found.values())


def find_earlier_runs(places: Iterable[Path], config_hash: str) -> list[EarlierRun]:
    """Find the runs below `places` with this config hash; unreadable ones are skipped."""
    found = []
    for path in find_runs(places):
        try:
            result = RunFolder(path).read_result()
        except RunFolderError:
            continue
        if result.config_hash == config_hash:
            found.append(EarlierRun(RunFolder(path), result))
    return found


def choose_earlier_run(runs: Sequence[EarlierRun], fingerprint: str) -> EarlierRun | None:
    """Choose a run on the same photos that makes training unnecessary or can be resumed; None if there is none.

    A finished run comes first, then one that another process trains, then the interrupted or pruned run with the newest
    last checkpoint. Failed runs and runs interrupted before their first checkpoint are never chosen.
    """
    same = [run for run in runs if run.result.data.get("fingerprint") == fingerprint]
    finished = [run for run in same if run.result.status == "finished"]
    if finished:
        return finished[0]
    for run in same:
        if run.folder.is_held():
            return EarlierRun(run.folder, run.result, "elsewhere")
    resumable = ("running", "interrupted", "pruned")
    interrupted = [run for run in same if run.result.status in resumable and run.folder.last.is_file()]
    if not interrupted:
        return None
    newest = max(interrupted, key=lambda run: run.folder.last.stat().st_mtime)
    return EarlierRun(newest.folder, newest.result, "resumed")
