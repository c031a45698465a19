"""One job of a multirun: trained, unless an earlier start has trained the same already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mask_lightning import assembly, runs
from mask_lightning.data.fingerprint import fingerprint
from mask_lightning.run_folder import RunResult
from mask_lightning.settings.identity import config_hash
from mask_lightning.settings.train import TrainSettings
from mask_lightning.sweeps import records
from mask_lightning.sweeps.earlier import Earlier, choose, find_earlier
from mask_lightning.sweeps.printing import say


def run_job(settings: TrainSettings, path: Path, overrides: Sequence[str] = ()) -> RunResult:
    """Train in `path`, or take what an earlier start left, and note it in the sweep's records.

    Earlier runs are looked for below `<outputs>/runs`, `<outputs>/sweeps` and this sweep's own folder, so the same
    command typed again goes on although its sweep gets a new folder, and a larger sweep takes over the jobs of a
    smaller one. The same run is one of the same options without paths, device and workers
    (`settings.identity`) on the same photos. It is skipped where finished, resumed from its last checkpoint where
    interrupted, and left alone where another process trains it; a failed one is trained anew.
    `skip_done=false` trains everything anew.

    Raises:
        MaskLightningError: as `runs.train_run`.
        KeyboardInterrupt: after Ctrl-C.
    """
    if settings.resume is not None:
        records.note(action="resumed", folder=settings.resume)
        return runs.resume_run(settings.resume, overrides)
    earlier = _earlier(settings, records.sweep_folder()) if settings.skip_done else None
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


def _earlier(settings: TrainSettings, sweep: Path) -> Earlier | None:
    places = (settings.outputs / "runs", settings.outputs / "sweeps", sweep)
    found = find_earlier(places, config_hash(settings))
    # Indexing the photos takes a while, so it is done only where some run may be the same.
    return choose(found, fingerprint(assembly.find_photos(settings).everyone)) if found else None
