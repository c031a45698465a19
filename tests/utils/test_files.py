"""Atomic writes and file locks."""

from __future__ import annotations

import json
import math
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from unicodedata import normalize

import pytest

from mask_lightning.cli.compose import config_dir
from mask_lightning.errors import RunFolderError
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.utils.files import find_path, hold, is_held, match_composition, write_atomically, write_json


@pytest.mark.parametrize(("on_disk", "typed"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_paths_are_found_however_they_are_composed(tmp_path: Path, on_disk: str, typed: str) -> None:
    there = tmp_path / normalize(on_disk, "얼굴/é.jpg")
    there.parent.mkdir()
    there.touch()
    assert find_path(tmp_path / normalize(typed, "얼굴/é.jpg")) == there
    assert match_composition(str(tmp_path), normalize(typed, "얼굴/é.jpg")) == normalize(on_disk, "얼굴/é.jpg")
    assert match_composition(str(tmp_path), "얼굴/other é.jpg").endswith("/other é.jpg")
    (tmp_path / normalize(on_disk, "나중")).touch()  # after the folder was read
    assert find_path(tmp_path / normalize(typed, "나중")).is_file()


def test_a_name_with_a_tilde_is_the_home_folder_unless_it_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert find_path("~/faces") == Path("/home/me/faces")
    assert find_path("~nobody-of-this-name") == Path("~nobody-of-this-name")
    (tmp_path / "~").mkdir()
    (tmp_path / "~" / "faces").mkdir()
    assert find_path("~/faces") == Path("~/faces")


def test_content_replaces_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_bytes(b"a longer old content")
    write_atomically(path, b"new\0\r\n")
    assert path.read_bytes() == b"new\0\r\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["record"]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_the_file_is_readable_by_others(tmp_path: Path) -> None:
    write_atomically(tmp_path / "record", b"")
    assert stat.S_IMODE((tmp_path / "record").stat().st_mode) == 0o644


@pytest.mark.parametrize("stop", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_write_keeps_the_old_file_and_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    def fail(_: int) -> None:
        raise stop

    path = tmp_path / "record"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(stop)):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["record"]


def test_json_is_readable_by_people_and_programs(tmp_path: Path) -> None:
    value = {"status": "finished", "best": {"val/f1": 0.5}}
    write_json(tmp_path / "result.json", value)
    text = (tmp_path / "result.json").read_text()
    assert json.loads(text) == value
    assert '\n  "best": {\n' in text
    assert text.endswith("}\n")


def test_nan_and_infinity_become_null(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"best": {"a": math.nan, "b": 0.5}, "all": [math.inf, (-math.inf, 1)], "s": "NaN"})
    value = json.loads((tmp_path / "file").read_text(), parse_constant=pytest.fail)
    assert value == {"best": {"a": None, "b": 0.5}, "all": [None, [None, 1]], "s": "NaN"}


HOLDER = """
import os, sys, time
from pathlib import Path
from mask_lightning.utils.files import hold
with hold(Path(sys.argv[1])) as got:
    begun, tell = os.pipe()
    if os.fork() == 0:  # like a DataLoader worker, which outlives its parent
        os.write(tell, b"!")
        time.sleep(5)
        os._exit(0)
    os.read(begun, 1)  # a fork releases its locks before its first line
    print(got, flush=True)
    time.sleep(30)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("seed: 1\n")
    return path


def test_one_holder_at_a_time(file: Path) -> None:
    with hold(file) as first, hold(file) as second:
        assert (first, second, is_held(file)) == (True, False, True)
    assert not is_held(file)
    assert file.read_text() == "seed: 1\n"


def test_nobody_holds_a_missing_file(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "nothing")
    with hold(tmp_path / "nothing") as got:
        assert got
    assert not (tmp_path / "nothing").exists()


def test_without_file_locks_nothing_is_held(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mask_lightning.utils.files.fcntl", None)
    with hold(file) as first, hold(file) as second:
        assert (first, second) == (True, True)


def test_a_lock_ends_with_its_process_even_if_a_child_survives(file: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(config_dir().parent)}
    command = [sys.executable, "-c", HOLDER, str(file)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert is_held(file)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not is_held(file)


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.claim({"seed": 1}, RunResult("running", "val/f1"))
    with folder.held():
        assert folder.is_held()
        with pytest.raises(RunFolderError, match="run is trained by another process; wait for it"), folder.held():
            pass
    assert not folder.is_held()
