"""List the photos to predict: the competition's eval folder, a folder of photos, one photo, or a CSV.

Columns of the table: `photo` (name in the output), `path`, and `person_id` if it is known; all are strings.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from mask_lightning.data.images import (
    PHOTO_SUFFIXES,
    is_photo,
    log_and_shorten,
    missing_files,
    path_inside,
)
from mask_lightning.data.index import read_csv
from mask_lightning.errors import PhotoError, SampleTableError

Kind = Literal["info", "table", "folder", "photo"]


@dataclass(frozen=True)
class PhotoList:
    """Photos to predict, in the order of the output.

    Attributes:
        table: one row per photo; see this module for its columns.
        kind: where they are listed; "info" is the competition's info.csv.
        root: path that the user named.
    """

    table: pd.DataFrame
    kind: Kind
    root: Path


def read_photo_list(root: Path) -> PhotoList:
    """List the photos and check that each is a file, without decoding it.

    Args:
        root: the competition's `eval/` or its parent folder, a folder (with its subfolders), a photo, or a CSV with a
            column `path` (relative to the CSV's folder) or `ImageID` (relative to `images/` beside it).

    Raises:
        PhotoError: there are no photos, or a listed one is missing.
        SampleTableError: a CSV lacks its column, lists a photo twice, or lists one outside of its folder.
    """
    root = root.expanduser()
    if not root.exists():
        raise PhotoError(f"expected photos at {root}, found nothing; set data.root to a folder, a photo or a CSV")
    if root.is_dir():
        info = _find_info(root)
        return _from_csv(info, root) if info else _from_folder(root)
    if root.suffix.lower() == ".csv":
        return _from_csv(root, root)
    if root.suffix.lower() not in PHOTO_SUFFIXES:
        raise PhotoError(
            f"expected a photo ({', '.join(sorted(PHOTO_SUFFIXES))}) or a CSV, found {root}; set data.root to one"
        )
    return PhotoList(_table([(root.name, root)]), "photo", root)


def _find_info(root: Path) -> Path | None:
    """Find info.csv of the eval folder in or at `root`; None for an ordinary folder."""
    if (root / "eval").is_dir():
        info = root / "eval" / "info.csv"
        if not info.is_file():
            raise PhotoError(f"expected the list of photos at {info}, found none; restore it, or name a folder")
        return info
    return root / "info.csv" if (root / "info.csv").is_file() else None


def _from_folder(root: Path) -> PhotoList:
    photos = sorted(path for path in root.rglob("*") if is_photo(path) and path.is_file())
    names = [(path.relative_to(root), path) for path in photos]
    visible = [(name.as_posix(), path) for name, path in names if not any(part.startswith(".") for part in name.parts)]
    if not visible:
        raise PhotoError(f"expected photos in {root}, found none; set data.root to a folder, a photo or a CSV")
    return PhotoList(_table(visible), "folder", root)


def _from_csv(path: Path, root: Path) -> PhotoList:
    """Read the photos that a CSV lists, in its order."""
    lines = read_csv(path, empty_only=True)
    columns = [column for column in ("ImageID", "path") if column in lines]
    if not columns:
        found = ", ".join(map(str, lines.columns))
        raise SampleTableError(f"expected a column `path` or `ImageID` in {path}, found {found}; add it")
    official = columns[0] == "ImageID"
    folder = path.parent / "images" if official else path.parent
    names = lines[columns[0]]
    _check_names(names, path)
    photos = list(zip(names, _inside(folder, names, path), strict=True))
    gone = set(missing_files(photo for _, photo in photos))
    missing = [name for name, photo in photos if photo in gone]
    if missing:
        raise PhotoError(
            f"{path} names {len(missing)} of {len(photos)} photos that are not in {folder} "
            f"({log_and_shorten(missing)}); restore them"
        )
    people = lines.get("person_id")
    return PhotoList(_table(photos, people), "info" if official else "table", root)


def _check_names(names: pd.Series[str], path: Path) -> None:
    if names.empty:
        raise SampleTableError(f"expected photos in {path}, found no line; add them")
    nameless = names.isna() | (names == "")
    if nameless.any():
        line = int(nameless.to_numpy().argmax()) + 2
        raise SampleTableError(f"expected a photo in {path}, line {line}, found nothing; name it or drop the line")
    twice = names[names.duplicated()].unique().tolist()
    if twice:
        raise SampleTableError(
            f"{path} names {len(twice)} photos more than once ({log_and_shorten(twice)}); keep one line each"
        )


def _inside(folder: Path, names: pd.Series[str], listed_in: Path) -> list[Path]:
    try:
        return [path_inside(folder, name) for name in names]
    except SampleTableError as error:
        raise SampleTableError(f"{listed_in}: {error}") from error


def _table(photos: Iterable[tuple[str, Path]], people: pd.Series[str] | None = None) -> pd.DataFrame:
    table = pd.DataFrame([(name, str(path)) for name, path in photos], columns=["photo", "path"])
    if people is not None:
        table["person_id"] = people.to_numpy()
    return table
