"""The networks of an ensemble's members, ready to vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mask_lightning.errors import CheckpointError
from mask_lightning.inference.ballots import Weights
from mask_lightning.inference.members import Member
from mask_lightning.inference.predictions import join_spaces
from mask_lightning.inference.trained import Trained, load_trained
from mask_lightning.labels import LabelSpace


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
