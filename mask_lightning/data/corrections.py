"""Apply label corrections from a CSV with the columns person_id, field, value and, optionally, agreed_by.

`field` is a task; `value` is the person's class (gender,male), or a photo and its class (mask,mask3.jpg:normal). A
person's class is refused if the photos have different ones.
Three fields belong to the competition: `age` (years), `age_band` (<30, 30-59, >=60) and `swap`
(`normal:incorrect_mask`: each file contains the other's photo). `agreed_by` is the number of reviewers who agree; 0 is
a proposal that nobody has reviewed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from mask_lightning.data.csv_files import read_cells
from mask_lightning.data.images import log_and_shorten
from mask_lightning.data.index import OLDEST, SHOTS
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

Corrector = Callable[[pd.DataFrame, pd.Series, str], None]  # table, mask of the person's rows, value


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
    _check_columns(table, space, set(lines["field"]) - set(task_fields), path)
    trusted = lines[lines["agreed_by"] >= agreed_by]
    trusted = trusted.assign(person_id=_match_ids(path, trusted["person_id"], table["person_id"]))
    table = table.copy()
    for number, (person_id, field, value) in zip(trusted.index, trusted[list(COLUMNS)].to_numpy(), strict=True):
        where = f"{path}, line {number + 2}"
        _apply(table, table["person_id"] == person_id, correctors, str(field), str(value), where)
    return table, CorrectionReport(len(trusted), len(lines) - len(trusted))


def match_id(typed: str, known: Mapping[str, Sequence[str]]) -> str | None:
    """Return the id that was typed, or the only one that a spreadsheet would turn into it; None if there is none.

    Args:
        typed: the id in the file.
        known: result of `ids_by_value`.

    Example:
        >>> known = ids_by_value(["000001", "000012-1"])
        >>> [match_id(typed, known) for typed in ("000001", "1.0", "12-1", "2")]
        ['000001', '000001', '000012-1', None]
    """
    same = known.get(_value_of_id(typed), ())
    if typed in same:
        return typed
    return same[0] if len(same) == 1 else None


def ids_by_value(ids: Iterable[str]) -> dict[str, list[str]]:
    """Group different ids by what is left of them without leading zeros."""
    known: dict[str, list[str]] = {}
    for person_id in dict.fromkeys(ids):
        known.setdefault(_value_of_id(person_id), []).append(person_id)
    return known


def _value_of_id(text: str) -> str:
    """Return an id without what spreadsheets add or drop: leading zeros, `.0`, and marks of text (`'1`, `="1"`)."""
    text = re.sub(r"^(=?\"(.*)\"|'(.*))$", lambda match: match[2] or match[3] or "", text.strip()).strip()
    number = re.fullmatch(r"0*(\d+)(?:[.,]0+)?((?:-\d+)?)", text)
    return number[1] + number[2] if number else text


def _match_ids(path: Path, typed: pd.Series[str], people: pd.Series[str]) -> list[str]:
    known = ids_by_value(people)
    matched = [match_id(each, known) for each in typed]
    lost = [
        f"line {line + 2} ({each or 'empty'}{' may be any of ' + ', '.join(several) if several else ''})"
        for line, each, found in zip(typed.index, typed, matched, strict=True)
        if found is None
        for several in [known.get(_value_of_id(each), [])]
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
    if agreed.isna().any():
        line = agreed.index[agreed.isna()][0]
        raise SampleTableError(
            f"expected a number as agreed_by in {path}, line {line + 2}, found {cells[line]}; correct it"
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


def _apply(
    table: pd.DataFrame,
    person: pd.Series[bool],
    correctors: Mapping[str, Corrector],
    field: str,
    value: str,
    where: str,
) -> None:
    if field not in correctors:
        raise SampleTableError(f"expected a field of {', '.join(correctors)}, found {field} in {where}; correct it")
    try:
        correctors[field](table, person, value)
    except ValueError as error:
        raise SampleTableError(f"{where}: {field} cannot become {value!r} ({error}); correct the line") from None


def _correct_task(task: Task, table: pd.DataFrame, person: pd.Series[bool], value: str) -> None:
    if value in task.classes:
        there = sorted(set(table.loc[person, task.name]) - {UNLABELLED})
        if len(there) > 1 and task.name not in PERSON_TASKS:
            photo = Path(table.loc[person, "path"].iloc[0]).name
            raise ValueError(
                f"this person's photos are {' and '.join(task.classes[i] for i in there)}; name the photo, as "
                f"{photo}:{value}"
            )
        table.loc[person, task.name] = task.classes.index(value)
        return
    photo, _, name = value.rpartition(":")
    if not photo or name not in task.classes:
        raise ValueError(f"expected {', '.join(task.classes)}, or a photo, a colon and one of these")
    there = [path for path in table.loc[person, "path"] if is_called(path, photo)]
    if not there:
        raise ValueError(f"this person has no photo {photo}")
    table.loc[table["path"].isin(there), task.name] = task.classes.index(name)


def is_called(path: str, name: str) -> bool:
    """Return True if `name` is the photo's file name, with or without suffix, or the end of its path.

    Example:
        >>> is_called("/faces/a/mask3.jpg", "mask3"), is_called("/faces/a/mask3.jpg", "a/mask3.jpg")
        (True, True)
    """
    return Path(path).stem == name or path.endswith(f"/{name}")


def _correct_age(table: pd.DataFrame, person: pd.Series[bool], value: str) -> None:
    years = int(re.sub(r"[.,]0+$", "", value))  # a spreadsheet may write 61.0
    if not 0 <= years <= OLDEST:
        raise ValueError(f"expected 0 to {OLDEST} years")
    table.loc[person, "years"] = years
    table.loc[person, "age"] = int(age_band(years))


def _correct_age_band(table: pd.DataFrame, person: pd.Series[bool], value: str) -> None:
    table.loc[person, "age"] = AGE.classes.index(value)


def _correct_swap(table: pd.DataFrame, person: pd.Series[bool], value: str) -> None:
    first, _, second = value.partition(":")
    if first not in SHOTS or second not in SHOTS:
        raise ValueError(f"expected two of {', '.join(SHOTS)} with a colon between")
    rows = {shot: table.index[person & (table["shot"] == shot)] for shot in (first, second)}
    targets = {shot: table.loc[index, "mask"].iloc[0] for shot, index in rows.items() if len(index)}
    if len(targets) < 2:
        raise ValueError("this person lacks one of the two photos")
    table.loc[rows[first], "mask"] = targets[second]
    table.loc[rows[second], "mask"] = targets[first]


_COMPETITION_FIELDS: dict[str, Corrector] = {
    "age": _correct_age,
    "age_band": _correct_age_band,
    "swap": _correct_swap,
}
