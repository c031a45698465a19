"""The finished runs below some folders as the members of an ensemble, none of them missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mask_lightning.errors import CheckpointError, RunFolderError
from mask_lightning.inference.members import Member, missing_members, read_members
from mask_lightning.sweeps.table import Row, collect_runs


@dataclass(frozen=True)
class Muster:
    """Who is there.

    Attributes:
        members: the finished runs, in order.
        missing: names of members that their ensembles lack.
        left_out: a line for each run or record that is no member, and why.
    """

    members: list[Member]
    missing: list[str]
    left_out: list[str]


def muster(places: Sequence[Path], *, allow_missing: bool = False) -> Muster:
    """Find the members below `places`: sweeps, runs, or folders that hold them.

    Raises:
        RunFolderError: no folder there, or no finished run in it.
        CheckpointError: members are missing, unless that is allowed.
        MaskLightningError: as `read_members`.
    """
    for place in places:
        if not place.is_dir():
            raise RunFolderError(f"expected runs at {place}, found nothing; set runs to a sweep or to runs")
    found = collect_runs(places)
    finished = [row for row in found.rows if row.status == "finished" and row.result is not None]
    others = {_member_of(row): _described(row) for row in found.rows if row not in finished}
    left_out = [*others.values(), *found.unreadable]
    if not finished:
        names = ", ".join(map(str, places))
        told = f" ({'; '.join(left_out)})" if left_out else ""
        raise RunFolderError(f"expected finished runs below {names}, found none{told}; train members first")
    members = read_members([row.folder for row in finished])
    missing = missing_members(members)
    if missing and not allow_missing:
        named = ", ".join(others.get(name, name) for name in missing)
        raise CheckpointError(
            f"expected every member of the ensembles, found none for {named}; "
            "start their sweep again, which trains what is missing, or vote without them: allow_missing=true"
        )
    return Muster(members, missing, left_out)


def _member_of(row: Row) -> str:
    return str(row.options.get("member") or row.folder)


def _described(row: Row) -> str:
    return f"{_member_of(row)} ({row.status}{f': {row.error}' if row.error else ''})"
