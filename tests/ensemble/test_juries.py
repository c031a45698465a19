"""Members with networks: what must fit together before they vote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mask_lightning.ensemble.members import Jury, chosen_weights, load_jury, read_members, score_weights
from mask_lightning.errors import CheckpointError, PredictionsError
from mask_lightning.labels import FACE, LabelSpace
from mask_lightning.runs.folder import RunFolder

CPU = torch.device("cpu")
AGE = FACE.only(["age"])


@pytest.fixture
def make_member(make_run, make_checkpoint) -> Any:
    """A run's folder with a network for some tasks."""

    def make(name: str, member: str | None = None, space: LabelSpace = AGE, **options: Any) -> Path:
        folder: Path = make_run(name, member, **options)
        RunFolder(folder).best.write_bytes(make_checkpoint(f"{name}.ckpt", space).read_bytes())
        return folder

    return make


def load(*folders: Path) -> Jury:
    return load_jury(read_members(folders), CPU)


def test_members_of_several_tasks(make_member) -> None:
    jury = load(make_member("x", space=FACE), make_member("1", "age1"), make_member("2", "age0"))
    assert [member.name for member in jury.members] == ["age0", "age1", "x"]
    assert jury.space == FACE
    assert jury.groups() == {("age",): [0, 1], FACE.names: [2]}
    assert (jury.places("age"), jury.places("mask")) == ([0, 1, 2], [2])
    assert chosen_weights([1, 2, 3], jury) == {"mask": [3], "gender": [3], "age": [1, 2, 3]}
    parameters = sum(p.numel() for network in jury.networks for p in network.module.parameters())
    assert jury.megabytes == pytest.approx(parameters * 4 / 1e6)


def test_a_truncated_checkpoint_is_named(make_member) -> None:
    folders = [make_member(str(i), f"age{i}") for i in range(2)]
    whole = RunFolder(folders[1]).best.read_bytes()
    RunFolder(folders[1]).best.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"1/checkpoints/best\.ckpt .*truncated"):
        load(*folders)


def test_mixed_label_spaces_and_transforms_are_refused(make_member) -> None:
    first, second = make_member("0", "age0"), make_member("1", "age1")
    with pytest.raises(PredictionsError, match="age means <30, 30-59, >=60 in one and young, old in another"):
        load(first, make_member("2", "age2", LabelSpace.from_plain({"age": ["young", "old"]})))
    content = torch.load(RunFolder(second).best, weights_only=True)
    content["hyper_parameters"]["transform"]["size"] = 64
    torch.save(content, RunFolder(second).best)
    with pytest.raises(CheckpointError, match=r"see photos alike.*size=32.*in age0 and .*size=64.*in age1"):
        load(first, second)


@pytest.mark.parametrize("tasks", [["age"], ["age", "mask"]])
def test_a_single_member_has_nothing_to_vote_on(make_member, tasks: list[str]) -> None:
    with pytest.raises(CheckpointError, match=r"two or more runs that answer one task, found .*age0 \(age\)"):
        load(*(make_member(task, f"{task}0", FACE.only([task])) for task in tasks))


def test_weights(make_member) -> None:
    jury = load(*(make_member(str(i), f"age{i}", score=score) for i, score in enumerate((0.2, 0.25, 0.5))))
    assert score_weights(jury) == {"age": [0.2, 0.25, 0.5]}
    assert chosen_weights([3, 3, 5], jury) == {"age": [3, 3, 5]}
    with pytest.raises(CheckpointError, match="expected 3 weights, for age0, age1, age2, got 2; set weights"):
        chosen_weights([1, 2], jury)
    assert score_weights(load(make_member("a", score=None), make_member("b"))) is None
