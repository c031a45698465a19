"""Comparison of the labelled photos of two runs: one fingerprint for all photos, and one row of identity per photo."""

from __future__ import annotations

import hashlib
from io import StringIO
from pathlib import Path

import pandas as pd


def fingerprint(table: pd.DataFrame) -> str:
    """Hash file name, folder, size and labels of every photo to 16 hex digits.

    Neither the place of the root folder nor the order of the rows matters, so runs with other splits of the same photos
    have the same fingerprint.

    Args:
        table: a sample table whose photos exist.
    """
    table = table.sort_values("path")
    labels = table.drop(columns="path").to_csv(index=False)
    digest = hashlib.sha256(labels.encode())
    for photo, size in identify_photos(table)[["photo", "bytes"]].itertuples(index=False):
        digest.update(f"{photo}:{size}\n".encode())
    return digest.hexdigest()[:16]


def identify_photos(table: pd.DataFrame) -> pd.DataFrame:
    """Replace `path` by `photo` (folder and file name) and `bytes`, which a copy in another place shares."""
    identified = table.drop(columns="path")
    identified.insert(0, "photo", [short_name(path) for path in table["path"]])
    identified.insert(1, "bytes", [Path(path).stat().st_size for path in table["path"]])
    return identified


def short_name(path: str) -> str:
    """Return folder and file name of a photo.

    Example:
        >>> short_name("/faces/train/images/000001_female_Asian_18/mask1.jpg")
        '000001_female_Asian_18/mask1.jpg'
    """
    return "/".join(Path(path).parts[-2:])


def describe_changes(before: pd.DataFrame, after: pd.DataFrame) -> str:
    """Describe how two tables of `identify_photos` differ, in columns that both have; "" if they do not.

    Values are compared as text, because `before` was read from a file.

    Example:
        >>> before = pd.DataFrame({"photo": ["a/1.jpg", "a/2.jpg"], "bytes": [10, 20], "age": [0, 0]})
        >>> describe_changes(before, before.tail(1).assign(bytes=21))
        '1 is missing (a/1.jpg), 1 is another file (a/2.jpg)'
    """
    columns = [column for column in before if column in after]
    old, new = (_by_photo(table[columns]) for table in (before, after))
    kept = old.index.intersection(new.index)
    differs = old.loc[kept] != new.loc[kept]
    relabelled = differs.drop(columns="bytes").any(axis=1) & ~differs["bytes"]
    found = {
        "missing": old.index.difference(kept),
        "new": new.index.difference(kept),
        "another file": kept[differs["bytes"]],
        "labelled otherwise": kept[relabelled],
    }
    return ", ".join(_count(photos.tolist(), change) for change, photos in found.items() if len(photos))


def _by_photo(table: pd.DataFrame) -> pd.DataFrame:
    text = pd.read_csv(StringIO(table.to_csv(index=False)), dtype=str, keep_default_na=False)
    return text.drop_duplicates("photo").set_index("photo").sort_index()


def _count(photos: list[str], change: str) -> str:
    verb = "is" if len(photos) == 1 else "are"
    return f"{len(photos)} {verb} {change} ({', '.join(photos[:3])}{', ...' if len(photos) > 3 else ''})"
