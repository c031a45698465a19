"""Whether a job's run exists already: finished, interrupted, or in training elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mask_lightning.errors import RunFolderError
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.sweeps.records import Action


@dataclass(frozen=True)
class Earlier:
    """A run of an earlier start, and what it means for a job of the same config."""

    folder: RunFolder
    result: RunResult
    action: Action = "skipped"


def find_runs(places: Iterable[Path]) -> list[Path]:
    """Every folder below the places that holds a result.json, once, by name.

    Hidden ones are passed over, and those where it is empty: there a run is about to begin.
    """
    found = {
        record.parent.resolve(): record.parent
        for place in places
        for record in sorted(place.rglob("result.json"))
        if not any(part.startswith(".") and part.strip(".") for part in record.relative_to(place).parts)
        and record.stat().st_size
    }
    return list(found.values())


def find_earlier(places: Iterable[Path], config_hash: str) -> list[Earlier]:
    """Runs below the places with that hash; records that cannot be read are passed over."""
    found = []
    for path in find_runs(places):
        try:
            result = RunFolder(path).read_result()
        except RunFolderError:
            continue
        if result.config_hash == config_hash:
            found.append(Earlier(RunFolder(path), result))
    return found


def choose(runs: Sequence[Earlier], fingerprint: str) -> Earlier | None:
    """The run that makes training anew needless, of those on the same photos; None where there is none.

    One that is finished goes first, then one that another process trains, then the interrupted one whose last
    checkpoint is the newest. Never chosen is a run that failed, or was interrupted before its first checkpoint.
    """
    same = [run for run in runs if run.result.data.get("fingerprint") == fingerprint]
    done = [run for run in same if run.result.status == "finished"]
    if done:
        return done[0]
    for run in same:
        if run.folder.is_held():
            return Earlier(run.folder, run.result, "elsewhere")
    cut = [run for run in same if run.result.status in ("running", "interrupted") and run.folder.last.is_file()]
    if not cut:
        return None
    newest = max(cut, key=lambda run: run.folder.last.stat().st_mtime)
    return Earlier(newest.folder, newest.result, "resumed")
