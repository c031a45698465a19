"""Atomic file writes, and file locks that end with the process."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from time import sleep
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows: locks always succeed
    fcntl = None  # type: ignore[assignment]


def find_path(path: str | Path) -> Path:
    """Return a path as it is on the disk: `~` is the home folder unless it exists; names are composed as there."""
    path = Path(path)
    if os.path.lexists(path):
        return path
    try:
        path = path.expanduser()
    except RuntimeError:  # there is no such user, so it is a name
        return path
    return Path(match_composition("", str(path)))


def location(path: str | Path) -> str:
    """Return a path as text; an address in S3 as it was typed, of which `Path` joins the slashes.

    Example:
        >>> location(Path("s3://bucket/faces")), location(Path("faces"))
        ('s3://bucket/faces', 'faces')
    """
    return re.sub(r"^s3:/+", "s3://", str(path))


def is_remote(path: str | Path) -> bool:
    """Return True for an address in S3.

    Example:
        >>> is_remote(Path("s3://bucket/faces")), is_remote("faces")
        (True, False)
    """
    return location(path).startswith("s3://")


def match_composition(root: str, name: str) -> str:
    """Return a path below `root` with the letters composed as on the disk: macOS stores `é` as `e` and an accent.

    Parts that the disk does not have in any composition stay as they are.
    """
    if name.isascii() or os.path.lexists(os.path.join(root, name)):  # noqa: PTH118 (`root` may be empty)
        return name
    found = os.sep if os.path.isabs(name) else ""  # noqa: PTH117
    for part in name.split("/"):
        if part:
            folder = os.path.join(root, found)  # noqa: PTH118
            exists = part.isascii() or os.path.lexists(os.path.join(folder, part))  # noqa: PTH118
            found = os.path.join(found, part if exists else _composed_names(folder).get(_composed(part), part))  # noqa: PTH118
    return found


def _composed_names(folder: str) -> Mapping[str, str]:
    """Return the names in a folder by their composed form; {} if it cannot be read."""
    folder = os.path.abspath(folder)  # noqa: PTH100 (pathlib has no equivalent)
    try:
        return _read_names(folder, Path(folder).stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=64)
def _read_names(folder: str, _changed: int) -> Mapping[str, str]:
    return {_composed(name): name for name in os.listdir(folder) if not name.isascii()}  # noqa: PTH208


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to `path`, so that a crash leaves either the old or the new file, never a part."""
    with writing_atomically(path) as file:
        file.write(content)


@contextmanager
def writing_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file for the block; it replaces `path` at the end, and is removed after an error."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as temporary:
        try:
            yield temporary
            temporary.flush()
            os.fsync(temporary.fileno())
        except BaseException:
            Path(temporary.name).unlink()
            raise
    written = Path(temporary.name)
    written.chmod(0o644)
    written.replace(path)


def remove_temporary_files(path: Path) -> None:
    """Remove the temporary files of killed `write_atomically` calls; no other process may be writing `path`."""
    for temporary in path.parent.iterdir():
        if temporary.name.startswith(f".{path.name}."):
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity, which JSON lacks, become null."""
    write_atomically(path, (json.dumps(_without_nan(value), indent=2, allow_nan=False) + "\n").encode())


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_held: set[int] = set()


@contextmanager
def hold(path: Path) -> Iterator[bool]:
    """Lock an existing file for the block; yield False, without waiting, if another process holds the lock."""
    descriptor = _lock(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            _held.discard(descriptor)
            os.close(descriptor)


@contextmanager
def wait_for_lock(path: Path, *, poll: float, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Lock an existing file for the block, after waiting for another process that holds the lock.

    Args:
        path: the file.
        poll: seconds between attempts.
        on_wait: called once if another process holds the lock.
    """
    while True:
        with hold(path) as got:
            if got:
                yield
                return
        if on_wait is not None:
            on_wait()
            on_wait = None
        sleep(poll)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_held(path: Path) -> bool:
    """Return True if a process holds the file's lock now."""
    with hold(path) as got:
        return not got


def _lock(path: Path) -> int | None:
    """Open and lock the file; return its descriptor, or None if another process holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # nobody holds a file that is missing or not writable
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


def _release_all() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    # A DataLoader worker outlives its killed parent by seconds and must not keep the parent's lock.
    os.register_at_fork(after_in_child=_release_all)
