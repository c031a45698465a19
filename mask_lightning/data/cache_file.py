"""The file of a photo cache: an index, and prepared photos that are read one at a time.

It holds two arrays one after the other, in NumPy's own format: the index (path, size, time of change, whether the photo
could be decoded) and the photos, uint8 (N, S, S, 3).
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

Pixels = npt.NDArray[np.uint8]


class Stamp(NamedTuple):
    """What tells that a photo's file is as it was; -1 and -1 where there is none."""

    size: int
    changed: int  # in nanoseconds

    @classmethod
    def of(cls, path: str) -> Stamp:
        """Of the file as it is now."""
        try:
            facts = Path(path).stat()
        except OSError:
            return cls(-1, -1)
        return cls(facts.st_size, facts.st_mtime_ns)


def key_of(path: str) -> str:
    """What a photo is known by, however its path is written; links are not followed, as that would ask the disk."""
    return os.path.abspath(path)  # noqa: PTH100  Path has nothing of the kind


class PhotoCache:
    """Prepared photos by their path.

    A photo is mapped into memory for the moment of its reading: all processes share the system's page cache, and the
    pages of a file that stayed mapped would count as memory of each.

    Args:
        file: as `data.cache` wrote it. It may be replaced meanwhile; what is open stays as it is.

    Raises:
        OSError, ValueError: no such file, or half of one, or another one.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        with file.open("rb") as stream:
            self.index = npy.read_array(stream, allow_pickle=False)
            npy.read_magic(stream)
            self.shape, _, _ = npy.read_array_header_1_0(stream)
            self._begin, end = stream.tell(), os.fstat(stream.fileno()).st_size
            if end != self._begin + np.prod(self.shape, dtype=np.int64):
                raise ValueError(f"expected photos {self.shape} in {file}, found {end - self._begin} bytes of them")
            self._descriptor = os.dup(stream.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self.rows = {os.fsdecode(path): row for row, path in enumerate(self.index["path"])}

    def __reduce__(self) -> tuple[type[PhotoCache], tuple[Path]]:
        return PhotoCache, (self.file,)  # a worker that is not forked opens it anew

    def holds(self, path: str) -> bool:
        """Whether a photo is here; one that could not be decoded is not."""
        row = self.rows.get(key_of(path))
        return row is not None and bool(self.index["decoded"][row])

    def find(self, path: str) -> Pixels | None:
        """A prepared photo (S, S, 3), read-only; None where it is not here, or could not be decoded."""
        return self.read(self.rows[key_of(path)]) if self.holds(path) else None

    def read(self, row: int) -> Pixels:
        """The photo of that row (S, S, 3), read-only."""
        size = self.shape[1] * self.shape[2] * self.shape[3]
        begin = self._begin + row * size
        page = begin - begin % mmap.ALLOCATIONGRANULARITY
        with mmap.mmap(self._descriptor, begin - page + size, access=mmap.ACCESS_READ, offset=page) as window:
            return np.frombuffer(window[begin - page :], np.uint8).reshape(self.shape[1:])

    def stamps(self) -> dict[str, Stamp]:
        """Of every photo when it was prepared, by path, in the order of the rows."""
        facts = zip(self.rows, self.index["size"].tolist(), self.index["changed"].tolist(), strict=True)
        return {path: Stamp(size, changed) for path, size, changed in facts}


def write_index(stream: BinaryIO, stamps: Mapping[str, Stamp], decoded: Sequence[bool], side: int) -> int:
    """Write all that goes before the photos at the stream's place; as many bytes for as many photos.

    Returns:
        Where the photos begin; row i of `side` x `side` x 3 bytes belongs to the i-th path.
    """
    facts = [(os.fsencode(path), *stamp, known) for (path, stamp), known in zip(stamps.items(), decoded, strict=True)]
    longest = max(len(path) for path, *_ in facts)
    types = [("path", f"S{longest}"), ("size", "<i8"), ("changed", "<i8"), ("decoded", "?")]
    npy.write_array(stream, np.array(facts, dtype=types), allow_pickle=False)
    shape = (len(facts), side, side, 3)
    npy.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.tell()
