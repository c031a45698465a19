"""Earlier runs that make a job unnecessary."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.sweeps.records import choose_earlier_run, find_earlier_runs, find_runs


def run(path: Path, status: str, *, fingerprint: str = "photos", config: str = "abc", checkpoint: float = 0) -> Path:
    folder = RunFolder(path)
    result = RunResult(status, "val/f1", data={"fingerprint": fingerprint}, config_hash=config)  # type: ignore[arg-type]
    folder.claim({"seed": 0}, result)
    if checkpoint:
        folder.last.write_bytes(b"weights")
        os.utime(folder.last, (checkpoint, checkpoint))
    return path


@pytest.mark.parametrize(
    ("runs", "want"),
    [
        ({}, None),
        ({"a": ("finished", {})}, ("skipped", "a")),
        ({"a": ("finished", {"config": "other"})}, None),
        ({"a": ("finished", {"config": ""})}, None),  # of a version that kept no hash
        ({"a": ("finished", {"fingerprint": "other photos"})}, None),
        ({"a": ("failed", {"checkpoint": 9})}, None),
        ({"a": ("interrupted", {})}, None),
        ({"a": ("interrupted", {"checkpoint": 9})}, ("resumed", "a")),
        ({"a": ("running", {"checkpoint": 9})}, ("resumed", "a")),  # its process was killed
        ({"a": ("interrupted", {"checkpoint": 9}), "b": ("finished", {})}, ("skipped", "b")),
        ({"a": ("interrupted", {"checkpoint": 9}), "b": ("running", {"checkpoint": 8})}, ("resumed", "a")),
        ({"a": ("interrupted", {"checkpoint": 8}), "b": ("running", {"checkpoint": 9})}, ("resumed", "b")),
        ({"a": ("failed", {}), "b": ("interrupted", {"fingerprint": "other", "checkpoint": 9})}, None),
    ],
)
def test_the_chosen_run(tmp_path: Path, runs, want) -> None:
    for name, (status, options) in runs.items():
        run(tmp_path / name, status, **options)
    chosen = choose_earlier_run(find_earlier_runs([tmp_path], "abc"), "photos")
    assert (chosen and (chosen.action, chosen.folder.path.name)) == want


def test_a_run_in_another_process_is_not_resumed(tmp_path: Path) -> None:
    run(tmp_path / "a", "running", checkpoint=9)
    with RunFolder(tmp_path / "a").held():
        chosen = choose_earlier_run(find_earlier_runs([tmp_path], "abc"), "photos")
    assert chosen is not None
    assert chosen.action == "elsewhere"


def test_each_run_is_found_once_and_damaged_records_are_skipped(tmp_path: Path) -> None:
    run(tmp_path / "sweeps" / "1" / "0", "finished")
    (tmp_path / "sweeps" / "1" / "1").mkdir()
    (tmp_path / "sweeps" / "1" / "1" / "result.json").write_text('{"status": ')
    (tmp_path / "sweeps" / "1" / "2").mkdir()
    (tmp_path / "sweeps" / "1" / "2" / "result.json").touch()  # of a run that is about to begin
    (tmp_path / ".trash" / "0").mkdir(parents=True)
    (tmp_path / ".trash" / "0" / "result.json").write_text("{}")
    places = [tmp_path / "runs", tmp_path, tmp_path / "sweeps", tmp_path / "sweeps" / ".." / "sweeps"]
    assert [path.name for path in find_runs(places)] == ["0", "1"]
    assert [each.folder.path.name for each in find_earlier_runs(places, "abc")] == ["0"]
