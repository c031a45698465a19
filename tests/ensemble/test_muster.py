"""Run folders and job records -> who is there and who is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mask_lightning.ensemble.members import muster
from mask_lightning.errors import CheckpointError, RunFolderError
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.utils.files import write_json

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write config and record of a run."""

    def make(name: str, member: str | None, status: Any = "finished", error: str | None = None) -> Path:
        folder = RunFolder(tmp_path / name)
        result = RunResult(status, "val/f1", data={"fingerprint": "abc"}, error=error)
        folder.claim({"member": member, "data": {}}, result)
        return folder.path

    return make


def test_whoever_is_finished_votes(make_run: MakeRun, tmp_path: Path) -> None:
    for i in (2, 0, 1):
        make_run(f"sweep/{i}", f"gender{i}")
    make_run("runs/mine", None)
    make_run("sweep/7", "age0", "interrupted")
    (tmp_path / "sweep" / "8").mkdir()
    (tmp_path / "sweep" / "8" / "result.json").write_text("{")
    found = muster([tmp_path / "sweep", tmp_path / "runs" / "mine"])
    assert [member.name for member in found.members] == ["gender0", "gender1", "gender2", "mine"]
    assert found.missing == []
    assert found.left_out[0] == "age0 (interrupted)"
    assert "8/result.json" in found.left_out[1]


def test_missing_members_are_named_with_what_became_of_them(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("0", "gender0")
    make_run("1", "gender1", "failed", "ValueError: of course")
    message = r"found none for gender1 \(failed: ValueError: of course\), gender2; start .* allow_missing=true"
    with pytest.raises(CheckpointError, match=message):
        muster([tmp_path])
    assert muster([tmp_path], allow_missing=True).missing == ["gender1", "gender2"]


def test_a_job_that_failed_before_it_became_a_run_is_named(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("0", "gender0")
    make_run("1", "gender1")
    (tmp_path / "jobs").mkdir()
    write_json(
        tmp_path / "jobs" / "2.json",
        {"number": 2, "overrides": ["member=gender2"], "folder": "2", "error": "no photos"},
    )
    with pytest.raises(CheckpointError, match=r"found none for gender2 \(failed: no photos\)"):
        muster([tmp_path])


def test_a_sweep_started_again_after_a_failure_is_complete(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("0", "gender0", "failed")
    for i in range(3):
        make_run(f"{i}-2", f"gender{i}")
    assert muster([tmp_path]).missing == []


def test_nothing_to_vote_with(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match=r"finished runs below .*empty, found none; train"):
        muster([tmp_path / "empty"])
    with pytest.raises(RunFolderError, match=r"expected runs at .*nowhere, found nothing"):
        muster([tmp_path / "nowhere"])
    make_run("begun", "age0", "interrupted")
    with pytest.raises(RunFolderError, match=r"found none \(age0 \(interrupted\)\)"):
        muster([tmp_path])
