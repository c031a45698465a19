"""A lock belongs to one holder at a time and ends with its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mask_lightning import locks
from mask_lightning.doors import config_dir
from mask_lightning.errors import RunFolderError
from mask_lightning.run_folder import RunFolder, RunResult

HOLDER = """
import os, sys, time
from pathlib import Path
from mask_lightning.locks import hold
with hold(Path(sys.argv[1])) as got:
    begun, tell = os.pipe()
    if os.fork() == 0:  # as a DataLoader's worker, which outlives its parent
        os.write(tell, b"!")
        time.sleep(5)
        os._exit(0)
    os.read(begun, 1)  # what a fork lets go of, it does before its first line
    print(got, flush=True)
    time.sleep(30)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("seed: 1\n")
    return path


def test_one_holder_at_a_time(file: Path) -> None:
    with locks.hold(file) as first, locks.hold(file) as second:
        assert (first, second, locks.is_held(file)) == (True, False, True)
    assert not locks.is_held(file)
    assert file.read_text() == "seed: 1\n"


def test_a_file_that_is_not_there_is_held_by_nobody(tmp_path: Path) -> None:
    assert not locks.is_held(tmp_path / "nothing")
    with locks.hold(tmp_path / "nothing") as got:
        assert got
    assert not (tmp_path / "nothing").exists()


def test_nothing_is_held_where_there_are_no_locks(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "fcntl", None)
    with locks.hold(file) as first, locks.hold(file) as second:
        assert (first, second) == (True, True)


def test_a_lock_ends_with_its_process_though_a_child_lives_on(file: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(config_dir().parent)}
    command = [sys.executable, "-c", HOLDER, str(file)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert locks.is_held(file)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not locks.is_held(file)


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.claim({"seed": 1}, RunResult("running", "val/f1"))
    with folder.held():
        assert folder.is_held()
        with pytest.raises(RunFolderError, match="run is trained by another process; wait for it"), folder.held():
            pass
    assert not folder.is_held()
