"""Members of ensembles: read from run folders, found below folders, and loaded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from mask_lightning.ensemble.members import (
    LoadedMembers,
    chosen_weights,
    find_members,
    load_members,
    missing_members,
    read_members,
    refuse_other_splits,
    score_weights,
)
from mask_lightning.errors import CheckpointError, MaskLightningError, PredictionsError, RunFolderError
from mask_lightning.labels import FACE, LabelSpace
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.utils.files import write_json

AGES = [f"age{i}" for i in range(9)]


def test_members_are_in_the_order_of_their_ensembles(make_run) -> None:
    names = [None, "mask1", "age3", "gender2", "age0", "mask9"]
    folders = [make_run(str(i), name) for i, name in enumerate(names)]
    assert [member.name for member in read_members(folders)] == ["age0", "age3", "mask1", "mask9", "gender2", "0"]


def test_balanced_members_of_several_tasks(make_run) -> None:
    folders = [
        make_run(f"{task}{name}", name, task=task) for task in ("mask", "age") for name in ("balanced10", "balanced2")
    ]
    names = ["age balanced2", "age balanced10", "mask balanced2", "mask balanced10"]
    members = read_members(folders)
    assert [member.name for member in members] == names
    assert missing_members(members) == []


def test_runs_with_the_same_name_get_their_parent_folder(make_run) -> None:
    folders = [make_run("monday/0"), make_run("tuesday/0"), make_run("other")]
    assert [member.name for member in read_members(folders)] == ["monday/0", "other", "tuesday/0"]


@pytest.mark.parametrize(
    ("present", "want"),
    [
        (AGES, []),
        (["age0", "age2", *AGES[4:]], ["age1", "age3"]),
        (["gender1", None], ["gender0", "gender2"]),
        ([None, None], []),
    ],
)
def test_missing_members_are_named(make_run, present: list[str | None], want: list[str]) -> None:
    members = read_members([make_run(str(i), name) for i, name in enumerate(present)])
    assert missing_members(members) == want


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"split_seed": 1}, r"data\.split_seed 0 in age0 and 1 in age1"),
        ({"val_fraction": 0.3}, r"data\.val_fraction 0\.2 in age0 and 0\.3 in age1"),
        ({"folds": 5, "fold": 2}, r"data\.folds None in age0 and 5 in age1"),
        ({"photos": "xyz"}, "fingerprint abc in age0 and xyz in age1"),
        ({"member": "age0"}, r"every member once, found age0 in .*0 and in .*1"),
        ({"member": "age12"}, r"no member 'age12'; did you mean age"),
    ],
)
def test_members_of_different_splits_are_refused(make_run, other: dict[str, Any], message: str) -> None:
    folders = [make_run("0", "age0"), make_run("1", **{"member": "age1", **other})]
    with pytest.raises(MaskLightningError, match=message):
        refuse_other_splits(read_members(folders))


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        (("train", "val", "val"), None),
        (("left out", "val", "val"), None),
        (("val", "train", "val"), r"found 1 photos held out by age0 only and 1 by age1 only; .* skip_done=false"),
        (("val", "val", "val"), "found 0 photos held out by age0 only and 1 by age1 only"),
    ],
)
def test_recorded_sides_of_members_are_compared(make_run, roles: tuple[str, ...], message: str | None) -> None:
    """Equal options and photos do not suffice: another version may have split them otherwise."""
    folders = [make_run(str(i), f"age{i}") for i in range(2)]
    for folder, each in zip(folders, [("train", "val", "val"), roles], strict=True):
        rows = pd.DataFrame({"photo": ["a/1.jpg", "b/1.jpg", "c/1.jpg"], "bytes": [1, 2, 3], "role": each})
        rows.to_csv(RunFolder(folder).split, index=False)
    with pytest.raises(CheckpointError, match=message) if message else nullcontext():
        refuse_other_splits(read_members(folders))


CPU = torch.device("cpu")
AGE = FACE.only(["age"])


@pytest.fixture
def make_member(make_run, make_checkpoint) -> Any:
    """Write the folder of a run with a checkpoint for some tasks."""

    def make(name: str, member: str | None = None, space: LabelSpace = AGE, **options: Any) -> Path:
        folder: Path = make_run(name, member, **options)
        RunFolder(folder).best.write_bytes(make_checkpoint(f"{name}.ckpt", space).read_bytes())
        return folder

    return make


def load(*folders: Path) -> LoadedMembers:
    return load_members(read_members(folders), CPU)


def test_members_of_several_tasks(make_member) -> None:
    loaded = load(make_member("x", space=FACE), make_member("1", "age1"), make_member("2", "age0"))
    assert [member.name for member in loaded.members] == ["age0", "age1", "x"]
    assert loaded.space == FACE
    assert loaded.by_tasks() == {("age",): [0, 1], FACE.names: [2]}
    assert (loaded.positions("age"), loaded.positions("mask")) == ([0, 1, 2], [2])
    assert chosen_weights([1, 2, 3], loaded) == {"mask": [3], "gender": [3], "age": [1, 2, 3]}
    parameters = sum(p.numel() for network in loaded.networks for p in network.module.parameters())
    assert loaded.megabytes == pytest.approx(parameters * 4 / 1e6)


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
def test_a_single_member_cannot_vote(make_member, tasks: list[str]) -> None:
    with pytest.raises(CheckpointError, match=r"two or more runs that answer one task, found .*age0 \(age\)"):
        load(*(make_member(task, f"{task}0", FACE.only([task])) for task in tasks))


def test_weights(make_member) -> None:
    loaded = load(*(make_member(str(i), f"age{i}", score=score) for i, score in enumerate((0.2, 0.25, 0.5))))
    assert score_weights(loaded) == {"age": [0.2, 0.25, 0.5]}
    assert chosen_weights([3, 3, 5], loaded) == {"age": [3, 3, 5]}
    with pytest.raises(CheckpointError, match="expected 3 weights, for age0, age1, age2, got 2; set weights"):
        chosen_weights([1, 2], loaded)
    assert score_weights(load(make_member("a", score=None), make_member("b"))) is None


MakeRun = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> MakeRun:
    """Write config and record of a run."""

    def make(name: str, member: str | None, status: Any = "finished", error: str | None = None) -> Path:
        folder = RunFolder(tmp_path / name)
        result = RunResult(status, "val/f1", data={"fingerprint": "abc"}, error=error)
        folder.claim({"member": member, "data": {}}, result)
        return folder.path

    return make


def test_finished_runs_are_members(write_run: MakeRun, tmp_path: Path) -> None:
    for i in (2, 0, 1):
        write_run(f"sweep/{i}", f"gender{i}")
    write_run("runs/mine", None)
    write_run("sweep/7", "age0", "interrupted")
    (tmp_path / "sweep" / "8").mkdir()
    (tmp_path / "sweep" / "8" / "result.json").write_text("{")
    found = find_members([tmp_path / "sweep", tmp_path / "runs" / "mine"])
    assert [member.name for member in found.members] == ["gender0", "gender1", "gender2", "mine"]
    assert found.missing == []
    assert found.left_out[0] == "age0 (interrupted)"
    assert "8/result.json" in found.left_out[1]


def test_missing_members_are_named_with_the_status_of_their_runs(write_run: MakeRun, tmp_path: Path) -> None:
    write_run("0", "gender0")
    write_run("1", "gender1", "failed", "ValueError: of course")
    message = r"found none for gender1 \(failed: ValueError: of course\), gender2; start .* allow_missing=true"
    with pytest.raises(CheckpointError, match=message):
        find_members([tmp_path])
    assert find_members([tmp_path], allow_missing=True).missing == ["gender1", "gender2"]


def test_a_job_that_failed_before_it_became_a_run_is_named(write_run: MakeRun, tmp_path: Path) -> None:
    write_run("0", "gender0")
    write_run("1", "gender1")
    (tmp_path / "jobs").mkdir()
    write_json(
        tmp_path / "jobs" / "2.json",
        {"number": 2, "overrides": ["member=gender2"], "folder": "2", "error": "no photos"},
    )
    with pytest.raises(CheckpointError, match=r"found none for gender2 \(failed: no photos\)"):
        find_members([tmp_path])


def test_a_sweep_started_again_after_a_failure_is_complete(write_run: MakeRun, tmp_path: Path) -> None:
    write_run("0", "gender0", "failed")
    for i in range(3):
        write_run(f"{i}-2", f"gender{i}")
    assert find_members([tmp_path]).missing == []


def test_no_finished_run_is_an_error(write_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match=r"finished runs below .*empty, found none; train"):
        find_members([tmp_path / "empty"])
    with pytest.raises(RunFolderError, match=r"expected runs at .*nowhere, found nothing"):
        find_members([tmp_path / "nowhere"])
    write_run("begun", "age0", "interrupted")
    with pytest.raises(RunFolderError, match=r"found none \(age0 \(interrupted\)\)"):
        find_members([tmp_path])
