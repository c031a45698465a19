"""Cache of prepared photos: decoded, cropped and resized once, then read by every run on the same folder.

A cache file holds two arrays in NumPy's npy format: the index (path, size, time of change, whether the photo could be
decoded; for the crop "face" also the sizes of the photo and its face) and the photos, uint8 (N, S, S, 3).
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
import shutil
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import PIL
import torch
from numpy.lib import format as npy
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from mask_lightning.data.loading import leave_signals_to_the_trainer, worker_errors_in_one_line
from mask_lightning.data.prepared import PhotoSize, read_prepared
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.errors import CacheError, PhotoError
from mask_lightning.faces.detector import LONG_SIDES, MODEL_SHA256, UNCERTAIN_SCORE
from mask_lightning.utils.files import wait_for_lock
from mask_lightning.utils.system import keep_memory, share_of_cores

log = logging.getLogger(__name__)

FORMAT = 1  # increase it when the same spec gives other pixels
FACE_FORMAT = 1  # the same for the crop "face" alone, whose pixels also depend on the detector
SIZE_FIELDS = (("width", "<i4"), ("height", "<i4"), ("face", "<f4"))  # of the index, for the crop "face"
CHUNK = 32  # photos per item of the workers' queue, small enough for a progress bar that moves
PHOTOS_PER_WORKER = 4 * CHUNK  # fewer are decoded sooner than a worker starts
SPARE = 2**30  # bytes of the disk that stay free for checkpoints
POLL_SECONDS = 0.2  # between attempts to take the lock

Pixels = npt.NDArray[np.uint8]
Entry = PhotoSize | None  # facts of a prepared photo; None if it cannot be decoded


class FileStamp(NamedTuple):
    """Size and modification time by which a changed photo is recognised; both -1 for a missing file.

    Attributes:
        size: in bytes.
        changed: in nanoseconds.
    """

    size: int
    changed: int

    @classmethod
    def of(cls, path: str) -> FileStamp:
        """Read the stamp of a file."""
        try:
            facts = Path(path).stat()
        except OSError:
            return cls(-1, -1)
        return cls(facts.st_size, facts.st_mtime_ns)


def cache_key(path: str) -> str:
    """Return the absolute path; symlinks are not resolved, because that would read the disk."""
    return os.path.abspath(path)  # noqa: PTH100 (pathlib has no equivalent)


class PreparedPhotos(Protocol):
    """Prepared photos, found by their path: a PhotoCache, or `data.packed.PackedPhotos`."""

    def holds(self, path: str) -> bool:
        """Return True if the photo is there."""

    def find(self, path: str) -> Pixels | None:
        """Read a prepared photo (S, S, 3); None if it is not there."""

    def size_of(self, path: str) -> PhotoSize | None:
        """Return the sizes of a photo and its face; None if they are unknown."""

    def chunks_of(self, paths: Sequence[str]) -> npt.NDArray[np.int64] | None:
        """Return the number of the chunk of each photo (N,); None if photos are read one by one."""


class PhotoCache:
    """Prepared photos in a cache file, found by their path.

    Each read maps one photo into memory and unmaps it. Processes share the system's page cache; a file that stays
    mapped would count as memory of each process.

    Args:
        file: a file written by `cached_photos`. It may be replaced while it is open, without effect on this object.

    Raises:
        OSError: the file is missing or unreadable.
        ValueError: the file is truncated or not a cache.
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
        self.has_sizes = "face" in (self.index.dtype.names or ())
        self.rows = {os.fsdecode(path): row for row, path in enumerate(self.index["path"])}

    def __reduce__(self) -> tuple[type[PhotoCache], tuple[Path]]:
        return PhotoCache, (self.file,)  # a spawned worker opens the file again

    def holds(self, path: str) -> bool:
        """Return True if the cache has the decoded photo."""
        row = self.rows.get(cache_key(path))
        return row is not None and bool(self.index["decoded"][row])

    def find(self, path: str) -> Pixels | None:
        """Read a prepared photo (S, S, 3); None if it is not in the cache or could not be decoded."""
        return self.read(self.rows[cache_key(path)]) if self.holds(path) else None

    def size_of(self, path: str) -> PhotoSize | None:
        """Return the sizes of a photo and its face; None if they are not recorded, as for all crops but "face"."""
        if not self.has_sizes or not self.holds(path):
            return None
        return self.entry(self.rows[cache_key(path)])

    def chunks_of(self, paths: Sequence[str]) -> npt.NDArray[np.int64] | None:
        """Return None: photos are read one by one."""
        return None

    def entry(self, row: int) -> Entry:
        """Return the facts of the photo in a row of the index; sizes are 0 where they are not recorded."""
        facts = self.index[row]
        if not facts["decoded"]:
            return None
        if not self.has_sizes:
            return PhotoSize(0, 0)
        return PhotoSize(int(facts["width"]), int(facts["height"]), float(facts["face"]))

    def read(self, row: int) -> Pixels:
        """Read the photo in a row of the index: (S, S, 3), not writable."""
        size = self.shape[1] * self.shape[2] * self.shape[3]
        begin = self._begin + row * size
        page = begin - begin % mmap.ALLOCATIONGRANULARITY
        with mmap.mmap(self._descriptor, begin - page + size, access=mmap.ACCESS_READ, offset=page) as window:
            return np.frombuffer(window[begin - page :], np.uint8).reshape(self.shape[1:])

    def stamps(self) -> dict[str, FileStamp]:
        """Return path -> stamp at the time of preparation, in the order of the rows."""
        facts = zip(self.rows, self.index["size"].tolist(), self.index["changed"].tolist(), strict=True)
        return {path: FileStamp(size, changed) for path, size, changed in facts}


def cached_photos(
    paths: Sequence[str],
    spec: TransformSpec,
    *,
    root: Path,
    folder: Path,
    workers: int | None = None,
    progress: bool = True,
) -> PhotoCache:
    """Open the cache of these photos, after preparing the ones that are missing or have changed.

    If several processes ask for the same photos, one decodes them and the others wait. A photo that cannot be decoded
    stays out of the cache, and decoding it later raises the error. torch's global generator is not used.

    Args:
        paths: photos.
        spec: crop and size; normalisation does not matter.
        root: folder of the photos. It determines the cache file, which all runs on the folder extend.
        folder: folder of the cache file.
        workers: number of decoding processes; 0: this process; None: one per core, fewer for few photos.
        progress: show a progress bar on stderr.

    Raises:
        CacheError: there is not enough disk space, or the file cannot be written.
    """
    file = folder / cache_file_name(root, spec)
    wanted = {cache_key(path): FileStamp.of(path) for path in paths}
    if (cache := _open_complete(file, wanted)) is not None:
        return cache
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(file.with_suffix(".lock"), file):
            return _open_complete(file, wanted) or _build(file, wanted, spec, workers, progress)
    except OSError as error:
        reason = error.strerror or str(error).strip().splitlines()[-1]  # a worker's message follows its traceback
        raise CacheError(
            f"cannot write the photo cache {file} ({reason}); set data.cache_dir to another folder, or data.cache=off"
        ) from error


def cache_file_name(root: Path, spec: TransformSpec) -> str:
    """Return folder name, image size, and a digest of everything that determines the pixels."""
    root = root.resolve()
    determining: tuple[object, ...] = (FORMAT, PIL.__version__, str(root), spec.crop_height, spec.crop_width, spec.size)
    if spec.crop != "centre" or spec.keep_aspect:
        determining += (spec.crop, spec.share_height, spec.share_width, spec.keep_aspect)
    if spec.crop == "face":
        determining += (FACE_FORMAT, MODEL_SHA256, LONG_SIDES, UNCERTAIN_SCORE, spec.margin)
    return f"{root.name}-{spec.size}px-{hashlib.sha256(repr(determining).encode()).hexdigest()[:12]}.npy"


def _open(file: Path) -> PhotoCache | None:
    try:
        return PhotoCache(file)
    except (OSError, ValueError):
        return None


def _open_complete(file: Path, wanted: Mapping[str, FileStamp]) -> PhotoCache | None:
    """Open the cache if it has all wanted photos with their current stamps."""
    cache = _open(file)
    return cache if cache is not None and wanted.items() <= cache.stamps().items() else None


@contextmanager
def _locked(lock: Path, file: Path) -> Iterator[None]:
    """Hold the lock for the block; log once if another process has it, and wait."""
    lock.touch()
    report = partial(log.info, "photo cache: another process prepares %s; waiting for it", file)
    with wait_for_lock(lock, poll=POLL_SECONDS, on_wait=report):
        yield


def _build(
    file: Path, wanted: Mapping[str, FileStamp], spec: TransformSpec, workers: int | None, progress: bool
) -> PhotoCache:
    """Write a new file with the old one's unchanged photos and the missing ones, then replace the old file."""
    started, old = perf_counter(), _open(file)
    known = {} if old is None else old.stamps()
    kept = {path: stamp for path, stamp in known.items() if stamp == (wanted.get(path) or FileStamp.of(path))}
    stamps = {**kept, **wanted}
    missing = list(stamps)[len(kept) :]
    for leftover in file.parent.iterdir():
        if leftover.name.startswith(f".{file.name}."):  # from a killed process
            leftover.unlink()
    _check_disk_space(file.parent, len(stamps) * spec.size**2 * 3)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        begin, entries = _begin_draft(draft, stamps, old, list(kept), spec)
        entries += _fill(DraftChunks(draft, begin, len(kept), tuple(missing), spec), workers, progress)
        with draft.open("r+b") as stream:
            write_index(stream, stamps, entries, spec)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    size, seconds = file.stat().st_size, perf_counter() - started
    log.info("photo cache: %d photos prepared in %.1f s, kept in %s (%.2f GB)", len(missing), seconds, file, size / 1e9)
    return PhotoCache(file)


def _check_disk_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        raise CacheError(
            f"the photo cache needs {needed / 1e9:.1f} GB in {folder} and {SPARE / 1e9:.1f} GB to spare, found "
            f"{free / 1e9:.1f} GB free; free some, set data.cache_dir to another disk, or data.cache=off"
        )


def write_index(
    stream: BinaryIO, stamps: Mapping[str, FileStamp], entries: Sequence[Entry], spec: TransformSpec
) -> int:
    """Write everything before the photos; its length depends on the paths and the crop alone, not on `entries`.

    Returns:
        The offset of the photos in bytes; row i of `size` x `size` x 3 bytes belongs to the i-th path.
    """
    longest = max(len(os.fsencode(path)) for path in stamps)
    types = [("path", f"S{longest}"), ("size", "<i8"), ("changed", "<i8"), ("decoded", "?")]
    sized = spec.crop == "face"
    facts = [
        (os.fsencode(path), *stamp, entry is not None, *((entry or PhotoSize(0, 0)) if sized else ()))
        for (path, stamp), entry in zip(stamps.items(), entries, strict=True)
    ]
    npy.write_array(stream, np.array(facts, dtype=[*types, *SIZE_FIELDS] if sized else types), allow_pickle=False)
    shape = (len(facts), spec.size, spec.size, 3)
    npy.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.tell()


def _begin_draft(
    draft: Path, stamps: Mapping[str, FileStamp], old: PhotoCache | None, kept: Sequence[str], spec: TransformSpec
) -> tuple[int, list[Entry]]:
    """Create a file of the final size with the kept photos.

    Returns:
        The offset of the photos in bytes, and the entries of the kept photos.
    """
    entries: list[Entry] = []
    with draft.open("wb") as stream:
        begin = write_index(stream, stamps, [None] * len(stamps), spec)
        for path in kept:
            assert old is not None
            row = old.rows[path]
            entries.append(old.entry(row))
            stream.write(old.read(row).tobytes())
        stream.truncate(begin + len(stamps) * spec.size**2 * 3)
    return begin, entries


@dataclass(frozen=True)
class DraftChunks(Dataset[list[Entry]]):
    """Dataset whose item i prepares chunk i of the photos, writes them to the draft, and returns their entries.

    Attributes:
        draft: the file; its photos start at byte `begin`.
        first: the row of the first path.
        paths: photos, in the order of their rows.
        spec: crop and size.
    """

    draft: Path
    begin: int
    first: int
    paths: tuple[str, ...]
    spec: TransformSpec

    def __len__(self) -> int:
        return -(-len(self.paths) // CHUNK)

    def __getitem__(self, chunk: int) -> list[Entry]:
        start, entries = chunk * CHUNK, list[Entry]()
        with self.draft.open("r+b") as stream:
            for row, path in enumerate(self.paths[start : start + CHUNK], self.first + start):
                try:
                    (image,), size = read_prepared(path, [self.spec])
                except PhotoError:
                    entries.append(None)
                    continue
                pixels = image.tobytes()
                stream.seek(self.begin + row * len(pixels))
                stream.write(pixels)
                entries.append(size)
        return entries


def _fill(chunks: DraftChunks, workers: int | None, progress: bool) -> list[Entry]:
    """Prepare all photos behind a progress bar, and return their entries."""
    if workers is None:
        workers = min(share_of_cores(), len(chunks.paths) // PHOTOS_PER_WORKER)
    loader = DataLoader(
        chunks,
        batch_size=None,
        num_workers=workers if workers > 1 else 0,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # its own: a run must not depend on whether it found a cache
    )
    console = Console(stderr=True)
    shown = progress and console.is_terminal
    bar = track(loader, "preparing photos", len(chunks), console=console, transient=True, disable=not shown)
    with worker_errors_in_one_line():
        return [entry for chunk in bar for entry in chunk]


def _start_worker(worker: int) -> None:
    leave_signals_to_the_trainer(worker)
    keep_memory()
