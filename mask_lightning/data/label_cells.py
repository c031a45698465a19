"""Meaning of the cells in a table of labels: class names in any spelling, missing labels, genders and ages.

A cell that may mean two things, or nothing, is refused with the number of its line.
"""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from mask_lightning.data.index import OLDEST
from mask_lightning.errors import SampleTableError
from mask_lightning.labels import AGE, FACE, GENDER, MASK, PERSON_TASKS, LabelSpace, Task, age_band

log = logging.getLogger(__name__)

NO_LABELS = ("path", "person_id", "race", "shot")
MISSING = frozenset(  # in any case: not labelled
    {"", "na", "n/a", "n.a.", "nan", "-nan", "null", "(null)", "<na>", "<null>", "#n/a", "#n/a n/a", "nil"}
    | {"-", "--", "–", "—", "−"}
)
UNCLEAR = frozenset(
    {"?", "u", "x", "unk", "unknown", "unsure", "unclear", "undefined", "missing", "unlabelled", "unlabeled"}
)
SHEET_ERRORS = frozenset({"#ref!", "#value!", "#name?", "#div/0!", "#null!", "#num!", "#spill!"})
GENDERS = {  # values of a column `gender`, in any case
    "male": ("male", "males", "m", "man", "men", "boy", "boys", "남", "남자", "남성", "男"),
    "female": ("female", "females", "f", "woman", "women", "girl", "girls", "여", "여자", "여성", "女"),
}
_DATE = re.compile(
    r"\d{4}[-./]\d{1,2}\b.*|\d{1,2}[-./]\d{1,2}[-./]\d{2,4}\b.*"
    r"|\d{1,2}[-. ]+(?!month|week|day)[^\W\d_]{3,}\.?([-. ]+\d+)?"  # 03-Sep
)
_YEARS = re.compile(r"(-?\d+(?:[.,]\d+)?)\s*(?:years?|yrs?|y|yo|y/o|years? old|세|살|歳|岁)?\.?", re.IGNORECASE)

Cells = pd.DataFrame  # text, "" for an empty cell; the index plus 2 is the number of the line


def name_key(name: str) -> str:
    """Return what is the same in spellings of a class name that differ in case, space or composition of letters."""
    return unicodedata.normalize("NFC", " ".join(name.split())).casefold()


def class_key(task: str, value: str) -> str:
    """Return what is the same in spellings of a class: `name_key`, the number in `1.0`, and the band in `30 – 59`."""
    key = name_key(value)
    if number := re.fullmatch(r"0*(\d+)(?:[.,]0+)?", key):
        return number[1]
    if task != AGE.name:
        return key
    key = re.sub(r"[‐-―−~～]", "-", re.sub(r"\s", "", key)).replace("≥", ">=").replace("=>", ">=")
    return re.sub(r"^(\d+)\+$", r">=\1", key)


def natural_key(value: str) -> tuple[bool, float, str]:
    """Sort key that puts numbers in numerical order, before text."""
    number = _number(value)
    return (number is None, number or 0.0, value)


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def find_target(task: Task, value: str) -> int | None:
    """Return the target of a class name in any spelling, or of an age in years for AGE; None if it is neither.

    Example:
        >>> find_target(AGE, "61"), find_target(AGE, "30 – 59"), find_target(AGE, "old"), find_target(GENDER, "F")
        (2, 1, None, 1)
    """
    years = years_of(value)
    if years is not None and task.name == AGE.name and 0 <= years <= OLDEST and value not in task.classes:
        value = AGE.classes[int(age_band(years))]
    if value in task.classes:
        return task.classes.index(value)
    if task == GENDER:
        value = _gender_of(value) or value
    key = class_key(task.name, value)
    alike = [i for i, name in enumerate(task.classes) if class_key(task.name, name) == key]
    return alike[0] if len(alike) == 1 else None


def _gender_of(value: str) -> str | None:
    """Return the class of GENDER that a word stands for; None for another word."""
    return next((name for name, words in GENDERS.items() if name_key(value) in words), None)


def years_of(value: str) -> float | None:
    """Return the years in `61`, `61.0`, `61,5` or `61 years`; None for other text."""
    match = _YEARS.fullmatch(value)
    return float(match[1].replace(",", ".")) if match else None


def read_labels(csv: Path, cells: Cells, space: LabelSpace | None) -> Cells:
    """Return the cells with missing labels as "", and genders by FACE's names.

    Classes that `space` names are read as they are, even `NA`.

    Raises:
        SampleTableError: a gender or age can mean two things, or is impossible.
    """
    cells = cells.copy()
    for name in [column for column in map(str, cells) if column not in NO_LABELS]:
        own = space is not None and name in space.names and (name not in FACE.names or space[name] != FACE[name])
        classes = space[name].classes if space is not None and own else ()
        missing = MISSING | {"none"} if name in ("family", "years") or (name in PERSON_TASKS and not own) else MISSING
        empty = [value for value in cells[name].unique() if name_key(value) in missing and value not in classes]
        cells[name] = cells[name].where(~cells[name].isin(empty), "")
        broken = [value for value in cells[name].unique() if name_key(value) in SHEET_ERRORS and value not in classes]
        if broken:
            raise SampleTableError(
                f"{csv}, line {line_of(cells[name], broken[0])}: {name} is {broken[0]}, an error of the spreadsheet; "
                "correct it, or leave it empty"
            )
        if space is not None and name in FACE.names and name not in space.names:
            continue
        typed = cells[name]
        if name == GENDER.name and not own:
            cells[name] = _read_genders(csv, typed)
        elif name == "years" or (name == AGE.name and not own):
            _check_ages(csv, cells[name], bands=name == AGE.name)
        elif name == MASK.name and not own:
            _check_masks(csv, cells[name])
        if name in FACE.names and not own:
            _check_known(csv, typed, FACE[name])
    return cells


def _check_known(csv: Path, column: pd.Series[str], task: Task) -> None:
    """Raise SampleTableError if some values are classes of a FACE task and another may be a mistake for one.

    That is a similar word, a word for an unknown label, and any other among ages or synonyms of genders.
    """
    found = {value: find_target(task, value) for value in column.unique() if value}
    known = [value for value, target in found.items() if target is not None]
    others = [value for value, target in found.items() if target is None]
    if not known or not others:
        return
    strict = task == AGE or any(name_key(value) not in task.classes for value in known)
    for value in others:
        key = name_key(value)
        if strict or key in UNCLEAR or get_close_matches(key, task.classes, cutoff=0.75):
            raise SampleTableError(
                f"{csv}, line {line_of(column, value)}: expected {' or '.join(task.classes)}, as {known[0]} in line "
                f"{line_of(column, known[0])}, found {task.name} {value!r}; correct it, leave it empty, or name all "
                "classes with labels.tasks"
            )
    log.warning("%s: classes beside %s: %s", task.name, ", ".join(known), ", ".join(others))


def _read_genders(csv: Path, column: pd.Series[str]) -> pd.Series[str]:
    """Return the column with male and female for their synonyms, which are logged; other values stay."""
    found = {value: _gender_of(value) for value in column.unique() if value}
    numbers = [value for value, name in found.items() if name is None and _number(value) is not None]
    if numbers:
        raise SampleTableError(
            f"{csv}, line {line_of(column, numbers[0])}: expected male or female, found gender {numbers[0]}, which has "
            "two meanings (UTKFace: 0 = male, 1 = female; IMDB-WIKI: 0 = female, 1 = male); write male and female"
        )
    renamed = {value: name for value, name in found.items() if name is not None and value.casefold() != name}
    if renamed:
        log.warning("gender: %s", ", ".join(f"{value} is read as {name}" for value, name in renamed.items()))
    return column.replace(renamed)


def _check_ages(csv: Path, column: pd.Series[str], *, bands: bool) -> None:
    """Raise SampleTableError for an impossible age, for a word among ages, and for numbers that may be classes."""
    years = {value: years_of(value) for value in column.unique() if value}
    ages = [age for age in years.values() if age is not None]
    for value, age in years.items():
        if age is not None and not 0 <= age <= OLDEST:
            raise SampleTableError(
                f"{csv}, line {line_of(column, value)}: expected an age of 0 to {OLDEST} years, found {value}; "
                "correct it, or leave it empty"
            )
        is_band = bands and (not ages or class_key(AGE.name, value) in AGE.classes)
        if age is None and _DATE.fullmatch(value):
            raise SampleTableError(
                f"{csv}, line {line_of(column, value)}: expected an age, found {value!r}, which is a date (a "
                "spreadsheet may have changed a band such as 3-9); write the age in years, or leave it empty"
            )
        if age is None and not is_band:
            expected = f"years or one of {', '.join(AGE.classes)}" if bands else "a number of years"
            raise SampleTableError(
                f"{csv}, line {line_of(column, value)}: expected {expected}, found {value!r}; "
                "correct it, or leave it empty"
            )
    if bands and len(ages) == len(years) > 1 and set(ages) <= {0, 1, 2}:
        raise SampleTableError(
            f"expected ages in {csv}, found {', '.join(sorted(years))}: years, or numbers of classes? "
            f"Replace numbers of classes by {', '.join(AGE.classes)}"
        )


def _check_masks(csv: Path, column: pd.Series[str]) -> None:
    """Raise SampleTableError for `none` among FACE's mask states."""
    nones = [value for value in column.unique() if name_key(value) == "none"]
    if nones and any(find_target(MASK, value) is not None for value in column.unique()):
        raise SampleTableError(
            f"{csv}, line {line_of(column, nones[0])}: mask {nones[0]!r} may mean no mask or no label; write normal, "
            "or leave it empty"
        )


def line_of(column: pd.Series[str], value: str) -> int:
    """Return the number of the first line that has the value."""
    return int(column.index[column == value][0]) + 2
