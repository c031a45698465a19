"""A file that one process holds: the lock ends with the process, however that ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is ever held there
    fcntl = None  # type: ignore[assignment]

_held: set[int] = set()


@contextmanager
def hold(path: Path) -> Iterator[bool]:
    """Lock an existing file for the block; yields False, without a lock, where another holder has it."""
    descriptor = _lock(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            _held.discard(descriptor)
            os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether some process holds the file at this moment."""
    with hold(path) as got:
        return not got


def _lock(path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # a file that may not be written, or is not there, is held by nobody
        descriptor = os.open(os.devnull, os.O_RDONLY)
    else:
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:  # a file system without locks
            pass
    _held.add(descriptor)
    return descriptor


def _let_go() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    # A DataLoader's worker outlives its killed parent by seconds and must not hold the parent's lock.
    os.register_at_fork(after_in_child=_let_go)
