"""Photos decoded, cropped and resized once, by whichever process comes first, for all runs on them."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

import PIL
import torch
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from mask_lightning.data.cache_file import PhotoCache, Stamp, key_of, write_index
from mask_lightning.data.images import open_photo
from mask_lightning.data.loading import worker_errors_in_one_line
from mask_lightning.data.transforms import TransformSpec, eval_pipeline
from mask_lightning.errors import CacheError, PhotoError
from mask_lightning.utils.files import hold
from mask_lightning.utils.system import keep_memory, share_of_cores

log = logging.getLogger(__name__)

FORMAT = 1  # raised when the same spec would give other pixels
CHUNK = 32  # photos that a worker takes at once: few enough for a bar that moves
PHOTOS_PER_WORKER = 4 * CHUNK  # fewer do not repay its start
SPARE = 2**30  # bytes left to checkpoints
SECONDS_BETWEEN_LOOKS = 0.2  # at a lock


def cached_photos(
    paths: Sequence[str],
    spec: TransformSpec,
    *,
    root: Path,
    folder: Path,
    workers: int | None = None,
    progress: bool = True,
) -> PhotoCache:
    """The cache of these photos, after decoding those that it lacks or that have changed since.

    Of processes that ask for the same at the same time one decodes and the others wait. A photo that cannot be decoded
    is left out: whoever wants it meets the error then. Draws nothing from torch's global generator.

    Args:
        paths: photos.
        spec: what becomes of each; normalisation does not matter.
        root: names the file, so that runs on other photos of this folder add theirs to it.
        folder: where the file lies.
        workers: processes that decode; 0: this one; None: one per core, fewer for few photos.
        progress: whether to show a bar on stderr.

    Raises:
        CacheError: there is no room for it, or it cannot be written.
    """
    file = folder / file_name(root, spec)
    wanted = {key_of(path): Stamp.of(path) for path in paths}
    if (cache := _open_complete(file, wanted)) is not None:
        return cache
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(file.with_suffix(".lock"), file):
            return _open_complete(file, wanted) or _build(file, wanted, spec, workers, progress)
    except OSError as error:
        reason = error.strerror or str(error).strip().splitlines()[-1]  # of a worker: below its traceback
        raise CacheError(
            f"cannot write the photo cache {file} ({reason}); set data.cache_dir to another folder, or data.cache=off"
        ) from error


def file_name(root: Path, spec: TransformSpec) -> str:
    """The folder's name and the photos' side, for people, and a digest of all that decides the pixels."""
    root = root.resolve()
    decides = (FORMAT, PIL.__version__, str(root), spec.crop_height, spec.crop_width, spec.size)
    return f"{root.name}-{spec.size}px-{hashlib.sha256(repr(decides).encode()).hexdigest()[:12]}.npy"


def _open(file: Path) -> PhotoCache | None:
    try:
        return PhotoCache(file)
    except (OSError, ValueError):
        return None


def _open_complete(file: Path, wanted: Mapping[str, Stamp]) -> PhotoCache | None:
    """The cache, where it has all photos that are wanted as they are now."""
    cache = _open(file)
    return cache if cache is not None and wanted.items() <= cache.stamps().items() else None


@contextmanager
def _alone(lock: Path, file: Path) -> Iterator[None]:
    """Hold the lock for the block; where another process has it, wait, and say so."""
    lock.touch()
    told = False
    while True:
        with hold(lock) as got:
            if got:
                yield
                return
        if not told:
            log.info("photo cache: another process prepares %s; waiting for it", file)
        told = True
        sleep(SECONDS_BETWEEN_LOOKS)


def _build(
    file: Path, wanted: Mapping[str, Stamp], spec: TransformSpec, workers: int | None, progress: bool
) -> PhotoCache:
    """Write the file anew, beside the old one: what of that is still true, and the rest decoded."""
    started, old = perf_counter(), _open(file)
    known = {} if old is None else old.stamps()
    kept = {path: stamp for path, stamp in known.items() if stamp == (wanted.get(path) or Stamp.of(path))}
    stamps = {**kept, **wanted}
    missing = list(stamps)[len(kept) :]
    for left in file.parent.iterdir():
        if left.name.startswith(f".{file.name}."):  # by a process that was killed
            left.unlink()
    _check_room(file.parent, len(stamps) * spec.size**2 * 3)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        begin, decoded = _begin_draft(draft, stamps, old, list(kept), spec.size)
        decoded += _fill(Filling(draft, begin, len(kept), tuple(missing), spec), workers, progress)
        with draft.open("r+b") as stream:
            write_index(stream, stamps, decoded, spec.size)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    size, seconds = file.stat().st_size, perf_counter() - started
    log.info("photo cache: %d photos prepared in %.1f s, kept in %s (%.2f GB)", len(missing), seconds, file, size / 1e9)
    return PhotoCache(file)


def _begin_draft(
    draft: Path, stamps: Mapping[str, Stamp], old: PhotoCache | None, kept: Sequence[str], side: int
) -> tuple[int, list[bool]]:
    """A file of its full size with the photos that are kept; where photos begin, and which of the kept are there."""
    decoded: list[bool] = []
    with draft.open("wb") as stream:
        begin = write_index(stream, stamps, [False] * len(stamps), side)
        for path in kept:
            assert old is not None
            row = old.rows[path]
            decoded.append(bool(old.index["decoded"][row]))
            stream.write(old.read(row).tobytes())
        stream.truncate(begin + len(stamps) * side**2 * 3)
    return begin, decoded


@dataclass(frozen=True)
class Filling(Dataset[list[bool]]):
    """Chunk i of the photos, decoded and written to their rows of the draft -> which of them could be decoded.

    Attributes:
        draft: the file; its photos start at byte `begin`.
        first: the row of the first path.
        paths: photos, in the order of their rows.
        spec: what becomes of each.
    """

    draft: Path
    begin: int
    first: int
    paths: tuple[str, ...]
    spec: TransformSpec

    def __len__(self) -> int:
        return -(-len(self.paths) // CHUNK)

    def __getitem__(self, chunk: int) -> list[bool]:
        prepare, start = eval_pipeline(self.spec), chunk * CHUNK
        decoded = []
        with self.draft.open("r+b") as stream:
            for row, path in enumerate(self.paths[start : start + CHUNK], self.first + start):
                try:
                    pixels = prepare(open_photo(path)).tobytes()
                except PhotoError:
                    decoded.append(False)
                    continue
                stream.seek(self.begin + row * len(pixels))
                stream.write(pixels)
                decoded.append(True)
        return decoded


def _fill(filling: Filling, workers: int | None, progress: bool) -> list[bool]:
    """Decode all photos, behind a progress bar; which of them could be decoded."""
    if workers is None:
        workers = min(share_of_cores(), len(filling.paths) // PHOTOS_PER_WORKER)
    loader = DataLoader(
        filling,
        batch_size=None,
        num_workers=workers if workers > 1 else 0,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # its own: a run must not depend on whether it found a cache
    )
    console = Console(stderr=True)
    shown = progress and console.is_terminal
    chunks = track(loader, "preparing photos", len(filling), console=console, transient=True, disable=not shown)
    with worker_errors_in_one_line():
        return [known for chunk in chunks for known in chunk]


def _start_worker(_: int) -> None:
    keep_memory()


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        raise CacheError(
            f"the photo cache needs {needed / 1e9:.1f} GB in {folder} and {SPARE / 1e9:.1f} GB to spare, found "
            f"{free / 1e9:.1f} GB free; free some, set data.cache_dir to another disk, or data.cache=off"
        )
