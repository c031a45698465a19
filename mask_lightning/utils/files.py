"""Atomic file writes, and locks that end with the process."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to `path`; a crash leaves the old file or the new one, never half of one."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as temporary:
        try:
            temporary.write(content)
            temporary.flush()
            os.fsync(temporary.fileno())
        except BaseException:
            Path(temporary.name).unlink()
            raise
    written = Path(temporary.name)
    written.chmod(0o644)
    written.replace(path)


def remove_drafts(path: Path) -> None:
    """Remove what writes of `path` left that were killed; for who writes it alone."""
    for draft in path.parent.iterdir():
        if draft.name.startswith(f".{path.name}."):
            draft.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` to `path` as indented JSON, atomically; numbers that JSON lacks (NaN, infinity) become null."""
    write_atomically(path, (json.dumps(_strict(value), indent=2, allow_nan=False) + "\n").encode())


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _strict(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
