"""Members of ensembles: finished runs, found in folders, checked to fit together, and loaded."""

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
from mask_lightning.inference.trained import Trained, load_trained
from mask_lightning.labels import LabelSpace
from mask_lightning.metrics.predictions import join_spaces
from mask_lightning.metrics.scores import MAIN_METRIC
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.runs.photos import held_out_photos
from mask_lightning.settings.ensembles import ENSEMBLES, find_member
from mask_lightning.sweeps.table import Row, collect_runs

# Options that decide who is held out. The photos themselves are compared by their fingerprint.
SPLIT_OPTIONS = ("val_fraction", "folds", "fold", "split_seed")


@dataclass(frozen=True)
class Member:
    """One finished run that votes.

    Attributes:
        name: age3, or `age balanced3`; name of the folder for a run that is no member of an ensemble.
        subset: subset that the run was trained on (option `member`); None for any other run.
        folder: of the run.
        config, result: the run's config and record.
    """

    name: str
    subset: str | None
    folder: RunFolder
    config: Mapping[str, Any]
    result: RunResult

    @property
    def split(self) -> dict[str, Any]:
        """Options and fingerprint that decide who is held out."""
        data = self.config.get("data", {})
        options = {f"data.{name}": data.get(name) for name in SPLIT_OPTIONS}
        return {**options, "the photos' fingerprint": self.result.data.get("fingerprint")}


@dataclass(frozen=True)
class MemberSearch:
    """Result of `find_members`.

    Attributes:
        members: the finished runs, in order.
        missing: names of members that their ensembles lack.
        left_out: one line for each run or record that was left out, with the reason.
    """

    members: list[Member]
    missing: list[str]
    left_out: list[str]


@dataclass(frozen=True)
class LoadedMembers:
    """Members of one or more ensembles with their models, in the same order, on one device."""

    members: list[Member]
    networks: list[Trained]

    @property
    def space(self) -> LabelSpace:
        """All tasks that the members predict together."""
        return join_spaces([network.space for network in self.networks])

    @property
    def megabytes(self) -> float:
        """Size of all weights in MB: 300 for 22 members of efficientnet-lite0."""
        tensors = [tensor for network in self.networks for tensor in network.module.parameters()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6

    def positions(self, task: str) -> list[int]:
        """Positions of the members that predict the task."""
        return [i for i, network in enumerate(self.networks) if task in network.space.names]

    def by_tasks(self) -> dict[tuple[str, ...], list[int]]:
        """Group the members: tasks -> positions of the members that predict exactly these."""
        found: dict[tuple[str, ...], list[int]] = {}
        for i, network in enumerate(self.networks):
            found.setdefault(network.space.names, []).append(i)
        return found


def find_members(places: Sequence[Path], *, allow_missing: bool = False) -> MemberSearch:
    """Find the members below folders of sweeps or runs.

    Args:
        places: folders of sweeps or runs, or folders that contain them.
        allow_missing: accept incomplete ensembles.

    Raises:
        RunFolderError: no such folder, or no finished run in it.
        CheckpointError: members are missing, and that is not allowed.
        MaskLightningError: as `read_members`.
    """
    for place in places:
        if not place.is_dir():
            raise RunFolderError(f"expected runs at {place}, found nothing; set runs to a sweep or to runs")
    found = collect_runs(places)
    finished = [row for row in found.rows if row.status == "finished" and row.result is not None]
    others = {_member_of(row): _describe(row) for row in found.rows if row not in finished}
    left_out = [*others.values(), *found.unreadable]
    if not finished:
        names = ", ".join(map(str, places))
        reasons = f" ({'; '.join(left_out)})" if left_out else ""
        raise RunFolderError(f"expected finished runs below {names}, found none{reasons}; train members first")
    members = read_members([row.folder for row in finished])
    missing = missing_members(members)
    if missing and not allow_missing:
        named = ", ".join(others.get(name, name) for name in missing)
        raise CheckpointError(
            f"expected every member of the ensembles, found none for {named}; "
            "start their sweep again, which trains what is missing, or vote without them: allow_missing=true"
        )
    return MemberSearch(members, missing, left_out)


def read_members(folders: Sequence[Path]) -> list[Member]:
    """Read finished runs as members, those of ensembles first, in order.

    Raises:
        RunFolderError: a record or a config cannot be read.
        SplitError: a run was trained as a member that does not exist.
        CheckpointError: a member of an ensemble occurs twice.
    """
    members = []
    for path in folders:
        folder = RunFolder(path)
        config, result = folder.read_config(), folder.read_result()
        subset = config.get("member")
        members.append(Member(_name_of(subset, config) if subset else path.name, subset, folder, config, result))
    names = Counter(member.name for member in members)
    members = [_with_parent(each) if names[each.name] > 1 and not each.subset else each for each in members]
    members.sort(key=_sort_key)
    _refuse_duplicates(members)
    return members


def refuse_other_splits(members: Sequence[Member]) -> None:
    """Check that there are people whom all members held out. Raises CheckpointError if they were split differently."""
    for member in members[1:]:
        for name, value in members[0].split.items():
            if member.split[name] != value:
                raise CheckpointError(
                    f"expected members with the same held-out people, found {name} {value} in {members[0].name} and "
                    f"{member.split[name]} in {member.name}; take the runs of one sweep"
                )
    # Equal options do not suffice: another version may have split the same photos otherwise.
    first = held_out_photos(members[0].folder.split)
    for member in members[1:]:
        others = held_out_photos(member.folder.split)
        if first is not None and others is not None and first != others:
            raise CheckpointError(
                f"expected members with the same held-out people, found {len(first - others)} photos held out by "
                f"{members[0].name} only and {len(others - first)} by {member.name} only; train those of another "
                "version again: skip_done=false"
            )


def missing_members(members: Sequence[Member]) -> list[str]:
    """Names that complete the ensembles of these members: age4 if only age0..age3 and age5..age8 are present."""
    present = {member.subset for member in members if member.subset}
    tasks = [task for task, ensemble in ENSEMBLES.items() if present & set(ensemble.members)]
    return [name for task in tasks for name in ENSEMBLES[task].members if name not in present]


def load_members(members: Sequence[Member], device: torch.device) -> LoadedMembers:
    """Load the models of all members.

    Raises:
        CheckpointError: a checkpoint is missing or damaged, no task has two members, or members of one ensemble
            preprocess photos differently.
        PredictionsError: members disagree about the classes of a task.
    """
    loaded = LoadedMembers(list(members), [load_trained(member.folder.path, device) for member in members])
    if all(len(loaded.positions(task)) < 2 for task in loaded.space.names):
        pairs = zip(members, loaded.networks, strict=True)
        named = ", ".join(f"{member.name} ({', '.join(network.space.names)})" for member, network in pairs)
        raise CheckpointError(
            f"expected two or more runs that answer one task, found {named}; name more runs, or use "
            "python -m mask_lightning.predict"
        )
    _refuse_other_transforms(loaded)
    return loaded


def score_weights(loaded: LoadedMembers) -> Weights | None:
    """Weigh each member by its score (MAIN_METRIC) on held-out people, per task; None if a run lacks that score."""
    scores = {
        task: [loaded.members[i].result.best.get(f"val/{task}/{MAIN_METRIC}") for i in loaded.positions(task)]
        for task in loaded.space.names
    }
    known = {task: [score for score in values if score is not None] for task, values in scores.items()}
    return known if all(len(known[task]) == len(values) for task, values in scores.items()) else None


def chosen_weights(values: Sequence[float], loaded: LoadedMembers) -> Weights:
    """Convert one weight per member to weights per task.

    Raises:
        CheckpointError: the number of weights differs from the number of members.
    """
    if len(values) != len(loaded.members):
        names = ", ".join(member.name for member in loaded.members)
        raise CheckpointError(f"expected {len(loaded.members)} weights, for {names}, got {len(values)}; set weights")
    return {task: [values[i] for i in loaded.positions(task)] for task in loaded.space.names}


def _name_of(subset: str, config: Mapping[str, Any]) -> str:
    """Name of a member: age3, or `age balanced3`, since every task can have a balanced3."""
    ensemble, _ = find_member(subset)
    return subset if ensemble else " ".join([*(config.get("task", {}).get("tasks") or ()), subset])


def _with_parent(member: Member) -> Member:
    path = member.folder.path
    return replace(member, name=f"{path.parent.name}/{path.name}")


def _sort_key(member: Member) -> tuple[int, str, int]:
    if member.subset is None:
        return len(ENSEMBLES) + 1, member.name, 0
    ensemble, number = find_member(member.subset)
    if ensemble is None:
        return len(ENSEMBLES), member.name.rstrip("0123456789"), number
    return list(ENSEMBLES).index(ensemble.task.name), "", number


def _member_of(row: Row) -> str:
    return str(row.options.get("member") or row.folder)


def _describe(row: Row) -> str:
    return f"{_member_of(row)} ({row.status}{f': {row.error}' if row.error else ''})"


def _refuse_duplicates(members: Sequence[Member]) -> None:
    for first, second in pairwise(members):
        if first.subset and first.name == second.name:
            raise CheckpointError(
                f"expected every member once, found {first.name} in {first.folder.path} and in {second.folder.path}; "
                "set runs to one sweep"
            )


def _refuse_other_transforms(loaded: LoadedMembers) -> None:
    first: dict[tuple[str, ...], int] = {}
    for i, (member, network) in enumerate(zip(loaded.members, loaded.networks, strict=True)):
        if member.subset is None:
            continue
        other = first.setdefault(network.space.names, i)
        if network.spec != loaded.networks[other].spec:
            raise CheckpointError(
                f"expected members of one ensemble to see photos alike, found {loaded.networks[other].spec} in "
                f"{loaded.members[other].name} and {network.spec} in {member.name}; vote over the runs of one sweep"
            )
