"""The trained members of an ensemble: found from their run folders, and checked to fit together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from mask_lightning.ensemble.voting import Weights
from mask_lightning.errors import CheckpointError, RunFolderError
from mask_lightning.inference.predictions import join_spaces
from mask_lightning.inference.trained import Trained, load_trained
from mask_lightning.labels import LabelSpace
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.settings.ensembles import ENSEMBLES, find_member
from mask_lightning.sweeps.table import Row, collect_runs

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


@dataclass(frozen=True)
class Jury:
    """The members of one or more ensembles, and their networks in the same order, all on one device."""

    members: list[Member]
    networks: list[Trained]

    @property
    def space(self) -> LabelSpace:
        """All tasks that they answer together."""
        return join_spaces([network.space for network in self.networks])

    @property
    def megabytes(self) -> float:
        """Of all weights: 22 members of lite0 take 300."""
        tensors = [tensor for network in self.networks for tensor in network.module.parameters()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6

    def places(self, task: str) -> list[int]:
        """Which members answer the task."""
        return [i for i, network in enumerate(self.networks) if task in network.space.names]

    def groups(self) -> dict[tuple[str, ...], list[int]]:
        """Tasks -> which members answer just these."""
        found: dict[tuple[str, ...], list[int]] = {}
        for i, network in enumerate(self.networks):
            found.setdefault(network.space.names, []).append(i)
        return found


def load_jury(members: Sequence[Member], device: torch.device) -> Jury:
    """Load their networks, all at once.

    Raises:
        CheckpointError: one is missing or damaged, no task has two members, or members of one ensemble prepare photos
            differently.
        PredictionsError: a task has other classes in one than in another.
    """
    jury = Jury(list(members), [load_trained(member.folder.path, device) for member in members])
    if all(len(jury.places(task)) < 2 for task in jury.space.names):
        pairs = zip(members, jury.networks, strict=True)
        named = ", ".join(f"{member.name} ({', '.join(network.space.names)})" for member, network in pairs)
        raise CheckpointError(
            f"expected two or more runs that answer one task, found {named}; name more runs, or use "
            "python -m mask_lightning.predict"
        )
    _refuse_other_transforms(jury)
    return jury


def score_weights(jury: Jury) -> Weights | None:
    """Each member's macro F1 on its held-out people, for each task; None where a run has no such score."""
    scores = {
        task: [jury.members[i].result.best.get(f"val/{task}/f1") for i in jury.places(task)]
        for task in jury.space.names
    }
    known = {task: [score for score in values if score is not None] for task, values in scores.items()}
    return known if all(len(known[task]) == len(values) for task, values in scores.items()) else None


def chosen_weights(values: Sequence[float], jury: Jury) -> Weights:
    """A weight for every member -> for each task. Raises CheckpointError for another number of them."""
    if len(values) != len(jury.members):
        names = ", ".join(member.name for member in jury.members)
        raise CheckpointError(f"expected {len(jury.members)} weights, for {names}, got {len(values)}; set weights")
    return {task: [values[i] for i in jury.places(task)] for task in jury.space.names}


def _refuse_other_transforms(jury: Jury) -> None:
    first: dict[tuple[str, ...], int] = {}
    for i, (member, network) in enumerate(zip(jury.members, jury.networks, strict=True)):
        if member.subset is None:
            continue
        other = first.setdefault(network.space.names, i)
        if network.spec != jury.networks[other].spec:
            raise CheckpointError(
                f"expected members of one ensemble to see photos alike, found {jury.networks[other].spec} in "
                f"{jury.members[other].name} and {network.spec} in {member.name}; vote over the runs of one sweep"
            )
