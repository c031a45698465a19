"""Apply label corrections from a CSV with the columns person_id, field, value and, optionally, agreed_by.

`field` is a task; `value` is the person's class (gender,male), or a photo and its class (mask,mask3.jpg:normal).
Three fields belong to the competition: `age` (years), `age_band` (<30, 30-59, >=60) and `swap`
(`normal:incorrect_mask`: each file contains the other's photo). `agreed_by` is the number of reviewers who agree; 0 is
a proposal that nobody has reviewed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from mask_lightning.data.index import OLDEST, SHOTS, read_csv
from mask_lightning.errors import ConfigError, SampleTableError
from mask_lightning.labels import AGE, FACE, LabelSpace, Task, age_band

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
    unknown_people: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{self.applied} corrections applied, {self.too_few_agreed} below agreed_by left out"
        if self.unknown_people:
            text += f", {len(self.unknown_people)} for people who are not in the table"
        return text


def correct(
    table: pd.DataFrame, path: str | Path, *, agreed_by: int = 1, space: LabelSpace = FACE
) -> tuple[pd.DataFrame, CorrectionReport]:
    """Return a corrected copy of a sample table, and a report.

    Args:
        table: the sample table.
        path: the corrections.
        agreed_by: only lines with at least so many agreeing reviewers are applied.
        space: the label space of the table.

    Raises:
        SampleTableError: the file is missing or lacks a column, or a line has an unknown field or value.
        ConfigError: a correction needs a column of the competition that the table lacks.
    """
    lines = _read(Path(path))
    task_fields: dict[str, Corrector] = {task.name: partial(_correct_task, task) for task in space.tasks if task != AGE}
    correctors = {**_COMPETITION_FIELDS, **task_fields}
    _check_columns(table, space, set(lines["field"].dropna()) - set(task_fields), path)
    trusted = lines[lines["agreed_by"] >= agreed_by]
    table = table.copy()
    unknown = sorted(set(trusted["person_id"]) - set(table["person_id"]))
    known = trusted[~trusted["person_id"].isin(unknown)]
    for number, (person_id, field, value) in zip(known.index, known[list(COLUMNS)].to_numpy(), strict=True):
        where = f"{path}, line {number + 2}"
        _apply(table, table["person_id"] == person_id, correctors, str(field), str(value), where)
    return table, CorrectionReport(len(known), len(lines) - len(trusted), tuple(unknown))


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise SampleTableError(f"expected a corrections CSV at {path}, found none; set data.corrections to it")
    lines = read_csv(path)
    missing = [column for column in COLUMNS if column not in lines]
    if missing:
        raise SampleTableError(
            f"expected columns {', '.join(COLUMNS)} in {path}, found {', '.join(lines.columns)}; "
            f"add {', '.join(missing)}"
        )
    # Without the column every line counts as agreed by one reviewer, the lowest threshold.
    agreed = pd.to_numeric(lines.get("agreed_by", pd.Series("1", lines.index)).fillna("1"), errors="coerce")
    if agreed.isna().any():
        line = int(agreed.isna().to_numpy().argmax())
        raise SampleTableError(
            f"expected a number as agreed_by in {path}, line {line + 2}, found {lines['agreed_by'][line]}; correct it"
        )
    lines["agreed_by"] = agreed.astype(int)
    return lines


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
    years = int(value)
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
