"""Write packed photos, see `data.packed`: chunk by chunk, to a folder or to S3."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.data.packed import FACTS, INDEX, MANIFEST, TABLE, ChunkFile, Manifest, require_litdata
from mask_lightning.data.s3 import Bucket, hash_file
from mask_lightning.data.splits import Split
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.errors import PackedError, PhotoError
from mask_lightning.labels import LabelSpace
from mask_lightning.utils.files import is_remote, location

CROP = ("crop", "crop_height", "crop_width", "share_height", "share_width", "margin", "keep_aspect")


def order_rows(split: Split, *, seed: int) -> pd.DataFrame:
    """Return the rows of both sides with `side`: families in random order, those to train on first.

    Each chunk is then a random sample of the families, and the photos of a family are in one chunk, or in two.
    """
    sides = []
    for side, rows in (("train", split.train), ("val", split.val)):
        number, families = pd.factorize(rows["family"])
        rank = np.random.default_rng(seed).permutation(len(families))[number]
        sides.append(rows.iloc[np.argsort(rank, kind="stable")].assign(side=side))
    return pd.concat(sides, ignore_index=True)


def photos_per_chunk(chunk_mb: int, size: int) -> int:
    """Return how many photos of `size` x `size` pixels a chunk of `chunk_mb` megabytes holds, at least one.

    Example:
        >>> photos_per_chunk(64, 224)
        445
    """
    return max(1, chunk_mb * 2**20 // (size * size * 3))


def refuse_existing(out: Path) -> None:
    """Raise PackedError if something is at `out`: packed photos are never overwritten."""
    if is_remote(out):
        if not Bucket(location(out)).is_empty():
            raise PackedError(f"there are files below {location(out)} already; remove them, or name another address")
    elif os.path.lexists(out):
        raise PackedError(f"{out} exists already; remove it, or name another folder")


class PackWriter:
    """Write photos into litdata's chunks in `draft`; `finish` moves them to `out`, or has uploaded them there.

    Args:
        out: folder or address in S3 that holds nothing yet.
        draft: an empty local folder; for a local `out` on the same disk.
        rows: result of `order_rows`, the photos that will be added.
        spec: crop and size of the photos.
        space: tasks whose targets are written.
        per_chunk: photos per chunk.
        about: further fields of the manifest: strata, people_known, split.
    """

    def __init__(
        self,
        out: Path,
        draft: Path,
        rows: pd.DataFrame,
        spec: TransformSpec,
        space: LabelSpace,
        *,
        per_chunk: int,
        about: Mapping[str, Any],
    ) -> None:
        require_litdata()
        from litdata.streaming import Cache

        self.out, self.draft, self.rows, self.per_chunk, self.about = out, draft, rows, per_chunk, dict(about)
        self.bucket = Bucket(location(out)) if is_remote(out) else None
        self.size, self.space = spec.size, space.to_plain()
        self.crop = {name: getattr(spec, name) for name in CROP}
        self.pack = _identify(rows, self.space, self.size, self.crop, self.about)
        self.kept: list[int] = []  # positions in `rows`
        self.chunks: list[ChunkFile] = []
        self._writer = Cache(str(draft), chunk_size=per_chunk)
        self._people = rows["person_id"].fillna("").astype(str).tolist()
        self._targets = rows[list(self.space)].to_numpy(np.int64)
        self._sides = rows["side"].tolist()

    def add(self, position: int, image: npt.NDArray[np.uint8]) -> None:
        """Write the next photo: pixels (S, S, 3) of the row at this position of `rows`."""
        row = len(self.kept)
        self._writer[row] = {
            "pack": self.pack,
            "row": row,
            "person": self._people[position],
            "side": self._sides[position],
            "targets": self._targets[position],
            "crc": zlib.crc32(np.ascontiguousarray(image).data),
            "image": np.ascontiguousarray(image),
        }
        self.kept.append(position)
        if row % self.per_chunk == 0:
            self._collect()

    def finish(self, photos: Sequence[str], facts: pd.DataFrame) -> Manifest:
        """Write the last chunk, table, index and, last, packed.json.

        Args:
            photos: name of the photo of each row, as it stays after the packing.
            facts: `bytes`, `width`, `height`, `face` of each row.

        Raises:
            PackedError: a file cannot be written, or litdata has written other chunks than expected.
        """
        self._writer.done()
        self._writer.merge()
        self._collect()
        table = self.rows.iloc[self.kept].drop(columns="path").reset_index(drop=True)
        columns = {column: facts[name].to_numpy() for name, column in FACTS.items() if name != "photo"}
        table = table.assign(bytes=facts["bytes"].to_numpy(np.int64), **{FACTS["photo"]: list(photos)}, **columns)
        table.to_parquet(self.draft / TABLE, index=False)
        index = json.loads((self.draft / INDEX).read_text())["chunks"]
        whole, rest = divmod(len(table), self.per_chunk)
        found = [(each["filename"], each["chunk_size"]) for each in index]
        sizes = [self.per_chunk] * whole + [rest] * bool(rest)
        if found != [(chunk.name, size) for chunk, size in zip(self.chunks, sizes, strict=False)]:
            raise PackedError(
                f"expected {len(sizes)} chunks of {self.per_chunk} photos from litdata, found {found[:3]}; pack again"
            )
        manifest = Manifest(
            pack=self.pack,
            photos=len(table),
            per_chunk=self.per_chunk,
            size=self.size,
            crop=self.crop,
            space=self.space,
            table=hash_file(self.draft / TABLE),
            index=hash_file(self.draft / INDEX),
            chunks=self.chunks,
            **self.about,
        )
        (self.draft / MANIFEST).write_bytes(manifest.to_json())
        if self.bucket is None:
            self.draft.chmod(0o755)
            self.draft.replace(self.out)
        else:
            for name in (TABLE, INDEX, MANIFEST):
                self.bucket.upload(name, self.draft / name)
        return manifest

    def _collect(self) -> None:
        """Note the chunks that are complete, and move them to S3 if that is where they go."""
        known = {chunk.name for chunk in self.chunks}
        new = [path for path in self.draft.glob("*.bin") if path.name not in known]
        for path in sorted(new, key=lambda each: int(each.stem.rsplit("-", 1)[1])):
            self.chunks.append(ChunkFile(path.name, *hash_file(path)))
            if self.bucket is not None:
                self.bucket.upload(path.name, path)
                path.unlink()


def _identify(rows: pd.DataFrame, space: Any, size: int, crop: Any, about: Any) -> str:
    """Return 16 hex digits that depend on the photos, their labels and order, and on how they are prepared."""
    digest = hashlib.sha256(repr((space, size, crop, about)).encode())
    digest.update(rows.to_csv(index=False).encode())
    return digest.hexdigest()[:16]


def photo_names(paths: Iterable[str], root: Path) -> list[str]:
    """Return the paths relative to `root`, without `..` where photos are outside of it.

    Raises:
        PhotoError: a photo is listed twice.

    Example:
        >>> photo_names(["/faces/train/1.jpg"], Path("/faces"))
        ['train/1.jpg']
    """
    base = os.path.realpath(root)
    names = [Path(os.path.relpath(path, base)).as_posix().replace("../", "") for path in paths]
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise PhotoError(f"{twice} is listed twice; pack each photo once")
    return names


def check_disk_space(folder: Path, photos: int, size: int) -> None:
    """Raise PackedError if the packed photos do not fit on the disk of `folder`."""
    needed, free = photos * size * size * 3, shutil.disk_usage(folder).free
    if needed > free:
        raise PackedError(
            f"{photos:,} photos of {size} pixels need {needed / 1e9:.1f} GB in {folder}, found {free / 1e9:.1f} GB "
            "free; free some, or name an address in S3"
        )
