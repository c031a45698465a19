"""One job of a multirun: trained, unless an earlier start has trained the same already."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mask_lightning.pipelines import prepare as assembly
from mask_lightning.pipelines import train as runs
from mask_lightning.runs.folder import RunResult
from mask_lightning.runs.photos import fingerprint
from mask_lightning.settings.identity import config_hash
from mask_lightning.settings.train import TrainSettings
from mask_lightning.sweeps import records
from mask_lightning.sweeps.earlier import Earlier, choose, find_earlier
from mask_lightning.sweeps.printing import say
from mask_lightning.utils.files import hold

PATIENCE = 1.0  # seconds


def run_job(settings: TrainSettings, path: Path, overrides: Sequence[str] = ()) -> RunResult:
    """Train in `path`, or take what an earlier start left, and note it in the sweep's records.

    Earlier runs are looked for below `<outputs>/runs`, `<outputs>/sweeps` and this sweep's own folder, so the same
    command typed again goes on although its sweep gets a new folder, and a larger sweep takes over the jobs of a
    smaller one. The same run is one of the same options without paths, device and workers
    (`settings.identity`) on the same photos. It is skipped where finished, resumed from its last checkpoint where
    interrupted, and left alone where another process trains it; a failed one is trained anew.
    `skip_done=false` trains everything anew, but for what a cluster interrupted and queued again.

    Raises:
        MaskLightningError: as `runs.train_run`.
        KeyboardInterrupt: after Ctrl-C.
    """
    if settings.resume is not None:
        records.note(action="resumed", folder=settings.resume)
        return runs.resume_run(settings.resume, overrides)
    places = _places(settings)
    while True:
        with _claim(settings) as claimed:
            earlier = _earlier(settings, places)
            if claimed or (earlier is not None and earlier.action != "resumed"):
                return _run(settings, path, overrides, earlier)
        time.sleep(PATIENCE)  # another job is about to begin this very run, or to go on with it


def _run(settings: TrainSettings, path: Path, overrides: Sequence[str], earlier: Earlier | None) -> RunResult:
    if earlier is None:
        records.note(action="trained", folder=path)
        return runs.train_run(settings, path, overrides)
    records.note(action=earlier.action, folder=earlier.folder.path)
    if earlier.action == "resumed":
        say(f"goes on in {earlier.folder.path}, which was interrupted")
        return runs.resume_run(earlier.folder.path, settings=settings)
    what = "is done" if earlier.action == "skipped" else "is trained by another process"
    say(f"skipped: the same run {what} in {earlier.folder.path} (skip_done=false trains it anew)")
    return earlier.result


def _places(settings: TrainSettings) -> list[Path]:
    """Where to look for earlier runs."""
    sweep = records.sweep_folder()
    if settings.skip_done:
        return [settings.outputs / "runs", settings.outputs / "sweeps", sweep]
    return [sweep] if records.is_again() else []


def _earlier(settings: TrainSettings, places: Sequence[Path]) -> Earlier | None:
    found = find_earlier(places, config_hash(settings))
    # Indexing the photos takes a while, so it is done only where some run may be the same.
    return choose(found, fingerprint(assembly.find_photos(settings).everyone)) if found else None


@contextmanager
def _claim(settings: TrainSettings) -> Iterator[bool]:
    """Keep this run to this process before it has a folder to lock; yields False where another process has it.

    Without `skip_done` nobody is asked.
    """
    if not settings.skip_done:
        yield True
        return
    data = settings.data
    what = f"{config_hash(settings)} {data.name} {data.root} {data.table}"
    claim = settings.outputs / "sweeps" / ".claims" / hashlib.sha256(what.encode()).hexdigest()[:16]
    claim.parent.mkdir(parents=True, exist_ok=True)
    claim.touch()
    with hold(claim) as claimed:
        try:
            yield claimed
        finally:
            if claimed:
                claim.unlink(missing_ok=True)
