"""Run one job of a multirun: train it, unless an earlier start has finished the same run."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mask_lightning.pipelines.photos import find_photos
from mask_lightning.pipelines.train import resume_run, train_run
from mask_lightning.runs.folder import RunResult
from mask_lightning.runs.photos import fingerprint
from mask_lightning.settings.identity import config_hash
from mask_lightning.settings.train import TrainSettings
from mask_lightning.sweeps import records
from mask_lightning.sweeps.records import EarlierRun, choose_earlier_run, find_earlier_runs
from mask_lightning.utils.files import hold

POLL_SECONDS = 1.0


def run_job(settings: TrainSettings, path: Path, overrides: Sequence[str] = ()) -> RunResult:
    """Train in `path`, or use the run that an earlier start left, and note which in the sweep's records.

    EarlierRun runs are looked for below `<outputs>/runs`, `<outputs>/sweeps` and this sweep's own folder, so the same
    command continues although its sweep gets a new folder, and a larger sweep takes over the jobs of a smaller one. Two
    runs are the same if their options are, without paths, device and workers (`settings.identity`), and their photos.
    A finished run is skipped, an interrupted one resumed, a failed one trained again, and one that another process
    trains is left alone, or waited for if a cluster has repeated this job. `skip_done=false` trains everything again,
    except what a cluster interrupted and queued again.

    Raises:
        MaskLightningError, KeyboardInterrupt: as `train_run`.
    """
    if settings.resume is not None:
        records.update_record(action="resumed", folder=settings.resume)
        return resume_run(settings.resume, overrides)
    places = _places(settings)
    while True:
        with _claim(settings) as claimed:
            earlier = _earlier(settings, places)
            if earlier is not None and earlier.action == "elsewhere" and records.was_requeued():
                pass  # this job itself, on a machine that is ending or unreachable
            elif claimed or (earlier is not None and earlier.action != "resumed"):
                return _run(settings, path, overrides, earlier)
        time.sleep(POLL_SECONDS)  # another process is about to start, resume or leave this very run


def _run(settings: TrainSettings, path: Path, overrides: Sequence[str], earlier: EarlierRun | None) -> RunResult:
    if earlier is None:
        records.update_record(action="trained", folder=path)
        return train_run(settings, path, overrides)
    records.update_record(action=earlier.action, folder=earlier.folder.path)
    if earlier.action == "resumed":
        print(f"continues in {earlier.folder.path}, which was interrupted", file=sys.stderr)
        return resume_run(earlier.folder.path, settings=settings)
    state = "is finished" if earlier.action == "skipped" else "is trained by another process"
    reason = f"the same run {state} in {earlier.folder.path}"
    print(f"skipped: {reason} (skip_done=false trains it again)", file=sys.stderr)
    return earlier.result


def _places(settings: TrainSettings) -> list[Path]:
    """Return the folders to search for earlier runs."""
    sweep = records.sweep_folder()
    if settings.skip_done:
        return [settings.outputs / "runs", settings.outputs / "sweeps", sweep]
    return [sweep] if records.was_requeued() else []


def _earlier(settings: TrainSettings, places: Sequence[Path]) -> EarlierRun | None:
    found = find_earlier_runs(places, config_hash(settings))
    # Reading the photos takes a while, so it is done only if some run may be the same.
    return choose_earlier_run(found, fingerprint(find_photos(settings).everyone)) if found else None


@contextmanager
def _claim(settings: TrainSettings) -> Iterator[bool]:
    """Lock this run before it has a folder of its own; yield False if another process has it.

    Without `skip_done` nothing is locked.
    """
    if not settings.skip_done:
        yield True
        return
    data = settings.data
    key = f"{config_hash(settings)} {data.name} {data.root} {data.table}"
    claim = settings.outputs / "sweeps" / ".claims" / hashlib.sha256(key.encode()).hexdigest()[:16]
    claim.parent.mkdir(parents=True, exist_ok=True)
    claim.touch()
    with hold(claim) as claimed:
        try:
            yield claimed
        finally:
            if claimed:
                claim.unlink(missing_ok=True)
