"""Apply label corrections from a CSV with the columns person_id, field, value and, optionally, agreed_by.

`field` is a task; `value` is the person's class (gender,male), or a photo and its class (mask,mask3.jpg:normal). A
person's class is refused if the photos have different ones, and a line that contradicts another, too.
Three fields belong to the competition: `age` (years), `age_band` (<30, 30-59, >=60) and `swap`
(`normal:incorrect_mask`: each file contains the other's photo). `agreed_by` is the number of reviewers who agree; 0 is
a proposal that nobody has reviewed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from mask_lightning.data.csv_files import read_cells
from mask_lightning.data.families import ids_by_value, match_id, value_of_id
from mask_lightning.data.images import log_and_shorten
from mask_lightning.data.index import OLDEST, SHOTS
from mask_lightning.data.label_cells import find_target, years_of
from mask_lightning.errors import ConfigError, SampleTableError
from mask_lightning.labels import AGE, FACE, PERSON_TASKS, UNLABELLED, LabelSpace, Task, age_band
from mask_lightning.utils.files import find_path

COLUMNS = ("person_id", "field", "value")
REQUIRED = {  # field -> columns of the sample table that it needs, with FACE's classes
    "mask": ("mask",),
    "gender": ("gender",),
    "age": ("years", "age"),
    "age_band": ("age",),
    "swap": ("shot", "mask"),
}

# Row labels of the sample table, and the value that each gets, per column.
Changes = dict[str, dict[int, int]]
Corrector = Callable[[pd.DataFrame, str], Changes]  # the person's rows and the value of the line


@dataclass(frozen=True)
class CorrectionReport:
    """Counts of applied and ignored lines of a corrections file."""

    applied: int
    too_few_agreed: int

    def __str__(self) -> str:
        return f"{self.applied} corrections applied, {self.too_few_agreed} below agreed_by left out"


def correct(
    table: pd.DataFrame, path: str | Path, *, agreed_by: int = 1, space: LabelSpace = FACE
) -> tuple[pd.DataFrame, CorrectionReport]:
    """Return a corrected copy of a sample table, and a report.

    Args:
        table: the sample table.
        path: the corrections; an id that a spreadsheet has changed is recognised, see `match_id`.
        agreed_by: only lines with at least so many agreeing reviewers are applied.
        space: the label space of the table.

    Raises:
        SampleTableError: the file is missing or lacks a column, or a line has an unknown person, field or value.
        ConfigError: a correction needs a column of the competition that the table lacks.
    """
    path = find_path(path)
    lines = _read(path)
    task_fields: dict[str, Corrector] = {task.name: partial(_correct_task, task) for task in space.tasks if task != AGE}
    correctors = {**_COMPETITION_FIELDS, **task_fields}
    lines["field"] = [_field(field, correctors) for field in lines["field"]]
    _check_columns(table, space, set(lines["field"]) - set(task_fields), path)
    trusted = lines[lines["agreed_by"] >= agreed_by]
    trusted = trusted.assign(person_id=_match_ids(path, trusted["person_id"], table["person_id"]))
    corrected = table.copy()
    places = table.groupby("person_id").indices
    source: dict[tuple[str, int], int] = {}  # column and row -> line that has set it
    for number, (person_id, field, value) in zip(trusted.index + 2, trusted[list(COLUMNS)].to_numpy(), strict=True):
        person = table.iloc[places[person_id]]
        for column, changes in _changes(person, correctors, field, value, f"{path}, line {number}").items():
            for row, target in changes.items():
                other = source.setdefault((column, row), number)
                if other != number and corrected.at[row, column] != target:
                    raise SampleTableError(
                        f"{path}, line {number}: {field} of {person_id} contradicts line {other}; remove one of them"
                    )
                corrected.at[row, column] = target
    return corrected, CorrectionReport(len(trusted), len(lines) - len(trusted))


def _field(typed: str, known: Mapping[str, Corrector]) -> str:
    """Return the known field that is typed in any case, with space or `-` between words; else what is typed."""
    by_key = {re.sub(r"[\s_-]+", "_", name.casefold()): name for name in known}
    return typed if typed in known else by_key.get(re.sub(r"[\s_-]+", "_", typed.casefold()), typed)


def _match_ids(path: Path, typed: pd.Series[str], people: pd.Series[str]) -> list[str]:
    known = ids_by_value(people)
    matched = [match_id(each, known) for each in typed]
    lost = [
        f"line {line + 2} ({each or 'empty'}{' may be any of ' + ', '.join(several) if several else ''})"
        for line, each, found in zip(typed.index, typed, matched, strict=True)
        if found is None
        for several in [known.get(value_of_id(each), [])]
    ]
    if lost:
        raise SampleTableError(
            f"expected ids of people who have photos in {path}, found {len(lost)} lines with others: "
            f"{log_and_shorten(lost)}; correct their person_id, or remove these lines"
        )
    return [found for found in matched if found is not None]


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise SampleTableError(f"expected a corrections CSV at {path}, found none; set data.corrections to it")
    lines = read_cells(path, (*COLUMNS, "agreed_by"))
    missing = [column for column in COLUMNS if column not in lines]
    if missing:
        raise SampleTableError(
            f"expected columns {', '.join(COLUMNS)} in {path}, found {', '.join(lines.columns)}; "
            f"add {', '.join(missing)}"
        )
    # Without the column every line counts as agreed by one reviewer, the lowest threshold.
    cells = lines.get("agreed_by", pd.Series("1", lines.index)).replace("", "1")
    agreed = pd.to_numeric(cells, errors="coerce")
    wrong = agreed.index[~(agreed % 1 == 0)]  # also for NaN and infinity
    if len(wrong):
        raise SampleTableError(
            f"expected a whole number as agreed_by in {path}, line {wrong[0] + 2}, found {cells[wrong[0]]}; correct it"
        )
    return lines.assign(agreed_by=agreed.astype(int))


def _check_columns(table: pd.DataFrame, space: LabelSpace, fields: set[str], path: str | Path) -> None:
    for field in sorted(fields & set(REQUIRED)):
        for column in REQUIRED[field]:
            same_classes = column not in FACE.names or (column in space.names and space[column] == FACE[column])
            if column not in table or not same_classes:
                raise ConfigError(
                    f"{path} corrects {field}, which needs {column} with the competition's classes; "
                    "set data.corrections=null for these photos"
                )


def _changes(person: pd.DataFrame, correctors: Mapping[str, Corrector], field: str, value: str, where: str) -> Changes:
    if field not in correctors:
        raise SampleTableError(f"expected a field of {', '.join(correctors)}, found {field!r} in {where}; correct it")
    try:
        return correctors[field](person, value)
    except ValueError as error:
        raise SampleTableError(f"{where}: {field} cannot become {value!r} ({error}); correct the line") from None


def _correct_task(task: Task, person: pd.DataFrame, value: str) -> Changes:
    there = sorted(set(person[task.name]) - {UNLABELLED})
    target = find_target(task, value)
    if target is not None:
        if len(there) > 1 and task.name not in PERSON_TASKS:
            photo = Path(person["path"].iloc[0]).name
            raise ValueError(
                f"this person's photos are {' and '.join(task.classes[i] for i in there)}; name the photo, as "
                f"{photo}:{value}"
            )
        return _set(person, task.name, target)
    photo, _, name = value.rpartition(":")
    target = find_target(task, name.strip())
    if not photo or target is None:
        raise ValueError(f"expected {', '.join(task.classes)}, or a photo, a colon and one of these")
    photos = person[[is_called(path, photo.strip()) for path in person["path"]]]
    if photos.empty:
        raise ValueError(f"this person has no photo {photo}")
    if task.name in PERSON_TASKS and len(photos) < len(person) and there != [target]:
        raise ValueError(f"all photos of a person have one {task.name}; leave out the photo")
    return _set(photos, task.name, target)


def _set(rows: pd.DataFrame, column: str, value: int) -> Changes:
    return {column: dict.fromkeys(rows.index, value)}


def is_called(path: str, name: str) -> bool:
    """Return True if `name` is the photo's file name, with or without suffix, or the end of its path.

    Example:
        >>> is_called("/faces/a/mask3.jpg", "mask3"), is_called("/faces/a/mask3.jpg", "a/mask3.jpg")
        (True, True)
    """
    return Path(path).stem == name or path.endswith(f"/{name}")


def _correct_age(person: pd.DataFrame, value: str) -> Changes:
    years = years_of(value)
    if years is None or not 0 <= years <= OLDEST:
        raise ValueError(f"expected 0 to {OLDEST} years")
    return {**_set(person, "years", int(years)), **_set(person, AGE.name, int(age_band(years)))}


def _correct_age_band(person: pd.DataFrame, value: str) -> Changes:
    target = None if years_of(value) is not None else find_target(AGE, value)
    if target is None:
        raise ValueError(f"expected one of {', '.join(AGE.classes)}")
    return _set(person, AGE.name, target)


def _correct_swap(person: pd.DataFrame, value: str) -> Changes:
    first, _, second = (each.strip() for each in value.partition(":"))
    if first not in SHOTS or second not in SHOTS or first == second:
        raise ValueError(f"expected two of {', '.join(SHOTS)} with a colon between")
    rows = {shot: person[person["shot"] == shot] for shot in (first, second)}
    if any(each.empty for each in rows.values()):
        raise ValueError("this person lacks one of the two photos")
    pairs = ((first, second), (second, first))
    changes = {row: int(rows[other]["mask"].iloc[0]) for shot, other in pairs for row in rows[shot].index}
    return {"mask": changes}


_COMPETITION_FIELDS: dict[str, Corrector] = {
    "age": _correct_age,
    "age_band": _correct_age_band,
    "swap": _correct_swap,
}
