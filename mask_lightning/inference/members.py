"""The trained members of an ensemble: found from their run folders, and checked to fit together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from mask_lightning.ensembles import ENSEMBLES, find_member
from mask_lightning.errors import CheckpointError
from mask_lightning.run_folder import RunFolder, RunResult

# Options that decide who is held out; which photos there are is told by their fingerprint.
SPLIT = ("val_fraction", "folds", "fold", "split_seed")


@dataclass(frozen=True)
class Member:
    """One finished run that votes.

    Attributes:
        name: age3, or `age balanced3`; of a run that is no member of an ensemble, its folder's name.
        subset: the member of an ensemble that it was trained as, None for any other run.
        folder, config, result: as the run left them.
    """

    name: str
    subset: str | None
    folder: RunFolder
    config: Mapping[str, Any]
    result: RunResult

    @property
    def split(self) -> dict[str, Any]:
        """What decides which people were held out from it."""
        data = self.config.get("data", {})
        options = {f"data.{name}": data.get(name) for name in SPLIT}
        return {**options, "the photos' fingerprint": self.result.data.get("fingerprint")}


def read_members(folders: Sequence[Path]) -> list[Member]:
    """The runs in these folders as members, those of ensembles first, in order.

    Raises:
        RunFolderError: a record or a config cannot be read.
        SplitError: a run was trained as a member that does not exist.
        CheckpointError: a member of an ensemble is there twice, or the runs do not share their held-out people.
    """
    members = []
    for path in folders:
        folder = RunFolder(path)
        config, result = folder.read_config(), folder.read_result()
        subset = config.get("member")
        members.append(Member(_name_of(subset, config) if subset else path.name, subset, folder, config, result))
    names = Counter(member.name for member in members)
    members = [_with_parent(each) if names[each.name] > 1 and not each.subset else each for each in members]
    members.sort(key=_place)
    _refuse_doubles(members)
    _refuse_other_splits(members)
    return members


def missing_members(members: Sequence[Member]) -> list[str]:
    """Those that the ensembles of the present ones lack: age4 where only age0..age3 and age5..age8 are there."""
    present = {member.subset for member in members if member.subset}
    tasks = [task for task, ensemble in ENSEMBLES.items() if present & set(ensemble.members)]
    return [name for task in tasks for name in ENSEMBLES[task].members if name not in present]


def _name_of(subset: str, config: Mapping[str, Any]) -> str:
    """age3 as it is, and `age balanced3`, since every task can have a balanced3."""
    ensemble, _ = find_member(subset)
    return subset if ensemble else " ".join([*(config.get("task", {}).get("tasks") or ()), subset])


def _with_parent(member: Member) -> Member:
    path = member.folder.path
    return replace(member, name=f"{path.parent.name}/{path.name}")


def _place(member: Member) -> tuple[int, str, int]:
    if member.subset is None:
        return len(ENSEMBLES) + 1, member.name, 0
    ensemble, number = find_member(member.subset)
    if ensemble is None:
        return len(ENSEMBLES), member.name.rstrip("0123456789"), number
    return list(ENSEMBLES).index(ensemble.task.name), "", number


def _refuse_doubles(members: Sequence[Member]) -> None:
    for first, second in pairwise(members):
        if first.subset and first.name == second.name:
            raise CheckpointError(
                f"expected every member once, found {first.name} in {first.folder.path} and in {second.folder.path}; "
                "set runs to one sweep"
            )


def _refuse_other_splits(members: Sequence[Member]) -> None:
    for member in members[1:]:
        for name, value in members[0].split.items():
            if member.split[name] != value:
                raise CheckpointError(
                    f"expected members with the same held-out people, found {name} {value} in {members[0].name} and "
                    f"{member.split[name]} in {member.name}; vote over the runs of one sweep"
                )
