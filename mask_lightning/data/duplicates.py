"""People who share photos: copies of files, and photos that were saved again, found before a split.

A photo is compared by a small grey thumbnail and its perceptual hash. Both are kept beside the photo cache, so that
each photo is looked at once.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track

from mask_lightning.data.auditing.photos import HASH_BITS, perceptual_hash
from mask_lightning.data.cache import FileStamp, cache_key
from mask_lightning.data.families import join_families
from mask_lightning.data.images import open_photo
from mask_lightning.utils.system import share_of_cores

log = logging.getLogger(__name__)

# Measured: saving a photo again (JPEG of quality 20 to 90, PNG, half size) changes at most 18 bits and the thumbnail by
# 1 grey level; among 6,000 photos of FairFace the two most similar people differ in more than 20 bits and 9 levels.
SAME_BITS = 16  # largest number of different bits of HASH_BITS
SAME_GREY = 3.0  # largest mean difference of two thumbnails, in grey levels
LEAST_CONTRAST = 4.0  # standard deviation of a thumbnail; with less, a photo has nothing to be recognised by
SIDE = 64  # pixels to which a photo is resized
THUMBNAIL = 16  # pixels per side
BLOCK = 256  # rows that are compared at once
MAX_NAMED = 5  # people in a line of the log

Sketches = npt.NDArray[Any]  # structured: path, size, changed, decoded, bits (HASH_BITS // 8,), grey (16, 16)
Ints = npt.NDArray[np.int64]
FIELDS = [
    ("size", "<i8"),
    ("changed", "<i8"),
    ("decoded", "?"),
    ("bits", "u1", (HASH_BITS // 8,)),
    ("grey", "u1", (THUMBNAIL, THUMBNAIL)),
]


def find_shared_photos(table: pd.DataFrame, *, root: Path, folder: Path | None, progress: bool = True) -> Ints:
    """Find the pairs of rows of different families that show one photo.

    Args:
        table: a sample table; photos that cannot be decoded are left out.
        root: folder of the photos.
        folder: folder in which thumbnails and hashes are kept for the next run; None to keep nothing.
        progress: show a progress bar on stderr.

    Returns:
        (P, 2), row numbers.
    """
    sketches = read_sketches(table["path"].tolist(), root=root, folder=folder, progress=progress)
    return match_sketches(sketches, pd.factorize(table["family"])[0].astype(np.int64))


def describe_sharing(table: pd.DataFrame, pairs: Ints, *, people_known: bool = True) -> str:
    """Name the people of the pairs: `12 people share photos with others (a, b, c, d, e, ...)`.

    Args:
        table: a sample table.
        pairs: result of `find_shared_photos`.
        people_known: False if each photo counts as a person.
    """
    people = sorted(set(table["person_id"].iloc[np.unique(pairs)].astype(str)))
    rest = ", ..." if len(people) > MAX_NAMED else ""
    noun = "people share photos with others" if people_known else "photos look like others"
    return f"{len(people)} {noun} ({', '.join(people[:MAX_NAMED])}{rest})"


def link_families(families: pd.Series[str], pairs: Ints) -> pd.Series[str]:
    """Join the families of each pair of rows (P, 2); see `data.families.join_families`."""
    ends = families.iloc[pairs.T.ravel()].reset_index(drop=True)
    number = pd.Series(np.tile(np.arange(len(pairs)), 2).astype(str))
    joined = dict(zip(ends, join_families(ends, number), strict=True))
    return families.map(lambda family: joined.get(family, family))


def match_sketches(sketches: Sketches, people: Ints) -> Ints:
    """Find the pairs of rows of different people with equal or nearly equal photos.

    Args:
        sketches: result of `read_sketches`, (N,).
        people: (N,), a number per person or family.

    Returns:
        (P, 2), row and later row, in ascending order.
    """
    pairs = {*_find_equal_files(sketches, people), *_find_saved_again(sketches, people)}
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def _find_equal_files(sketches: Sketches, people: Ints) -> list[tuple[int, int]]:
    """Find files with equal bytes that can be decoded; bytes are read only if size, hash and thumbnail are equal."""
    alike: dict[tuple[int, bytes, bytes], list[int]] = {}
    for i in np.flatnonzero(sketches["decoded"]).tolist():
        key = int(sketches["size"][i]), sketches["bits"][i].tobytes(), sketches["grey"][i].tobytes()
        alike.setdefault(key, []).append(i)
    pairs = []
    for rows in alike.values():
        if len(set(people[rows])) < 2:
            continue
        first: dict[str, int] = {}
        for i in rows:
            one = first.setdefault(_digest(os.fsdecode(sketches["path"][i])), i)
            if people[one] != people[i]:
                pairs.append((one, i))
    return pairs


def _digest(path: str) -> str:
    return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()


def _find_saved_again(sketches: Sketches, people: Ints) -> list[tuple[int, int]]:
    """Find pairs by hash and thumbnail, among photos of similar mean brightness."""
    grey = sketches["grey"].reshape(len(sketches), -1).astype(np.float32)
    usable = np.flatnonzero(sketches["decoded"] & (grey.std(axis=1) >= LEAST_CONTRAST))
    usable = usable[np.argsort(grey[usable].mean(axis=1), kind="stable")]
    mean = grey[usable].mean(axis=1)
    bits = np.unpackbits(sketches["bits"][usable], axis=1)
    signs = np.where(bits, np.float32(1), np.float32(-1))
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(usable), BLOCK):
        last = min(start + BLOCK, len(usable)) - 1
        stop = int(np.searchsorted(mean, mean[last] + SAME_GREY, side="right"))
        # A product of rows of signs is bits - 2 * difference: exact in float32.
        product = signs[start : last + 1] @ signs[start:stop].T
        row, other = np.nonzero(product >= HASH_BITS - 2 * SAME_BITS)
        later = row < other
        row, other = usable[start + row[later]], usable[start + other[later]]
        different = people[row] != people[other]
        row, other = row[different], other[different]
        close = np.abs(grey[row] - grey[other]).mean(axis=1) <= SAME_GREY
        row, other = np.minimum(row, other)[close], np.maximum(row, other)[close]
        pairs += zip(row.tolist(), other.tolist(), strict=True)
    return pairs


def read_sketches(paths: Sequence[str], *, root: Path, folder: Path | None, progress: bool = True) -> Sketches:
    """Return thumbnail and hash of each photo, (N,) in the order of `paths`; computes what is not kept in `folder`."""
    keys = [os.fsencode(cache_key(path)) for path in paths]
    stamps = [FileStamp.of(path) for path in paths]
    file = None if folder is None else folder / sketch_file_name(root)
    kept = {} if file is None else _read_kept(file)
    known = [i for i, (key, stamp) in enumerate(zip(keys, stamps, strict=True)) if _is_current(kept.get(key), stamp)]
    missing = sorted(set(range(len(paths))) - set(known))
    longest = max((len(key) for key in keys), default=1)
    sketches = np.zeros(len(paths), [("path", f"S{longest}"), *FIELDS])
    sketches["path"] = keys
    for i, stamp in enumerate(stamps):
        sketches["size"][i], sketches["changed"][i] = stamp
    for i in known:
        for name in ("decoded", "bits", "grey"):
            sketches[name][i] = kept[keys[i]][name]
    if missing:
        made = _sketch_all([paths[i] for i in missing], progress=progress)
        for i, sketch in zip(missing, made, strict=True):
            if sketch is not None:
                sketches["bits"][i], sketches["grey"][i], sketches["decoded"][i] = *sketch, True
        if file is not None:
            _keep(file, sketches, kept)
    return sketches


def sketch_file_name(root: Path) -> str:
    """Return folder name and a digest of the folder and of everything that determines the sketches."""
    determining = (1, str(root.resolve()), HASH_BITS, SIDE, THUMBNAIL)
    return f"{root.name}-{hashlib.sha256(repr(determining).encode()).hexdigest()[:12]}.thumbnails"


def _is_current(row: Any, stamp: FileStamp) -> bool:
    return row is not None and (int(row["size"]), int(row["changed"])) == tuple(stamp)


def _read_kept(file: Path) -> dict[bytes, Any]:
    try:
        rows = np.load(file, allow_pickle=False)
        return {bytes(row["path"]): row for row in rows}
    except (OSError, ValueError, IndexError, EOFError):
        return {}


def _keep(file: Path, sketches: Sketches, kept: dict[bytes, Any]) -> None:
    """Write the sketches, and kept ones of other photos below the root; without room for them, go on."""
    present = set(sketches["path"].tolist())
    others = [row for path, row in kept.items() if path not in present]
    longest = max(len(path) for path in [*present, *(row["path"] for row in others)])
    rows = np.zeros(len(sketches) + len(others), [("path", f"S{longest}"), *FIELDS])
    rows[: len(sketches)] = sketches
    for i, row in enumerate(others, len(sketches)):
        rows[i] = tuple(row)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.with_name(f".{file.name}.{os.getpid()}").open("wb") as stream:
            np.save(stream, rows, allow_pickle=False)
        Path(stream.name).replace(file)
    except OSError as error:
        log.debug("cannot keep the thumbnails of the photos in %s: %s", file, error)


def _sketch_all(
    paths: Sequence[str], *, progress: bool
) -> list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]] | None]:
    """Sketch all photos behind a progress bar; threads suffice, because Pillow releases the GIL while it decodes."""
    console = Console(stderr=True)
    with ThreadPoolExecutor(max_workers=min(8, share_of_cores())) as pool:
        shown = progress and console.is_terminal
        bar = track(
            pool.map(_sketch, paths), "comparing photos", len(paths), console=console, transient=True, disable=not shown
        )
        return list(bar)


def _sketch(path: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]] | None:
    """Return hash (HASH_BITS // 8,) and thumbnail (16, 16) of a photo; None if it cannot be decoded."""
    try:
        # First to one size: perceptual_hash would reduce photos of different sizes by different factors.
        photo = _open_small(path).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        bits = np.frombuffer(perceptual_hash(photo), np.uint8)
        grey = photo.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
        return bits, np.asarray(grey)
    except Exception:  # whatever a decoder raises: broken photos are reported where they are prepared
        return None


def _open_small(path: str) -> Image.Image:
    """Decode a photo upright; a JPEG at a fraction of its size, which costs a tenth of the time."""
    with Image.open(path) as image:
        if image.format == "JPEG":
            image.draft("RGB", (2 * SIDE, 2 * SIDE))
            return ImageOps.exif_transpose(image).convert("RGB")
    return open_photo(path)
