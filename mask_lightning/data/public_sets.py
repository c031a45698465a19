"""Read UTKFace and FairFace, as they are downloaded, into a sample table; every photo counts as a person of its own.

Neither has labels of `mask`. Person ids consist of letters and digits, because `mask_faces` writes the competition's
layout, in which `-1` at the end of an id marks another person of the same family.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import pandas as pd

from mask_lightning.data.csv_files import read_cells
from mask_lightning.data.images import describe_left_out, divide_files, is_litter, missing_files, path_inside
from mask_lightning.data.index import OLDEST, describe_folder
from mask_lightning.data.label_cells import find_target
from mask_lightning.errors import DatasetNotFoundError, SampleTableError
from mask_lightning.labels import GENDER, age_band

log = logging.getLogger(__name__)

UTKFACE_RACES = ("White", "Black", "Asian", "Indian", "Others")
_UTKFACE_NAME = re.compile(r"(?P<head>\d{1,3}_[01]_[0-4])_(?P<date>\d+)[^\d_]*\..*")
_UTKFACE_DATE = re.compile(r"20\d{15}(?!\d)")  # year to milliseconds

FAIRFACE_COLUMNS = ("file", "age", "gender", "race")
FAIRFACE_OLDEST = 75  # years for the band "more than 70"
FAIRFACE_DATES = ((3, 9), (10, 19))  # bands that spreadsheets turn into dates
_MONTHS = {  # beginnings of the months' names in many languages
    3: "mar mär mrz maa mrt bře mač már marz ožu kov мар бер μαρ μάρ مارس מרץ मार्च มีค มีนา",
    9: "sep set szept wrz eyl syys zář ruj rugs ira sht сен сеп вер σεπ سبتمبر سپتامبر ספט सित กย กันยา",
    10: "oct okt out ott paź eki ekim lok říj lis spal urr tet окт жов οκτ أكتوبر اکتبر אוק अक्तू अक्टू ตค ตุลา",
}
_DATE_WORDS = (
    "월",
    "일",
    "년",
    "月",
    "日",
    "年",
    "号",
    "tháng",
    "thg",
    "th",
    "de",
    "d",
    "r",
)  # beside the numbers of a date


def read_utkface(root: Path) -> pd.DataFrame:
    """Index UTKFace: photos named `<age>_<gender>_<race>_<date>.jpg.chip.jpg`; others are left out with a warning.

    A name with a missing underscore or dot, or an extra part, is read if it can mean one thing only.

    Raises:
        DatasetNotFoundError: there is no such photo in `root` or in exactly one folder of it.
    """
    photos, others = _utkface_photos(root)
    named = {photo: parse_utkface_name(photo.name) for photo in photos}
    rows = [_utkface_row(photo, *fields) for photo, fields in named.items() if fields]
    _warn_about_names([photo for photo, fields in named.items() if not fields])
    if note := describe_left_out(others):
        log.warning("%s", note)
    return _finished(rows)


def _utkface_photos(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the photos and the other files of the folder that holds UTKFace."""
    folders = [root, *(entry for entry in _entries(root) if entry.is_dir())] if root.is_dir() else []
    filled = [folder for folder in folders if any(parse_utkface_name(entry.name) for entry in _entries(folder))]
    if not filled or (len(filled) > 1 and filled[0] != root):
        raise DatasetNotFoundError(
            root,
            f"them in several folders ({', '.join(folder.name for folder in filled)})"
            if filled
            else describe_folder(root),
            expected="photos named <age>_<gender>_<race>_<date>.jpg.chip.jpg in",
            remedy="set data.root to the folder that holds them",
        )
    if filled[0] == root and len(filled) > 1:
        log.warning("photos in folders of %s are left out: %s", root, ", ".join(each.name for each in filled[1:]))
    return divide_files(_entries(filled[0]))


def _entries(folder: Path) -> list[Path]:
    return [entry for entry in sorted(folder.iterdir()) if not is_litter(entry.name)]


def parse_utkface_name(name: str) -> tuple[int, int, int, str] | None:
    """Return age, gender, race and date; None if one of them is missing or the name can mean two things.

    Example:
        >>> parse_utkface_name("25_0_2_20170116174525125.jpg.chip.jpg")
        (25, 0, 2, '20170116174525125')
        >>> parse_utkface_name("25_02_20170116174525125jpg.chip.jpg")
        (25, 0, 2, '20170116174525125')
        >>> parse_utkface_name("61_1_20170109142408075.jpg.chip.jpg")
    """
    regular, dated = _UTKFACE_NAME.fullmatch(name), _UTKFACE_DATE.search(name)
    if regular:
        head, date = regular["head"], regular["date"]
    elif dated:
        head, date = name[: dated.start()].removesuffix("_"), dated[0]
    else:
        return None
    parts = head.split("_")
    readings = {_utkface_fields(*parts[i : i + 3]) for i in range(len(parts) - 2)}
    if len(parts) == 2:
        age, last = parts
        readings = {_utkface_fields(age, last[:-1], last[-1:])}
        if age.isdecimal() and int(age) > OLDEST:  # so its last digit is the gender
            readings.add(_utkface_fields(age[:-1], age[-1], last))
    fields = [each for each in readings if each]
    return (*fields[0], date) if len(fields) == 1 else None


def _utkface_fields(age: str, gender: str, race: str) -> tuple[int, int, int] | None:
    if re.fullmatch(r"\d{1,3}_[01]_[0-4]", f"{age}_{gender}_{race}") and int(age) <= OLDEST:
        return int(age), int(gender), int(race)
    return None


def _utkface_row(photo: Path, years: int, gender: int, race: int, date: str) -> dict[str, object]:
    person_id = f"{date}y{years}{GENDER.classes[gender][0]}{race}"
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


def read_fairface(root: Path, *, follow_symlinks: bool = False) -> pd.DataFrame:
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
    rows = [row for csv in csvs for row in _fairface_rows(csv, _fairface_photos(root), follow_symlinks)]
    paths = [str(row["path"]) for row in rows]
    if twice := [path for path, count in Counter(paths).items() if count > 1]:
        raise SampleTableError(
            f"{' and '.join(csv.name for csv in csvs)} name {len(twice)} photos twice ({twice[0]}); keep one line of "
            "each"
        )
    missing = {str(path) for path in missing_files(map(Path, paths))}
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


def _fairface_rows(csv: Path, photos: Path, follow_symlinks: bool) -> list[dict[str, object]]:
    cells = read_cells(csv, FAIRFACE_COLUMNS)
    missing = [column for column in FAIRFACE_COLUMNS if column not in cells]
    if missing:
        raise SampleTableError(f"expected a column {missing[0]} in {csv}, found {', '.join(cells.columns)}; add it")
    rows: list[dict[str, object]] = []
    for row, cell in zip(cells.index, cells[list(FAIRFACE_COLUMNS)].to_numpy(dtype=str), strict=True):
        file, age, gender, race = map(str, cell)
        try:
            path = path_inside(photos, file, follow_symlinks=follow_symlinks)
            years, target = fairface_years(age), find_target(GENDER, gender)
            if target is None:
                raise SampleTableError(
                    f"expected the gender Male or Female, found {gender or 'an empty cell'}; correct it"
                )
        except SampleTableError as error:
            raise SampleTableError(f"{csv}, line {int(row) + 2}: {error}") from None
        person_id = re.sub(r"[^A-Za-z0-9]", "", str(Path(file).with_suffix("")))
        rows.append({"person_id": person_id, "race": race, "years": years, "path": str(path), "gender": target})
    return rows


def fairface_years(band: str) -> int:
    """Return the middle of an age band, which a spreadsheet in any language may have turned into a date.

    Raises:
        SampleTableError: it is not an age band.

    Example:
        >>> [fairface_years(band) for band in ("20-29", "more than 70", "03-Sep", "10월 19일", "2019-10-01")]
        [25, 75, 6, 15, 15]
    """
    if band.strip().lower() in ("more than 70", "70+", ">70"):
        return FAIRFACE_OLDEST
    ends = re.fullmatch(r"\s*(\d{1,3})\s*[-–—~]\s*(\d{1,3})\s*", unicodedata.normalize("NFKC", band))
    if ends is not None and max(int(ends[1]), int(ends[2])) <= OLDEST:
        low, high = sorted((int(ends[1]), int(ends[2])))
        return (low + high + 1) // 2
    found = _band_of_date(band)
    if found is None:
        raise SampleTableError(f"expected an age band such as 20-29, found {band!r}; correct it")
    return (found[0] + found[1] + 1) // 2


def _band_of_date(text: str) -> tuple[int, int] | None:
    """Return the only one of FAIRFACE_DATES that a spreadsheet shows as this date; None if there is none.

    `3-9` is a day and month in either order, or the month and year 2003 or 2009; `10-19` is a day of October or October
    2019. A date may have a year that was not typed.
    """
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"[T\s]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?Z?$", "", text.strip())
    if re.fullmatch(r"[34]\d{4}", text):  # the number of a day, as a cell without a date format shows it
        text = (date(1899, 12, 30) + timedelta(days=int(text))).isoformat()
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    letters = re.sub(r"(?<=\D)\.(?=\D|$)", "", text.lower())  # the points of an abbreviation
    words = [word for word in re.findall(r"[^\d\s–—~/.,_-]+", letters) if word not in _DATE_WORDS]
    months = [month for word in words for month, names in _MONTHS.items() if word.startswith(tuple(names.split()))]
    if len(months) != len(words) or len(words) > 1:
        return None
    numbers += months
    years = [number for number in numbers if number >= 1900]
    rest = sorted(number for number in numbers if number < 1900)
    shown = {tuple(rest)}
    if len(years) == 1 and rest[:1] == [1] and len(rest) == 2:  # the first day of a month and a year that was typed
        shown.add(tuple(sorted((rest[1], years[0] % 100))))
    if len(years) == 1 and len(rest) == 1:
        shown.add(tuple(sorted((rest[0], years[0] % 100))))
    if len(rest) == 3 and not years:  # a year of two digits, or the first day of a month
        shown = {tuple(sorted((rest[i], rest[j]))) for i, j in ((0, 1), (0, 2), (1, 2))}
    found = [band for band in FAIRFACE_DATES if band in shown]
    return found[0] if len(found) == 1 and len(years) < 2 else None


def _finished(rows: list[dict[str, object]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    table.insert(1, "family", table["person_id"])
    table["age"] = age_band(table["years"])
    return table
