"""Decode and hash every photo on all cores, and find copies and near-duplicates by the hashes.

Imports little, because every process that decodes photos imports it.
"""

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
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mask_lightning.data.images import decode_photo
from mask_lightning.utils.system import keep_memory, share_of_cores

HASH_SIDE = 16  # bits per side of the perceptual hash
HASH_BITS = HASH_SIDE**2
CHUNK = 64  # photos per item of the workers' queue, small enough for a progress bar that moves
PHOTOS_PER_WORKER = 4 * CHUNK  # fewer are decoded sooner than a worker starts, which takes half a second

BLOCK = 128  # rows compared with all others at once: 10 MB for 19,000 photos, more if many are alike
MAX_PAIRS = 1_000  # listed pairs; nobody looks at more

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PhotoFacts:
    """Result of decoding one photo; if `error` gives a reason why it failed, the other fields are empty.

    Attributes:
        path: absolute.
        error: "" for a photo that can be decoded.
        width, height: in pixels, upright.
        mode, format: as stored, by Pillow's names.
        digest: hash of the file's bytes.
        phash: perceptual hash, HASH_BITS packed into bytes.
    """

    path: str
    error: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    format: str = ""
    digest: str = ""
    phash: bytes = b""

    @property
    def is_missing(self) -> bool:
        """True if there is no such file, False if it cannot be decoded."""
        return bool(self.error) and not Path(self.path).exists()


def examine_photos(paths: Sequence[str], *, workers: int | None = None) -> list[PhotoFacts]:
    """Decode and hash all photos behind a progress bar, in the order of `paths`.

    Args:
        paths: photos.
        workers: number of processes; 0: this process; None: one per core, fewer for few photos.
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
    """Decode and hash one photo."""
    try:
        decoded = decode_photo(path)
        digest = hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()
        phash = perceptual_hash(decoded.photo)
        return PhotoFacts(path, "", *decoded.photo.size, decoded.mode, decoded.format, digest, phash)
    except Exception as error:  # whatever a decoder raises for one file, the audit continues with the next
        return PhotoFacts(path, str(error) or repr(error))


def perceptual_hash(photo: Image.Image) -> bytes:
    """Compute the DCT hash of an RGB photo, HASH_BITS packed into bytes; similar photos differ in few bits."""
    # Measured on faces: reducing by an integer factor first takes a quarter of the time and changes no relevant bit.
    small = photo.reduce(max(1, min(photo.size) // (3 * HASH_SIDE))).convert("L")
    return np.packbits(imagehash.phash(small, hash_size=HASH_SIDE, highfreq_factor=2).hash).tobytes()


def _examine_chunk(paths: Sequence[str]) -> list[PhotoFacts]:
    return [examine(path) for path in paths]


def _map_chunks(chunks: Sequence[Sequence[str]], workers: int) -> Iterator[list[PhotoFacts]]:
    if workers < 1:
        yield from map(_examine_chunk, chunks)
        return
    # Not fork: a forked child may inherit a locked lock from the threads of the progress bar or of BLAS.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        yield from pool.map(_examine_chunk, chunks)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends the pool
    keep_memory()


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of photos whose perceptual hashes differ in few bits.

    Attributes:
        pairs: (P, 3) with P at most MAX_PAIRS, the most similar pairs of different people: row, later row, different
            bits.
        across: number of pairs of different people.
        within: number of pairs of one person.
    """

    pairs: Ints
    across: int
    within: int


def find_near_duplicates(hashes: npt.NDArray[np.uint8], people: Ints, *, max_bits: int) -> NearDuplicates:
    """Compare all pairs of hashes.

    Args:
        hashes: (N, B), with B * 8 bits each.
        people: (N,), a number per person.
        max_bits: largest number of different bits in a pair of near-duplicates.

    Example:
        >>> hashes = np.array([[0, 0], [0, 1], [255, 255]], dtype=np.uint8)
        >>> find_near_duplicates(hashes, np.array([0, 1, 2]), max_bits=1).pairs.tolist()
        [[0, 1, 1]]
    """
    # Hashes that differ in few bits are found from every second bit, at half the cost.
    step = 2 if max_bits <= hashes.shape[1] else 1
    signs = np.where(np.unpackbits(hashes, axis=1)[:, ::step], np.float32(1), np.float32(-1))
    kept, across, within = np.empty((0, 3), np.int64), 0, 0
    for start in range(0, len(signs), BLOCK):
        # A product of rows of signs is bits - 2 * difference: exact in float32, and BLAS is the fastest popcount.
        product = signs[start : start + BLOCK] @ signs[start:].T
        row, other = np.nonzero(product >= signs.shape[1] - 2 * max_bits)
        row, other = start + row[row < other], start + other[row < other]
        difference = np.unpackbits(hashes[row] ^ hashes[other], axis=1).sum(axis=1, dtype=np.int64)
        row, other, difference = (each[difference <= max_bits] for each in (row, other, difference))
        different = people[row] != people[other]
        across, within = across + int(different.sum()), within + int((~different).sum())
        pairs = np.concatenate([kept, np.stack([row, other, difference], axis=1)[different]])
        kept = pairs[np.argsort(pairs[:, 2], kind="stable")[:MAX_PAIRS]]
    return NearDuplicates(kept, across, within)


def find_copies(digests: Sequence[str]) -> list[Ints]:
    """Return the positions of each group of two or more equal digests, in order of first appearance.

    Example:
        >>> [group.tolist() for group in find_copies(["x", "y", "x"])]
        [[0, 2]]
    """
    groups: dict[str, list[int]] = {}
    for position, digest in enumerate(digests):
        groups.setdefault(digest, []).append(position)
    return [np.asarray(rows, np.int64) for rows in groups.values() if len(rows) > 1]
