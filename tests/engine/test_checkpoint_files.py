"""A write that fails at any point keeps the previous checkpoint."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from mask_lightning.engine.checkpoint_files import CheckpointFiles, read_checkpoint
from mask_lightning.errors import CheckpointError, RunFolderError

resource = pytest.importorskip("resource", reason="limits are POSIX's")


def content(value: float, megabytes: float = 1.0) -> dict[str, Any]:
    return {"weight": torch.full((int(megabytes * 2**18),), float(value))}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limit the file size of this process, so that a later write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def last(tmp_path: Path) -> Path:
    """Return a complete checkpoint in a folder of its own."""
    path = tmp_path / "checkpoints" / "last.ckpt"
    path.parent.mkdir()
    CheckpointFiles().save_checkpoint(content(1), path)
    return path


def check_whole(path: Path, value: float = 1) -> None:
    assert (read_checkpoint(path)["weight"] == value).all()
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(".")] == []


def test_a_checkpoint_is_replaced(last: Path) -> None:
    CheckpointFiles().save_checkpoint(content(2), last)
    check_whole(last, 2)


def test_a_failed_write_keeps_the_previous_checkpoint(last: Path) -> None:
    with largest_file(2**19), pytest.raises(RunFolderError, match=rf"cannot write {last} \(File too large\); .*resume"):
        CheckpointFiles().save_checkpoint(content(2), last)
    check_whole(last)


def test_drafts_of_a_killed_write_are_removed(last: Path) -> None:
    (last.parent / ".last.ckpt.abc123").write_bytes(b"half")
    (last.parent / ".best.ckpt.abc123").write_bytes(b"of another file")
    CheckpointFiles().save_checkpoint(content(2), last)
    assert sorted(path.name for path in last.parent.iterdir()) == [".best.ckpt.abc123", "last.ckpt"]


def test_a_missing_folder_is_an_error(last: Path) -> None:
    last.unlink()
    last.parent.rmdir()
    with pytest.raises(RunFolderError, match=r"cannot write .*last.ckpt \(No such file or directory\)"):
        CheckpointFiles().save_checkpoint(content(2), last)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_an_error(last: Path) -> None:
    last.parent.chmod(0o500)
    with pytest.raises(RunFolderError, match=r"\(Permission denied\)"):
        CheckpointFiles().save_checkpoint(content(2), last)
    last.parent.chmod(0o700)
    check_whole(last)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 3 MB; skip if mounting is not permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if mounted.returncode:
        pytest.skip(f"may not mount a tmpfs: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_keeps_the_previous_checkpoint(disk: Path) -> None:
    last = disk / "last.ckpt"
    CheckpointFiles().save_checkpoint(content(1, 1.2), last)
    (disk / "others").write_bytes(bytes(1_000_000))
    with pytest.raises(RunFolderError, match=r"\(No space left on device\)"):
        CheckpointFiles().save_checkpoint(content(2, 1.2), last)
    check_whole(last)
    (disk / "others").unlink()
    CheckpointFiles().save_checkpoint(content(2, 1.2), last)
    check_whole(last, 2)


def test_a_read_only_disk_is_an_error(disk: Path) -> None:
    last = disk / "last.ckpt"
    CheckpointFiles().save_checkpoint(content(1), last)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(RunFolderError, match=r"\(Read-only file system\)"):
        CheckpointFiles().save_checkpoint(content(2), last)
    check_whole(last)


@pytest.mark.parametrize("damage", ["half", "header", "nothing", "text", "middle"])
def test_a_damaged_checkpoint_is_refused_in_one_line(last: Path, damage: str) -> None:
    whole = last.read_bytes()
    middle = whole[: len(whole) // 2] + b"x" * 100 + whole[len(whole) // 2 + 100 :]
    parts = {"half": whole[: len(whole) // 2], "header": whole[:30], "nothing": b"", "text": b"no weights"}
    last.write_bytes(parts.get(damage, middle))
    if damage == "middle":  # tensors carry no checksum that torch would look at
        assert read_checkpoint(last)
        return
    with pytest.raises(CheckpointError, match=f"^cannot read a checkpoint in {last}[^\n]*$"):
        read_checkpoint(last)
