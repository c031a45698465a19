"""The record of a sweep's job, `<sweep>/jobs/<number>.json`: also of one that failed early or was skipped.

Records lie on disk because a launcher may run jobs in other processes, or on other machines.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from mask_lightning.errors import RunFolderError
from mask_lightning.utils.files import write_json

Action = Literal["trained", "resumed", "skipped", "elsewhere"]


@dataclass(frozen=True)
class JobRecord:
    """One job of a sweep.

    Attributes:
        number: of the job in its sweep, from 0.
        overrides: what was typed, for this job.
        folder: the run's, from the sweep's folder (a skipped job's lies in another sweep); before there is a run, that
            of the job's log.
        action: what was done: "trained" anew, "resumed", "skipped" since a run of the same config on the same photos
            is finished, or found in training "elsewhere"; None before that is known.
        error: why it failed, in one line; can_be_mended: by the user, or else it is a bug.
        again: whether it had begun before, and a cluster queued it again.
        done: whether it came to its end without an error.
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
    """Whether this process is in a job of a multirun."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


@contextmanager
def recorded() -> Iterator[None]:
    """Around a job: in a multirun, write down that it begins, and that it came to its end."""
    if not in_sweep():
        yield
        return
    job = HydraConfig.get()
    number, folder = int(job.job.num), os.path.relpath(job.runtime.output_dir, sweep_folder())
    again = _path(sweep_folder(), number).exists()  # of an earlier start, `clear` has forgotten it
    _write(sweep_folder(), JobRecord(number, list(job.overrides.task), folder, again=again))
    yield
    note(done=True)


def note_failure(error: Exception, text: str, *, can_be_mended: bool) -> None:
    """In a multirun, write down in one line why the job failed, and the traceback into its log file."""
    if not in_sweep():
        return
    where = __name__, logging.ERROR, __file__, 0, "the job failed", None
    entry = logging.LogRecord(*where, (type(error), error, error.__traceback__))
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):  # on the terminal one line is enough
            handler.handle(entry)
    with suppress(OSError, RunFolderError):  # a full disk is why it failed, and must not end the sweep
        note(error=text, can_be_mended=can_be_mended)


def note(**changes: Any) -> None:
    """Write down more about the job that this process is in; `folder` is a path as seen from here."""
    sweep, number = sweep_folder(), int(HydraConfig.get().job.num)
    if "folder" in changes:
        changes["folder"] = os.path.relpath(changes["folder"], sweep)
    _write(sweep, replace(read_record(_path(sweep, number)), **changes))


def is_again() -> bool:
    """Whether the job that this process is in had begun before: a cluster took its machine, and queued it again."""
    return read_record(_path(sweep_folder(), int(HydraConfig.get().job.num))).again


def sweep_folder() -> Path:
    """The folder of the sweep that this process's job belongs to."""
    return Path(HydraConfig.get().sweep.dir)


def clear(sweep: Path) -> None:
    """Forget the jobs of an earlier start in the same folder; their runs stay."""
    for path in (sweep / "jobs").glob("*.json"):
        path.unlink()


def read_record(path: Path) -> JobRecord:
    """One record. Raises RunFolderError if it cannot be read."""
    try:
        values = json.loads(path.read_text())
        known = {entry.name for entry in fields(JobRecord)}
        return JobRecord(**{key: value for key, value in values.items() if key in known})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RunFolderError(f"cannot read a job's record at {path} ({error}); remove it") from error


def _path(sweep: Path, number: int) -> Path:
    return sweep / "jobs" / f"{number}.json"


def _write(sweep: Path, record: JobRecord) -> None:
    path = _path(sweep, record.number)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(record))
