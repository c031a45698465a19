"""Read UTKFace and FairFace, as they are downloaded, into a sample table; every photo counts as a person of its own.

Neither has labels of `mask`. Person ids consist of letters and digits, because `mask_faces` writes the competition's
layout, in which `-1` at the end of an id marks another person of the same family.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mask_lightning.data.images import is_photo, missing_files, path_inside
from mask_lightning.data.index import OLDEST, describe_folder, read_csv
from mask_lightning.errors import DatasetNotFoundError, LabelError, SampleTableError
from mask_lightning.labels import GENDER, age_band

log = logging.getLogger(__name__)

UTKFACE_RACES = ("White", "Black", "Asian", "Indian", "Others")
_UTKFACE_NAME = re.compile(r"(?P<years>\d{1,3})_(?P<gender>[01])_(?P<race>[0-4])_(?P<date>\d+) *\..*")

FAIRFACE_COLUMNS = ("file", "age", "gender", "race")
FAIRFACE_OLDEST = 75  # years for the band "more than 70"
_MONTHS = {"mar": 3, "sep": 9, "oct": 10}  # spreadsheets turn the bands 3-9 and 10-19 into dates


def read_utkface(root: Path) -> pd.DataFrame:
    """Index UTKFace: photos named `<age>_<gender>_<race>_<date>.jpg.chip.jpg`; others are left out with a warning.

    Raises:
        DatasetNotFoundError: there is no such photo in `root` or in exactly one folder of it.
    """
    photos = _utkface_photos(root)
    named = {photo: _UTKFACE_NAME.fullmatch(photo.name) for photo in photos}
    rows = [_utkface_row(photo, match) for photo, match in named.items() if match and int(match["years"]) <= OLDEST]
    _warn_about_names([photo for photo, match in named.items() if not match or int(match["years"]) > OLDEST])
    return _finished(rows)


def _utkface_photos(root: Path) -> list[Path]:
    folders = [root, *sorted(entry for entry in root.iterdir() if entry.is_dir())] if root.is_dir() else []
    filled = [folder for folder in folders if any(_UTKFACE_NAME.fullmatch(entry.name) for entry in folder.iterdir())]
    if not filled or (len(filled) > 1 and filled[0] != root):
        raise DatasetNotFoundError(
            root,
            f"them in several folders ({', '.join(folder.name for folder in filled)})"
            if filled
            else describe_folder(root),
            expected="photos named <age>_<gender>_<race>_<date>.jpg.chip.jpg in",
            remedy="set data.root to the folder that holds them",
        )
    return [entry for entry in sorted(filled[0].iterdir()) if is_photo(entry) and entry.is_file()]


def _utkface_row(photo: Path, match: re.Match[str]) -> dict[str, object]:
    years, gender, race = int(match["years"]), int(match["gender"]), int(match["race"])
    person_id = f"{match['date']}y{years}{GENDER.classes[gender][0]}{race}"
    return {
        "person_id": person_id,
        "race": UTKFACE_RACES[race],
        "years": years,
        "path": str(photo.resolve()),
        "gender": gender,
    }


def _warn_about_names(odd: Sequence[Path]) -> None:
    if odd:
        names = ", ".join(photo.name for photo in odd[:10]) + (", ..." if len(odd) > 10 else "")
        log.warning("%d photos left out, whose names do not state age, gender and race: %s", len(odd), names)


def read_fairface(root: Path) -> pd.DataFrame:
    """Index FairFace: the photos in `fairface_label_train.csv` and `fairface_label_val.csv`, or in one of them.

    `years` is the middle of the age band. Missing photos are left out with a warning.

    Raises:
        DatasetNotFoundError: there is no label CSV, or none of its photos.
        SampleTableError: a column is missing, or a cell or path is invalid.
    """
    csvs = sorted(root.glob("fairface_label_*.csv"))
    if not csvs:
        raise DatasetNotFoundError(
            root,
            describe_folder(root),
            expected="fairface_label_train.csv or fairface_label_val.csv in",
            remedy="set data.root to the folder that holds it, and train/ and val/",
        )
    rows = [row for csv in csvs for row in _fairface_rows(csv, _fairface_photos(root))]
    missing = {str(path) for path in missing_files(Path(str(row["path"])) for row in rows)}
    if len(missing) == len(rows):
        raise DatasetNotFoundError(
            root,
            describe_folder(root),
            expected="the photos that " + " and ".join(csv.name for csv in csvs) + " list, as train/1.jpg, in",
            remedy="unpack them there",
        )
    if missing:
        log.warning("%d of %d photos are not there: %s", len(missing), len(rows), ", ".join(sorted(missing)[:3]))
    return _finished([row for row in rows if row["path"] not in missing])


def _fairface_photos(root: Path) -> Path:
    """Find the folder with train/ and val/: `root`, or the folder that the archive unpacks to."""
    folders = [
        folder
        for folder in (root, *sorted(root.glob("fairface-img-*")))
        if (folder / "train").is_dir() or (folder / "val").is_dir()
    ]
    if len(folders) > 1 and folders[0] != root:
        raise SampleTableError(
            f"expected one set of photos in {root}, found {' and '.join(folder.name for folder in folders)}; "
            "keep the label CSVs beside one of them"
        )
    return folders[0] if folders else root


def _fairface_rows(csv: Path, photos: Path) -> list[dict[str, object]]:
    cells = read_csv(csv)
    missing = [column for column in FAIRFACE_COLUMNS if column not in cells]
    if missing:
        raise SampleTableError(f"expected a column {missing[0]} in {csv}, found {', '.join(cells.columns)}; add it")
    rows: list[dict[str, object]] = []
    for line, cell in enumerate(cells[list(FAIRFACE_COLUMNS)].fillna("").to_numpy(dtype=str), 2):
        file, age, gender, race = cell
        try:
            path = path_inside(photos, file)
            years, target = fairface_years(age), GENDER.target(gender.lower())
        except (SampleTableError, LabelError) as error:
            raise SampleTableError(f"{csv}, line {line}: {error}") from None
        person_id = re.sub(r"[^A-Za-z0-9]", "", str(Path(file).with_suffix("")))
        rows.append({"person_id": person_id, "race": race, "years": years, "path": str(path), "gender": target})
    return rows


def fairface_years(band: str) -> int:
    """Return the middle of an age band, which a spreadsheet may have turned into a date.

    Raises:
        SampleTableError: it is not an age band.

    Example:
        >>> [fairface_years(band) for band in ("20-29", "more than 70", "03-Sep")]
        [25, 75, 6]
    """
    if band.strip().lower() in ("more than 70", "70+", ">70"):
        return FAIRFACE_OLDEST
    ends = [_MONTHS.get(part.strip().lower()[:3], part.strip()) for part in re.split("[-–]", band)]
    try:
        low, high = sorted(int(end) for end in ends)
    except ValueError:
        raise SampleTableError(f"expected an age band such as 20-29, found {band!r}; correct it") from None
    return (low + high + 1) // 2


def _finished(rows: list[dict[str, object]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    table.insert(1, "family", table["person_id"])
    table["age"] = age_band(table["years"])
    return table
