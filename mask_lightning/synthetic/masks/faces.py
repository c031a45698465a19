"""The people of a face set: whose photo shows whom."""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mask_lightning.errors import SampleTableError

GENDERS = ("male", "female")
COLUMNS = ("path", "person_id", "gender", "age")
# What a folder name <id>_<gender>_<race>_<age> can hold without being read differently.
SAFE_ID = re.compile(r"[A-Za-z0-9-]+")


@dataclass(frozen=True)
class Person:
    """One person and the photos of them; `age` in years."""

    person_id: str
    gender: str
    race: str
    age: int
    photos: tuple[Path, ...]

    @property
    def folder(self) -> str:
        """The name of their folder in the competition's layout."""
        return f"{self.person_id}_{self.gender}_{self.race}_{self.age}"


def read_people(rows: pd.DataFrame) -> list[Person]:
    """The people in a table with the columns path, person_id, gender, age and, if known, race.

    Raises SampleTableError if a column or an entry is missing or is not what it should be, or if one person
    has two ages or genders.
    """
    missing = [column for column in COLUMNS if column not in rows.columns]
    if missing:
        raise SampleTableError(
            f"expected the columns {', '.join(COLUMNS)}; {', '.join(missing)} missing; add or rename them"
        )
    if rows.empty:
        raise SampleTableError("expected at least one photo, found an empty table; check data.root")
    empty = [column for column in COLUMNS if rows[column].isna().any()]
    if empty:
        raise SampleTableError(f"expected no empty entries, found some in {', '.join(empty)}; fill or drop those rows")
    return [_person(str(name), group) for name, group in rows.groupby("person_id", sort=True)]


def _person(person_id: str, rows: pd.DataFrame) -> Person:
    if not SAFE_ID.fullmatch(person_id):
        raise SampleTableError(
            f"expected person ids of letters, digits and '-', found {person_id!r}; rename that person"
        )
    gender = _only(rows, "gender", person_id)
    if gender not in GENDERS:
        raise SampleTableError(f"expected gender male or female, found {gender!r} for {person_id}; correct it")
    # FairFace writes Latino_Hispanic; in a folder name the underscore would start the age.
    race = re.sub(r"[^A-Za-z]", "", str(rows["race"].iloc[0])) if "race" in rows.columns else ""
    photos = tuple(Path(path) for path in rows["path"])
    return Person(person_id, gender, race or "Unknown", _years(_only(rows, "age", person_id), person_id), photos)


def _years(age: str, person_id: str) -> int:
    try:
        years = float(age)
    except ValueError:
        years = -1.0
    if not 0 <= years <= 120:
        raise SampleTableError(
            f"expected an age in years from 0 to 120, found {age!r} for {person_id}; correct it "
            "(for an age band give a year inside it)"
        )
    return int(years)


def _only(rows: pd.DataFrame, column: str, person_id: str) -> str:
    """The one value that all photos of a person agree on."""
    found = sorted({str(value) for value in rows[column]})
    if len(found) > 1:
        raise SampleTableError(
            f"expected one {column} for person {person_id}, found {' and '.join(found)}; "
            "correct the table or give the photos different person ids"
        )
    return found[0]
