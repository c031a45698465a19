"""Shards of a long prediction: which photos belong to each, and the files that hold their predictions.

A shard is a function of the list of photos. It consists of whole batches, so that its predictions equal those of a
single pass to the bit.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from mask_lightning.errors import ConfigError, PredictionsError
from mask_lightning.inference.prediction_file import read_metadata

KEY = b"mask_lightning_shard"
FORMAT = re.compile(r"shard-(\d+)-of-(\d+)\.parquet")


@dataclass(frozen=True)
class Shard:
    """Part of a list of photos: number `index` (from 1) of `count`."""

    index: int
    count: int

    @staticmethod
    def parse(text: str) -> Shard:
        """Read `i/n`, as in `shard=1/4`."""
        index, _, count = text.partition("/")
        return Shard(int(index), int(count))

    @property
    def file_name(self) -> str:
        """Name of the file with its predictions."""
        return f"shard-{self.index}-of-{self.count}.parquet"

    def rows(self, photos: int, batch_size: int) -> slice:
        """Return the rows of the shard: consecutive whole batches, as many as in every other shard or one less.

        Raises:
            ConfigError: there are more shards than batches.

        Example:
            >>> [Shard(i, 3).rows(10, 2) for i in (1, 2, 3)]
            [slice(0, 2, None), slice(2, 6, None), slice(6, 10, None)]
        """
        batches = -(-photos // batch_size)
        if self.count > batches:
            raise ConfigError(
                f"expected at most one shard per batch, found {self.count} shards for {photos} photos in {batches} "
                "batches; set fewer shards, or a smaller batch_size"
            )
        first, end = (batches * i // self.count * batch_size for i in (self.index - 1, self.index))
        return slice(first, min(end, photos))

    def metadata(self, photos: pd.DataFrame, batch_size: int) -> dict[bytes, bytes]:
        """Describe the shard of this list of photos, for the metadata of its file."""
        rows = self.rows(len(photos), batch_size)
        about = {**asdict(self), "rows": [rows.start, rows.stop], "photos": len(photos), "list": fingerprint(photos)}
        return {KEY: json.dumps(about).encode()}


def fingerprint(photos: pd.DataFrame) -> str:
    """Return the SHA-256 of a list of photos: names and paths, in order."""
    digest = hashlib.sha256()
    for row in zip(*(photos[column] for column in photos), strict=True):
        digest.update("\0".join(row).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def find_shards(folder: Path) -> list[Path]:
    """Find the files of all shards of one prediction, in order.

    Raises:
        PredictionsError: there are none, some are missing, or they do not belong together.
    """
    found: dict[int, dict[int, Path]] = {}
    for path in folder.glob("shard-*.parquet"):
        match = FORMAT.fullmatch(path.name)
        if match:
            found.setdefault(int(match[2]), {})[int(match[1])] = path
    if len(found) != 1:
        what = f"shards of {len(found)} predictions" if found else "none"
        raise PredictionsError(
            f"expected the shards of one prediction in {folder}, found {what}; name the folder that "
            "python -m mask_lightning.predict -m shards=n wrote"
        )
    ((count, paths),) = found.items()
    missing = [str(i) for i in range(1, count + 1) if i not in paths]
    if missing:
        raise PredictionsError(
            f"expected {count} shards in {folder}, found {len(paths)} (missing: {', '.join(missing)}); repeat the "
            "command that predicts: finished shards are skipped"
        )
    ordered = [paths[i] for i in range(1, count + 1)]
    _check_together(ordered)
    return ordered


def _check_together(paths: list[Path]) -> None:
    """Check that the shards have the same checkpoints, options and list, and that each row is in one of them."""
    end, first = 0, None
    for path in paths:
        metadata = read_metadata(path)
        if KEY not in metadata:
            raise PredictionsError(f"expected a shard of predictions, found another file at {path}; remove it")
        about = json.loads(metadata.pop(KEY))
        metadata.pop(b"ARROW:schema", None)
        same = {**metadata, b"list": about["list"].encode(), b"photos": str(about["photos"]).encode()}
        first = first or same
        if same != first or about["rows"][0] != end:
            raise PredictionsError(
                f"expected shards of the same photos, checkpoints and options, found others in {path}; remove it, and "
                "repeat the command that predicts"
            )
        end = about["rows"][1]
