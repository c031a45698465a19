"""What tells whether two runs saw the same labelled photos: a short name for all of them, or a mark for each."""

from __future__ import annotations

import hashlib
from io import StringIO
from pathlib import Path

import pandas as pd


def fingerprint(table: pd.DataFrame) -> str:
    """16 hex digits from every photo's file name, folder, size and labels; not from where the folder lies.

    Nor from the order of the rows: runs with other splits of the same photos share it.
    """
    table = table.sort_values("path")
    labels = table.drop(columns="path").to_csv(index=False)
    digest = hashlib.sha256(labels.encode())
    for photo, size in mark(table)[["photo", "bytes"]].itertuples(index=False):
        digest.update(f"{photo}:{size}\n".encode())
    return digest.hexdigest()[:16]


def mark(table: pd.DataFrame) -> pd.DataFrame:
    """The sample table with `photo` (file name and its folder's) and `bytes` instead of `path`: what a copy shares."""
    marked = table.drop(columns="path")
    marked.insert(0, "photo", [short_name(path) for path in table["path"]])
    marked.insert(1, "bytes", [Path(path).stat().st_size for path in table["path"]])
    return marked


def short_name(path: str) -> str:
    """A photo's file name and its folder's."""
    return "/".join(Path(path).parts[-2:])


def what_changed(then: pd.DataFrame, now: pd.DataFrame) -> str:
    """Two marked tables -> "2 are missing (a/1.jpg, a/2.jpg), 1 is another file (b/1.jpg)"; "" where they are alike.

    Columns that only one of them has are not compared. Both as text: one was read back from a file.
    """
    columns = [column for column in then if column in now]
    before, after = (_by_photo(table[columns]) for table in (then, now))
    kept = before.index.intersection(after.index)
    differs = before.loc[kept] != after.loc[kept]
    relabelled = differs.drop(columns="bytes").any(axis=1) & ~differs["bytes"]
    found = {
        "missing": before.index.difference(kept),
        "new": after.index.difference(kept),
        "another file": kept[differs["bytes"]],
        "labelled otherwise": kept[relabelled],
    }
    return ", ".join(_told(photos.tolist(), what) for what, photos in found.items() if len(photos))


def _by_photo(table: pd.DataFrame) -> pd.DataFrame:
    text = pd.read_csv(StringIO(table.to_csv(index=False)), dtype=str, keep_default_na=False)
    return text.drop_duplicates("photo").set_index("photo").sort_index()


def _told(photos: list[str], what: str) -> str:
    verb = "is" if len(photos) == 1 else "are"
    return f"{len(photos)} {verb} {what} ({', '.join(photos[:3])}{', ...' if len(photos) > 3 else ''})"
