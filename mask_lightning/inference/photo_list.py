"""List the photos to predict: the competition's eval folder, a folder of photos, one photo, or a CSV.

Columns of the table: `photo` (name in the output), `path`, and `person_id` if it is known; all are strings.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from mask_lightning.data.csv_files import read_cells
from mask_lightning.data.images import (
    PHOTO_SUFFIXES,
    describe_left_out,
    divide_files,
    is_heif,
    is_litter,
    is_photo,
    log_and_shorten,
    missing_files,
    path_inside,
    require_heif,
)
from mask_lightning.data.packed import PackedPhotos, is_packed, open_packed
from mask_lightning.errors import PhotoError, SampleTableError
from mask_lightning.settings.inference import PhotosSettings
from mask_lightning.utils.files import find_path

log = logging.getLogger(__name__)

TABLE_SUFFIXES = (".csv", ".tsv")

Kind = Literal["info", "table", "folder", "photo", "packed"]


@dataclass(frozen=True)
class PhotoList:
    """Photos to predict, in the order of the output.

    Attributes:
        table: one row per photo; see this module for its columns.
        kind: where they are listed; "info" is the competition's info.csv.
        root: path that the user named.
        packed: the photos themselves, of kind "packed".
    """

    table: pd.DataFrame
    kind: Kind
    root: Path
    packed: PackedPhotos | None = None


def read_photo_list(root: Path, *, follow_symlinks: bool = False) -> PhotoList:
    """List the photos and check that each is a file, without decoding it; log the files of a folder that are no photos.

    Args:
        root: the competition's `eval/` or its parent folder, a folder (with its subfolders), a photo, or a CSV with a
            column `path` (relative to the CSV's folder) or `ImageID` (relative to `images/` beside it).
        follow_symlinks: allow a CSV to list symlinks that lead out of its folder.

    Raises:
        PhotoError: there are no photos, or a listed one is missing.
        SampleTableError: a CSV lacks its column, lists a photo twice, or lists one outside of its folder.
    """
    root = find_path(root)
    if not root.exists():
        raise PhotoError(f"expected photos at {root}, found nothing; set data.root to a folder, a photo or a CSV")
    if root.is_dir():
        info = _find_info(root)
        return _from_csv(info, root, follow_symlinks) if info else _from_folder(root)
    if root.suffix.lower() in TABLE_SUFFIXES:
        return _from_csv(root, root, follow_symlinks)
    if is_heif(root):
        require_heif(root)
    if not is_photo(root):
        raise PhotoError(
            f"expected a photo ({', '.join(sorted(PHOTO_SUFFIXES))}) or a CSV, found {root}; set data.root to one"
        )
    return PhotoList(_table([(root.name, root)]), "photo", root)


def list_photos(data: PhotosSettings, outputs: Path) -> PhotoList:
    """List packed photos, or those of `read_photo_list`; copies of remote files are kept below `outputs`.

    Raises:
        PackedError: packed photos cannot be read.
        PhotoError, SampleTableError: see `read_photo_list`.
    """
    assert data.root is not None
    if is_packed(data.root):
        packed = open_packed(data.root, folder=outputs / "cache", cache_gb=data.cache_gb)
        return PhotoList(packed.photo_list(), "packed", data.root, packed)
    return read_photo_list(data.root, follow_symlinks=data.follow_symlinks)


def _find_info(root: Path) -> Path | None:
    """Find info.csv of the eval folder in or at `root`; None for an ordinary folder."""
    if (root / "eval").is_dir():
        info = root / "eval" / "info.csv"
        if not info.is_file():
            raise PhotoError(f"expected the list of photos at {info}, found none; restore it, or name a folder")
        return info
    return root / "info.csv" if (root / "info.csv").is_file() else None


def _from_folder(root: Path) -> PhotoList:
    files = sorted(root.rglob("*"))
    visible = [path for path in files if not any(map(is_litter, path.relative_to(root).parts))]
    photos, others = divide_files(visible)
    note = describe_left_out(others)
    if not photos:
        raise PhotoError(
            f"expected photos in {root}, found {note or 'none'}; set data.root to a folder, a photo or a CSV"
        )
    if note:
        log.warning("%s", note)
    return PhotoList(_table((path.relative_to(root).as_posix(), path) for path in photos), "folder", root)


def _from_csv(path: Path, root: Path, follow_symlinks: bool) -> PhotoList:
    """Read the photos that a CSV lists, in its order."""
    lines = read_cells(path, ["path", "ImageID", "person_id"])
    columns = [column for column in ("ImageID", "path") if column in lines]
    if not columns:
        found = ", ".join(map(str, lines.columns))
        raise SampleTableError(f"expected a column `path` or `ImageID` in {path}, found {found}; add it")
    official = columns[0] == "ImageID"
    folder = path.parent / "images" if official else path.parent
    names = lines[columns[0]]
    _check_names(names, path)
    photos = list(zip(names, _inside(folder, names, path, follow_symlinks), strict=True))
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
    nameless = names.index[names == ""]
    if len(nameless):
        line = nameless[0] + 2
        raise SampleTableError(f"expected a photo in {path}, line {line}, found nothing; name it or drop the line")
    twice = names[names.duplicated()].unique().tolist()
    if twice:
        raise SampleTableError(
            f"{path} names {len(twice)} photos more than once ({log_and_shorten(twice)}); keep one line each"
        )


def _inside(folder: Path, names: pd.Series[str], listed_in: Path, follow_symlinks: bool) -> list[Path]:
    try:
        return [path_inside(folder, name, follow_symlinks=follow_symlinks) for name in names]
    except SampleTableError as error:
        raise SampleTableError(f"{listed_in}: {error}") from error


def _table(photos: Iterable[tuple[str, Path]], people: pd.Series[str] | None = None) -> pd.DataFrame:
    table = pd.DataFrame([(name, str(path)) for name, path in photos], columns=["photo", "path"])
    if people is not None:
        table["person_id"] = people.to_numpy()
    return table
