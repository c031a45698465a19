"""Every photo really decoded, hashed where it is decoded, on all cores: only a few bytes per photo come back."""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mask_lightning.data.images import decode_photo
from mask_lightning.utils.system import keep_memory, share_of_cores

HASH_SIDE = 16  # bits per side of the perceptual hash
HASH_BITS = HASH_SIDE**2
CHUNK = 64  # photos that a worker takes at once: hiding the queue's cost, small enough for a bar that moves
PHOTOS_PER_WORKER = 4 * CHUNK  # a worker takes half a second to start, which fewer photos do not repay


@dataclass(frozen=True)
class PhotoFacts:
    """What decoding one photo told; `error` says why it could not be, and then the rest is empty.

    Attributes:
        width, height: upright, in pixels.
        mode, format: as stored, Pillow's names.
        digest: of the file's bytes.
        likeness: perceptual hash, HASH_BITS packed into bytes.
    """

    path: str
    error: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    format: str = ""
    digest: str = ""
    likeness: bytes = b""

    @property
    def is_missing(self) -> bool:
        """Whether there is no such file, rather than one that cannot be decoded."""
        return bool(self.error) and not Path(self.path).exists()


def examine_photos(paths: Sequence[str], *, workers: int | None = None) -> list[PhotoFacts]:
    """Decode all photos and tell of each, in the order of `paths`, behind a progress bar.

    Args:
        paths: photos.
        workers: processes; 0: this one; None: one per core, fewer for few photos.
    """
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    if workers is None:
        workers = min(share_of_cores(), len(paths) // PHOTOS_PER_WORKER)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("decoding photos", total=len(paths))
        facts: list[PhotoFacts] = []
        for chunk in _map_chunks(chunks, workers):
            facts += chunk
            progress.advance(task, len(chunk))
    return facts


def examine(path: str) -> PhotoFacts:
    """Decode one photo."""
    try:
        decoded = decode_photo(path)
        digest = hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()
        likeness = perceptual_hash(decoded.photo)
        return PhotoFacts(path, "", *decoded.photo.size, decoded.mode, decoded.format, digest, likeness)
    except Exception as error:  # whatever a decoder does with broken bytes, the next photo has its turn
        return PhotoFacts(path, str(error) or repr(error))


def perceptual_hash(photo: Image.Image) -> bytes:
    """The DCT hash of an RGB photo, HASH_BITS packed into bytes; like photos differ in few bits."""
    # Measured on faces: shrinking by a whole factor first costs a quarter of the time and no bit that matters.
    small = photo.reduce(max(1, min(photo.size) // (3 * HASH_SIDE))).convert("L")
    return np.packbits(imagehash.phash(small, hash_size=HASH_SIDE, highfreq_factor=2).hash).tobytes()


def _examine_chunk(paths: Sequence[str]) -> list[PhotoFacts]:
    return [examine(path) for path in paths]


def _map_chunks(chunks: Sequence[Sequence[str]], workers: int) -> Iterator[list[PhotoFacts]]:
    if workers < 1:
        yield from map(_examine_chunk, chunks)
        return
    # Not fork: the progress bar and BLAS run threads, whose locks a forked child may find taken for ever.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        yield from pool.map(_examine_chunk, chunks)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends the pool
    keep_memory()
