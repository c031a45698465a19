"""Packed photos: prepared photos, targets and split in litdata's chunks, in a folder or below an address in S3.

    packed.json     how the photos were prepared and split, and size and SHA-256 of the other files; written last
    photos.parquet  the sample table, a row per photo in the order of the chunks
    index.json      litdata's index
    *.bin           litdata's chunks of `per_chunk` photos: people in random order, those to train on first

Each photo in a chunk repeats its row, person and side and has a checksum. They are compared whenever it is read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.data.prepared import PhotoSize
from mask_lightning.data.s3 import EXTRA, Bucket, FileFacts, LocalCopies, hash_file
from mask_lightning.data.samplers import MIXED_CHUNKS
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.errors import PackedError, SplitError, one_line
from mask_lightning.utils.files import find_path, is_remote, location, writing_atomically

MANIFEST, TABLE, INDEX = "packed.json", "photos.parquet", "index.json"
FORMAT = 1
FACTS = {name: f"packed/{name}" for name in ("photo", "width", "height", "face")}  # columns beside the sample table's
CHUNKS_IN_USE = MIXED_CHUNKS + 4  # that local copies must have room for: of training and validation, and downloads
PLAIN_FORMATS = r"str|int|numpy|no_header_numpy:\d+"  # of litdata's serializers
SPARE = 2**30  # bytes of the disk that stay free for checkpoints
OPTIONS = {"val_fraction": "data.val_fraction", "folds": "data.folds", "fold": "data.fold", "seed": "data.split_seed"}


class ChunkFile(NamedTuple):
    """File name of a chunk, its size in bytes and its SHA-256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Content of packed.json.

    Attributes:
        pack: identity of the photos and their order, repeated with each photo.
        photos: number of photos.
        per_chunk: photos in each chunk but the last.
        size: side of the prepared photos in pixels.
        crop: arguments of TransformSpec that determine the pixels, beside the size.
        space: class names by task.
        strata: tasks that describe a person.
        people_known: see `data.sources.LabelledPhotos`.
        split: options of the split, by the names of OPTIONS.
        table, index: size and SHA-256 of photos.parquet and index.json.
        chunks: files, in the order of the rows.
        format: version of this file.
    """

    pack: str
    photos: int
    per_chunk: int
    size: int
    crop: dict[str, Any]
    space: dict[str, list[str]]
    strata: list[str]
    people_known: bool
    split: dict[str, Any]
    table: FileFacts
    index: FileFacts
    chunks: list[ChunkFile]
    format: int = FORMAT

    def to_json(self) -> bytes:
        """Return the content of the file."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    @classmethod
    def parse(cls, text: bytes, where: str) -> Manifest:
        """Read the content of the file. Raises PackedError if it is none, or of another version."""
        try:
            plain = json.loads(text)
            version = plain["format"]
            if version == FORMAT:
                found = cls(
                    **{
                        **plain,
                        "table": FileFacts(*plain["table"]),
                        "index": FileFacts(*plain["index"]),
                        "chunks": [ChunkFile(*each) for each in plain["chunks"]],
                    }
                )
                if any(Path(chunk.name).name != chunk.name or chunk.name in (TABLE, INDEX) for chunk in found.chunks):
                    raise ValueError("a chunk in another folder")
                if found.photos <= 0 or len(found.chunks) != -(-found.photos // found.per_chunk):
                    raise ValueError(f"{found.photos} photos in {len(found.chunks)} chunks")
                return found
        except (ValueError, TypeError, KeyError) as error:
            raise PackedError(f"cannot read {where} ({one_line(str(error))}); pack the photos again") from error
        raise PackedError(f"expected format {FORMAT} in {where}, found {version}; pack the photos with this version")


def is_packed(root: Path) -> bool:
    """Return True for an address in S3 and for a folder with packed.json."""
    return is_remote(root) or (find_path(root) / MANIFEST).is_file()


def read_manifest(root: Path) -> Manifest:
    """Read packed.json of a folder or an address in S3.

    Raises:
        PackedError: there is none, or it cannot be read.
    """
    return _read_manifest(root)[0]


def _read_manifest(root: Path) -> tuple[Manifest, str]:
    """Return the manifest and its SHA-256."""
    if is_remote(root):
        text = Bucket(location(root)).read(MANIFEST)
    else:
        try:
            text = (find_path(root) / MANIFEST).read_bytes()
        except OSError as error:
            raise PackedError(
                f"expected packed photos in {root}, found no readable {MANIFEST} ({error.strerror}); pack them: "
                f"python -m mask_lightning.pack data.root=PHOTOS out={root}"
            ) from error
    return Manifest.parse(text, f"{location(root)}/{MANIFEST}"), hashlib.sha256(text).hexdigest()


def open_packed(root: Path, *, folder: Path, cache_gb: float) -> PackedPhotos:
    """Open packed photos, and check that table and index are those of packed.json.

    Args:
        root: folder or address in S3.
        folder: local folder below which copies of remote files are kept; chunks are copied when they are needed.
        cache_gb: bound of the copies of chunks, in gigabytes.

    Raises:
        PackedError: there are none, files are missing or damaged, the copies have no room, or the extra is missing.
    """
    require_litdata()
    manifest, digest = _read_manifest(root)
    if not is_remote(root):
        place = find_path(root).resolve()
        for name, size, _ in [(TABLE, *manifest.table), (INDEX, *manifest.index), *manifest.chunks]:
            _check_size(place / name, size)
        _check_content(place, manifest)
        return PackedPhotos(root, manifest, place)
    address = location(root).rstrip("/")
    place = folder / f"packed-{Path(address).name}-{hashlib.sha256((address + digest).encode()).hexdigest()[:12]}"
    bucket, files = Bucket(address), {name: FileFacts(size, digest) for name, size, digest in manifest.chunks}
    limit = _check_room(place, files, cache_gb)
    for name, facts in ((TABLE, manifest.table), (INDEX, manifest.index)):
        _copy(bucket, name, place / name, facts)
    _check_content(place, manifest)
    return PackedPhotos(root, manifest, place, LocalCopies(bucket, place, files, limit))


def _check_size(file: Path, size: int) -> None:
    found = file.stat().st_size if file.is_file() else None
    if found != size:
        what = "no such file" if found is None else f"{found:,} bytes"
        raise PackedError(f"expected {size:,} bytes in {file}, found {what}; pack the photos again, or copy them again")


def _check_content(place: Path, manifest: Manifest) -> None:
    for name, facts in ((TABLE, manifest.table), (INDEX, manifest.index)):
        if hash_file(place / name) != facts:
            raise PackedError(f"{place / name} is not the file that {MANIFEST} describes; pack the photos again")
    formats = json.loads((place / INDEX).read_bytes())["config"]["data_format"]
    if not all(re.fullmatch(PLAIN_FORMATS, each) for each in formats):  # litdata also unpickles, which executes code
        raise PackedError(
            f"expected arrays, numbers and text in {place / INDEX}, found {formats}; pack the photos again"
        )


def _check_room(place: Path, files: Mapping[str, FileFacts], cache_gb: float) -> int:
    """Create the folder of the copies, and return their limit in bytes. Raises PackedError if that is too much."""
    largest, total = max(each.size for each in files.values()), sum(each.size for each in files.values())
    limit, least = int(cache_gb * 1e9), CHUNKS_IN_USE * largest
    if limit < min(least, total + largest):
        raise PackedError(
            f"data.cache_gb={cache_gb:g} must hold {CHUNKS_IN_USE} chunks of {largest / 1e6:.1f} MB; set it to "
            f"{least / 1e9:.3g} or more, or pack with a smaller chunk_mb"
        )
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PackedError(f"cannot write to {place} ({error.strerror}); set data.cache_dir to another disk") from error
    present = sum(path.stat().st_size for path in place.glob("*.bin"))
    needed, free = min(limit, total) - present, shutil.disk_usage(place).free
    if needed + SPARE > free:
        raise PackedError(
            f"local copies of chunks may take {needed / 1e9:.1f} GB more in {place} and leave {SPARE / 1e9:.1f} GB, "
            f"found {free / 1e9:.1f} GB free; lower data.cache_gb, or set data.cache_dir to another disk"
        )
    return limit


def _copy(bucket: Bucket, name: str, path: Path, facts: FileFacts) -> None:
    if path.is_file() and path.stat().st_size == facts.size:
        return
    with writing_atomically(path) as stream:
        bucket.download(name, Path(stream.name), facts)


def require_litdata() -> None:
    """Raise PackedError, which names the extra, if litdata is not installed."""
    try:
        import litdata  # noqa: F401
    except ImportError:
        raise PackedError(f"packed photos need the package litdata, which is not installed; {EXTRA}") from None
    logging.getLogger("litdata").setLevel(logging.WARNING)  # remarks about its cache, which is not used


@dataclass(frozen=True)
class PackedPhotos:
    """Prepared photos in chunks, found by the paths of their sample table, as those of a `data.cache.PhotoCache`.

    Attributes:
        root: folder or address in S3.
        manifest: content of packed.json.
        place: local folder of table, index and chunks.
        copies: downloads chunks into `place`; None if all are there.
    """

    root: Path
    manifest: Manifest
    place: Path
    copies: LocalCopies | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("root", "manifest", "place", "copies")}

    @cached_property
    def _columns(self) -> pd.DataFrame:
        return pd.read_parquet(self.place / TABLE)

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Path -> row."""
        base = location(self.root)
        return {f"{base}/{photo}": row for row, photo in enumerate(self._columns[FACTS["photo"]])}

    @cached_property
    def _people_and_sides(self) -> tuple[list[str], list[str]]:
        columns = self._columns
        return columns["person_id"].fillna("").astype(str).tolist(), columns["side"].tolist()

    @cached_property
    def _sizes(self) -> npt.NDArray[np.float64]:
        """Width, height and face of each photo (N, 3)."""
        return self._columns[[FACTS[name] for name in ("width", "height", "face")]].to_numpy(np.float64)

    @cached_property
    def _chunks(self) -> Any:
        from litdata.streaming import StreamingDataset

        return StreamingDataset(str(self.place), batch_decode=False, max_pre_download=MIXED_CHUNKS)

    def sample_table(self) -> pd.DataFrame:
        """Return a row per photo in the order of the chunks, with `side`, and `bytes` of the photo's file."""
        table = self._columns.drop(columns=list(FACTS.values()))
        table.insert(0, "path", list(self._rows))
        return table

    def photo_list(self) -> pd.DataFrame:
        """Return `photo`, `path` and `person_id` of every photo as strings, as for photos to predict."""
        names = {"photo": self._columns[FACTS["photo"]].tolist(), "path": list(self._rows)}
        return pd.DataFrame({**names, "person_id": self._people_and_sides[0]})

    def require(self, spec: TransformSpec) -> None:
        """Raise PackedError if the photos were prepared otherwise than by `spec`."""
        plain, crop = spec.to_plain(), self.manifest.crop
        if spec.size != self.manifest.size:
            raise PackedError(
                f"expected photos of {spec.size} pixels, as the model takes them, found {self.manifest.size} in "
                f"{location(self.root)}; set model.image_size={self.manifest.size}, or pack with image_size={spec.size}"
            )
        if any(plain[name] != value for name, value in crop.items()):
            wanted = ", ".join(f"{name}={plain[name]}" for name in crop)
            found = ", ".join(f"{name}={value}" for name, value in crop.items())
            raise PackedError(
                f"expected photos cropped by {wanted}, found {found} in {location(self.root)}; leave the crop out, or "
                "pack the photos again with it"
            )

    def holds(self, path: str) -> bool:
        """Return True if the photo is packed."""
        return path in self._rows

    def size_of(self, path: str) -> PhotoSize | None:
        """Return the sizes of a photo and its face; None if it is not packed."""
        row = self._rows.get(path)
        if row is None:
            return None
        width, height, face = self._sizes[row].tolist()
        return PhotoSize(int(width), int(height), face)

    def chunks_of(self, paths: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the number of the chunk of each photo (N,)."""
        return np.array([self._rows[path] for path in paths], np.int64) // self.manifest.per_chunk

    def find(self, path: str) -> npt.NDArray[np.uint8] | None:
        """Read a prepared photo (S, S, 3); None if it is not packed.

        Raises:
            PackedError: its chunk cannot be downloaded, or is damaged.
        """
        row = self._rows.get(path)
        return None if row is None else self.read(row)

    def read(self, row: int) -> npt.NDArray[np.uint8]:
        """Read the photo in a row of the table (S, S, 3), and compare row, person, side and checksum."""
        number = row // self.manifest.per_chunk
        with self._damage_reported(number):
            item = self._load(row, number)
            people, sides = self._people_and_sides
            image: npt.NDArray[np.uint8] = item["image"]
            found = item["pack"], item["row"], item["person"], item["side"]
            if found != (self.manifest.pack, row, people[row], sides[row]):
                raise ValueError(f"another photo in row {row}")
            if image.shape != (self.manifest.size,) * 2 + (3,) or zlib.crc32(image.data) != item["crc"]:
                raise ValueError(f"other pixels in row {row}")
        return image

    def _load(self, row: int, number: int) -> dict[str, Any]:
        from litdata.streaming.sampler import ChunkedIndex

        while True:
            if self.copies is not None:
                self.copies.path(self.manifest.chunks[number].name)
            try:
                item: dict[str, Any] = self._chunks[ChunkedIndex(index=row, chunk_index=number)]
                return item
            except FileNotFoundError:
                if self.copies is None:
                    raise  # else another process has just removed the copy to make room

    @contextmanager
    def _damage_reported(self, number: int) -> Iterator[None]:
        try:
            yield
        except PackedError:
            raise
        except Exception as error:  # litdata's errors for damaged chunks have many types
            file = self.place / self.manifest.chunks[number].name
            reason = one_line(f"{type(error).__name__}: {error}", most=300)
            remedy = "remove it, and it is downloaded again" if self.copies else "copy or pack the photos again"
            raise PackedError(f"{file} is missing or damaged ({reason}); {remedy}") from error


def check_split(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Check that a run asks for the split that was made when the photos were packed.

    Args:
        recorded: `Manifest.split`.
        wanted: `DataSettings.split_options`.

    Raises:
        SplitError: names the first option that differs.
    """
    for name, option in OPTIONS.items():
        if recorded[name] != wanted[name]:
            known, asked = ("null" if value is None else value for value in (recorded[name], wanted[name]))
            raise SplitError(
                f"the photos were split when they were packed, with {option}={known}, found {asked}; set "
                f"{option}={known}, or pack them again"
            )
