"""A CSV of any labelled photos -> the sample table and its label space.

Columns: `path`, `person_id`, and one per task that holds class names; an empty cell is a photo whose class nobody
stated. Where they are there, `family` (people who must share a side of every split), `years`, `race` and `shot` are
kept. Ages in years become FACE's age bands.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mask_lightning.data.columns import Cells, infer_space, read_targets
from mask_lightning.data.index import read_csv
from mask_lightning.data.paths import missing_files, path_inside
from mask_lightning.errors import ConfigError, LabelError, SampleTableError
from mask_lightning.labels import PERSON_TASKS, UNLABELLED, LabelSpace

log = logging.getLogger(__name__)

NEEDED = ("path", "person_id")
KEPT = ("race", "shot")
SLIPS = 0.05  # of the people: as many with two labels look like mistakes, more like a task of the single photo


def read_table(
    csv: str | Path, root: str | Path | None = None, *, space: LabelSpace | None = None, needed: Sequence[str] = ()
) -> tuple[pd.DataFrame, LabelSpace]:
    """Read a CSV of photos (decoding none), in its order.

    Args:
        csv: the file.
        root: what its paths are relative to and must not leave; by default the CSV's own folder.
        space: the tasks and their classes; None infers them from the columns.
        needed: tasks that must have a column (and, where they are inferred, one that can be a task).

    Returns:
        The sample table, and the tasks of the label space that the CSV has a column of.

    Raises:
        SampleTableError: a column or photo is missing, a path leaves `root`, a label is unknown, or one person has
            two genders or age bands.
        LabelError: no column can be, or is, a task.
    """
    csv = Path(csv).expanduser().resolve()
    cells = _read_cells(csv)
    _check_columns(csv, cells, needed)
    space = infer_space(cells, needed) if space is None else _labelled_tasks(csv, cells, space)
    table = cells[["person_id"]].copy()
    table["family"] = (
        cells["family"].where(cells["family"] != "", cells["person_id"]) if "family" in cells else cells["person_id"]
    )
    for column in KEPT:
        if column in cells and column not in space.names:
            table[column] = cells[column]
    _add_years(table, cells)
    table["path"] = _photos(csv, Path(root).expanduser() if root else csv.parent, cells["path"])
    for task in space.tasks:
        table[task.name] = read_targets(csv, cells[task.name], task)
    _check_people(csv, table, space)
    return table, space


def _read_cells(csv: Path) -> Cells:
    if not csv.is_file():
        raise SampleTableError(f"expected a CSV at {csv}, found none; set data.table to it")
    cells = read_csv(csv, empty_only=True).fillna("")
    cells.columns = cells.columns.str.strip()
    if cells.empty:
        raise SampleTableError(f"expected a row per photo in {csv}, found none; add them")
    return pd.DataFrame({str(name): column.str.strip() for name, column in cells.items()})


def _check_columns(csv: Path, cells: Cells, needed: Sequence[str]) -> None:
    missing = [column for column in (*NEEDED, *needed) if column not in cells]
    if missing:
        found = f"expected a column {missing[0]} in {csv}, found {', '.join(cells.columns)}"
        if missing[0] in NEEDED:
            raise SampleTableError(f"{found}; add it (columns are separated by commas)")
        raise SampleTableError(f"{found}; add it or rename the column that holds it (to train without: task.tasks)")
    for column in NEEDED:
        empty = cells.index[cells[column] == ""]
        if len(empty):
            raise SampleTableError(f"{csv}, line {empty[0] + 2}: {column} is empty ({len(empty)} times); fill it in")


def _labelled_tasks(csv: Path, cells: Cells, space: LabelSpace) -> LabelSpace:
    tasks = [name for name in space.names if name in cells]
    if not tasks:
        raise LabelError(
            f"expected a column {' or '.join(space.names)} in {csv}, found {', '.join(cells.columns)}; "
            "add it or rename the column that holds it"
        )
    return space.only(tasks)


def _add_years(table: pd.DataFrame, cells: Cells) -> None:
    source = next((column for column in ("years", "age") if column in cells), None)
    if source is None:
        return
    years = pd.to_numeric(cells[source], errors="coerce")
    if years.notna().any():
        table["years"] = years


def _photos(csv: Path, root: Path, names: pd.Series[str]) -> list[str]:
    if not root.is_dir():
        raise ConfigError(f"expected the folder of the photos at {root}, found none; set data.root, or leave it null")
    paths = []
    for line, name in enumerate(names, 2):
        try:
            paths.append(path_inside(root, name))
        except SampleTableError as error:
            raise SampleTableError(f"{csv}, line {line}: {error}") from None
    missing = missing_files(paths)
    if missing:
        raise SampleTableError(
            f"{csv} names {len(missing)} photos that are not there ({', '.join(map(str, missing[:3]))}); "
            "restore them, drop their lines, or set data.root to what the paths are relative to"
        )
    twice = pd.Series(paths)[pd.Series(paths).duplicated()]
    if len(twice):
        raise SampleTableError(f"{csv} names {len(twice)} photos twice ({twice.iloc[0]}); keep one line of each")
    return [str(path) for path in paths]


def torn_people(table: pd.DataFrame, column: str) -> list[str]:
    """Those whose photos have different labels of a task, photos without a label left aside."""
    labelled = table[table[column] != UNLABELLED]
    several = labelled.groupby("person_id")[column].nunique() > 1
    return [str(person) for person in several.index[several]]


def person_tasks(table: pd.DataFrame, space: LabelSpace) -> tuple[str, ...]:
    """The tasks that tell of a person and not of a photo: nobody has two labels of them."""
    return tuple(name for name in space.names if not torn_people(table, name))


def _check_people(csv: Path, table: pd.DataFrame, space: LabelSpace) -> None:
    for task in space.tasks:
        torn = torn_people(table, task.name)
        if torn and task.name in PERSON_TASKS:
            rows = table[(table["person_id"] == torn[0]) & (table[task.name] != UNLABELLED)]
            labels = " and ".join(task.classes[i] for i in sorted(rows[task.name].unique()))
            raise SampleTableError(
                f"expected one {task.name} per person in {csv}, found {labels} for person {torn[0]} "
                f"({len(torn)} such people); correct the cells, or give other people another person_id"
            )
        labelled = table[table[task.name] != UNLABELLED]
        seen_twice = int((labelled.groupby("person_id").size() > 1).sum())
        if torn and len(torn) <= SLIPS * seen_twice:
            log.warning(
                "%d of %d people have two labels of %s (%s): mistakes? It is taken for a task of the single photo",
                len(torn),
                seen_twice,
                task.name,
                ", ".join(torn[:5]),
            )
    if "years" in table:
        aged = table.dropna(subset="years").groupby("person_id")["years"].nunique()
        if (aged > 1).any():
            log.warning(
                "%d people have photos at several ages: %s", (aged > 1).sum(), ", ".join(aged.index[aged > 1][:5])
            )
