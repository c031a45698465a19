"""Files that would run code if they were unpickled, one of every kind that torch and pickle read."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Intruder:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def bare_pickle(path: Path, intruder: Intruder) -> None:
    """As joblib and old scripts leave it."""
    path.write_bytes(pickle.dumps({"state_dict": intruder}))


def torch_zip(path: Path, intruder: Intruder) -> None:
    """As `torch.save` writes."""
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "hyper_parameters": intruder}, path)


def torch_legacy(path: Path, intruder: Intruder) -> None:
    """As `torch.save` wrote before version 1.6."""
    torch.save({"state_dict": intruder}, path, _use_new_zipfile_serialization=False)


def torch_tar(path: Path, intruder: Intruder) -> None:
    """As `torch.save` wrote before version 0.1.10."""
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps(intruder)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


KINDS: tuple[Callable[[Path, Intruder], None], ...] = (bare_pickle, torch_zip, torch_legacy, torch_tar)


def is_harmful(mark: Path) -> bool:
    """Return True if an intruder makes its mark where nothing stops it; removes the mark again."""
    pickle.loads(pickle.dumps(Intruder(mark)))
    there = mark.exists()
    mark.unlink(missing_ok=True)
    return there
