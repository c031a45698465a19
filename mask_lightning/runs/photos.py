"""Comparison of the labelled photos of two runs: one fingerprint for all photos, and one row of identity per photo.

The rows of identity are kept as split.csv, with the role of each photo.
"""

from __future__ import annotations

import hashlib
from io import StringIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.errors import RunFolderError

ROLES = ("train", "val", "left out")  # left out: on the training side, but not used by this ensemble member
NOT_COMPARED = ("family", "role")  # versions differ in who forms a family; the recorded families hold


def fingerprint(table: pd.DataFrame) -> str:
    """Hash file name, folder, size and labels of every photo to 16 hex digits.

    Neither the place of the root folder nor the order of the rows matters, so runs with other splits of the same photos
    have the same fingerprint.

    Args:
        table: a sample table whose photos exist, or are packed.
    """
    table = table.sort_values("path")
    labels = table.drop(columns=["path", "bytes"], errors="ignore").to_csv(index=False)
    digest = hashlib.sha256(labels.encode())
    for photo, size in identify_photos(table)[["photo", "bytes"]].itertuples(index=False):
        digest.update(f"{photo}:{size}\n".encode())
    return digest.hexdigest()[:16]


def identify_photos(table: pd.DataFrame) -> pd.DataFrame:
    """Replace `path` by `photo` (folder and file name) and `bytes`, which a copy in another place shares.

    Packed photos, which have no files, have `bytes` in their table.
    """
    identified = table.drop(columns=["path", "bytes"], errors="ignore")
    known = table["bytes"] if "bytes" in table else [Path(path).stat().st_size for path in table["path"]]
    identified.insert(0, "photo", [short_name(path) for path in table["path"]])
    identified.insert(1, "bytes", np.array(known, np.int64))
    return identified


def short_name(path: str) -> str:
    """Return folder and file name of a photo.

    Example:
        >>> short_name("/faces/train/images/000001_female_Asian_18/mask1.jpg")
        '000001_female_Asian_18/mask1.jpg'
    """
    return "/".join(Path(path).parts[-2:])


def describe_changes(before: pd.DataFrame, after: pd.DataFrame, *, ignore_new: bool = False) -> str:
    """Describe how two tables of `identify_photos` differ, in columns that both have; "" if they do not.

    Values are compared as text, because `before` was read from a file. Families are not compared.

    Example:
        >>> before = pd.DataFrame({"photo": ["a/1.jpg", "a/2.jpg"], "bytes": [10, 20], "age": [0, 0]})
        >>> describe_changes(before, before.tail(1).assign(bytes=21))
        '1 is missing (a/1.jpg), 1 is another file (a/2.jpg)'
    """
    columns = [column for column in before if column in after and column not in NOT_COMPARED]
    old, new = (_by_photo(table[columns]) for table in (before, after))
    kept = old.index.intersection(new.index)
    differs = old.loc[kept] != new.loc[kept]
    labels = differs.drop(columns="bytes")
    relabelled = labels.any(axis=1) & ~differs["bytes"]
    fields = labels.columns[labels[relabelled].any()]
    found = {
        "missing": old.index.difference(kept),
        "new": new.index[:0] if ignore_new else new.index.difference(kept),
        "another file": kept[differs["bytes"]],
        f"labelled otherwise in {', '.join(fields)}": kept[relabelled],
    }
    return ", ".join(_count(photos.tolist(), change) for change, photos in found.items() if len(photos))


def read_split(file: Path) -> pd.DataFrame:
    """Read split.csv as text. Raises RunFolderError if it cannot be read or is not one."""
    try:
        recorded = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' errors are ValueErrors
        raise RunFolderError(f"cannot read {file} ({error}), which records who was held out; restore it") from error
    if not {"photo", "bytes", "role"} <= set(recorded) or not set(recorded["role"]) <= set(ROLES):
        raise RunFolderError(f"expected photo, bytes and role ({', '.join(ROLES)}) in {file}, found others; restore it")
    # 0.1.0 wrote floats if nobody was held out.
    return recorded.assign(bytes=recorded["bytes"].str.removesuffix(".0"))


def mark_trained(recorded: pd.DataFrame, extra: Path) -> set[str]:
    """Return `photo:bytes` of the photos that a run was trained on: its training side, and those of `data.extra`.

    Args:
        recorded: its split.csv, read by `read_split`.
        extra: its extra.csv, which may be missing.

    Raises:
        RunFolderError: extra.csv cannot be read.
    """
    further = mark_photos(read_split(extra)) if extra.is_file() else set()
    return mark_photos(recorded, role="train") | further


def held_out_photos(file: Path) -> set[str] | None:
    """Return `photo:bytes` of the photos that split.csv records as held out; None if there is no such file."""
    return mark_photos(read_split(file), role="val") if file.is_file() else None


def mark_photos(photos: pd.DataFrame, *, role: str | None = None) -> set[str]:
    """Return `photo:bytes` of each row of `identify_photos`, or of those with one role."""
    rows = photos if role is None else photos[photos["role"] == role]
    return set(rows["photo"] + ":" + rows["bytes"].astype(str))


def find_recorded(recorded: pd.DataFrame, photos: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Find the row of each recorded photo.

    Args:
        recorded: result of `read_split`.
        photos: result of `identify_photos`; must have all recorded photos, see `describe_changes`.

    Returns:
        (N,), positions in `photos`, in the order of `recorded`.
    """
    columns = [column for column in recorded if column in photos and column not in NOT_COMPARED]
    names = [_by_photo(table[columns].assign(position=range(len(table)))) for table in (recorded, photos)]
    positions = names[1]["position"].astype(int).loc[names[0].index].to_numpy(np.int64)
    result = np.empty(len(recorded), np.int64)
    result[names[0]["position"].astype(int)] = positions
    return result


def _by_photo(table: pd.DataFrame) -> pd.DataFrame:
    """Index a table by `photo`; photos of one name in several folders get a number behind it."""
    text = pd.read_csv(StringIO(table.to_csv(index=False)), dtype=str, keep_default_na=False)
    text = text.sort_values(text.columns.tolist())
    number = text.groupby("photo").cumcount()
    named = text["photo"].where(number == 0, text["photo"] + " (" + (number + 1).astype(str) + ")")
    return text.drop(columns="photo").set_index(named).sort_index()


def _count(photos: list[str], change: str) -> str:
    verb = "is" if len(photos) == 1 else "are"
    return f"{len(photos)} {verb} {change} ({', '.join(photos[:3])}{', ...' if len(photos) > 3 else ''})"
