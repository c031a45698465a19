"""Read a CSV of labelled photos into a sample table and a label space.

Columns: `path`, `person_id`, and one per task with class names; a cell that is empty or one of MISSING means that the
photo is not labelled. Optional columns: `family` (people who must be on the same side of every split), `years`, `race`
and `shot`. In a column `age`, ages in years become FACE's age bands. Headings and class names may be in any case.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mask_lightning.data.csv_files import UNNAMED, read_cells
from mask_lightning.data.families import join_families_of_people, join_similar_ids
from mask_lightning.data.images import missing_files, name_in_other_case, path_inside
from mask_lightning.data.label_cells import (
    MISSING,
    Cells,
    class_key,
    find_target,
    line_of,
    name_key,
    natural_key,
    read_labels,
    years_of,
)
from mask_lightning.errors import ConfigError, LabelError, SampleTableError, did_you_mean
from mask_lightning.labels import (
    AGE,
    FACE,
    PERSON_TASKS,
    RESERVED,
    UNLABELLED,
    LabelSpace,
    Task,
)
from mask_lightning.utils.files import find_path

log = logging.getLogger(__name__)

NEEDED = ("path", "person_id")
KEPT = ("race", "shot")
NO_TASKS = ("path", "person_id", "family", "years", "shot")
_SCIENTIFIC = re.compile(r"\d([.,]\d+)?E\+\d+", re.IGNORECASE)  # how a spreadsheet shortens a long number
MAX_CLASSES = 50  # a column with more values holds remarks or measurements
MISTAKES = 0.05  # share of people with two labels up to which these look like mistakes, not like a task per photo


def read_table(
    csv: str | Path,
    root: str | Path | None = None,
    *,
    space: LabelSpace | None = None,
    needed: Sequence[str] = (),
    follow_symlinks: bool = False,
) -> tuple[pd.DataFrame, LabelSpace]:
    """Read a CSV of photos, without decoding them, in the order of its lines.

    Args:
        csv: the file.
        root: folder that its paths are relative to and must not leave; None: the CSV's own folder.
        space: the tasks and their classes; None infers them from the columns.
        needed: tasks that must have a column, with at least two classes if the label space is inferred.
        follow_symlinks: allow symlinks inside `root` that lead out of it.

    Returns:
        The sample table, and the label space of the tasks that the CSV has a column for.

    Raises:
        SampleTableError: a column or photo is missing, a path leaves `root`, a label is unknown, an age is impossible,
            or a person has two genders or age bands.
        LabelError: no column is, or can be, a task.
        ConfigError: `root` is not a folder.
    """
    csv = find_path(csv).resolve()
    cells = _read_cells(csv, (*(space.names if space else ()), *needed))
    _check_columns(csv, cells, needed)
    cells = read_labels(csv, cells, space)
    space = infer_space(cells, needed) if space is None else _labelled_tasks(csv, cells, space)
    table = cells[["person_id"]].copy()
    table["family"] = (
        cells["family"].where(cells["family"] != "", cells["person_id"]) if "family" in cells else cells["person_id"]
    )
    for column in KEPT:
        if column in cells and column not in space.names:
            table[column] = cells[column]
    _add_years(table, cells)
    table = join_similar_ids(join_families_of_people(table, source=str(csv)), source=str(csv))
    table["path"] = _photos(csv, find_path(root) if root else csv.parent, cells["path"], follow_symlinks)
    for task in space.tasks:
        table[task.name] = read_targets(csv, cells[task.name], task)
    _check_people(csv, table, space)
    return table.reset_index(drop=True), space


def person_tasks(table: pd.DataFrame, space: LabelSpace) -> tuple[str, ...]:
    """Return the tasks that describe a person, not a photo: nobody has two labels of them."""
    return tuple(name for name in space.names if not people_with_two_labels(table, name))


def people_with_two_labels(table: pd.DataFrame, column: str) -> list[str]:
    """Return the ids of the people whose photos have different labels of a task; unlabelled photos do not count.

    Example:
        >>> table = pd.DataFrame({"person_id": ["a", "a", "b", "b"], "gender": [0, 1, 1, -1]})
        >>> people_with_two_labels(table, "gender")
        ['a']
    """
    labelled = table[table[column] != UNLABELLED]
    several = labelled.groupby("person_id")[column].nunique() > 1
    return [str(person) for person in several.index[several]]


def infer_space(cells: Cells, needed: Sequence[str] = ()) -> LabelSpace:
    """Infer the tasks: every column with 2 to MAX_CLASSES different values, in the order of the columns.

    A column with the name of a FACE task keeps the order of its classes if all values are classes of it. Names that
    differ in case or space only are one class, by the most frequent spelling.

    Raises:
        LabelError: no column, or not one of `needed`, can be a task.

    Example:
        >>> cells = pd.DataFrame({"path": ["1.jpg", "2.jpg"], "gender": ["Female", "male"], "smile": ["yes", "no"]})
        >>> infer_space(cells).to_plain()
        {'gender': ['male', 'female'], 'smile': ['no', 'yes']}
    """
    columns = [column for column in map(str, cells) if column not in NO_TASKS and not column.startswith(UNNAMED)]
    found = {column: _infer_task(column, cells[column]) for column in columns}
    _check_similar_names([column for column, task in found.items() if isinstance(task, Task)])
    unfit = {column: reason for column, reason in found.items() if isinstance(reason, str)}
    for column in [name for name in needed if name in unfit]:
        raise LabelError(f"column {column} cannot be a task: {unfit[column]}; name its classes with labels.tasks")
    tasks = tuple(task for task in found.values() if isinstance(task, Task))
    if not tasks:
        described = ", ".join(f"{column}: {reason}" for column, reason in unfit.items()) or "none"
        raise LabelError(
            f"expected a column of labels per task, found {described}; add one, or name its classes with labels.tasks"
        )
    if unfit and not needed:
        log.warning("left out: %s", ", ".join(f"{column} ({reason})" for column, reason in unfit.items()))
    return LabelSpace(tasks)


def _check_similar_names(names: Sequence[str]) -> None:
    """Raise LabelError for two tasks whose names differ in case or space only."""
    first: dict[str, str] = {}
    for name in names:
        if (other := first.setdefault(name_key(name), name)) != name:
            raise LabelError(f"expected different columns per task, found {other} and {name}; rename or remove one")


def _infer_task(name: str, column: pd.Series[str]) -> Task | str:
    """Return a task, or the reason why the column cannot be one."""
    if name in RESERVED:
        return "a name with another meaning"
    spellings = _group_spellings(name, column[column != ""])
    values = sorted((each[0] for each in spellings), key=natural_key)
    if any("\n" in value for value in values):
        return "cells of several lines"
    if name in FACE.names:
        targets = {find_target(FACE[name], value) for value in values}
        if None not in targets and len(targets) > 1:
            return Task(name, tuple(FACE[name].classes[i] for i in sorted(t for t in targets if t is not None)))
        if name == AGE.name and values and None not in targets:
            return f"all are {AGE.classes[targets.pop() or 0]}"
    if len(values) < 2:
        return "one class only" if values else "no labels"
    if len(values) > MAX_CLASSES:
        return f"{len(values)} different values, more than {MAX_CLASSES}"
    for chosen, *others in spellings:
        if others:
            log.warning("%s: %s is read as %r", name, ", ".join(map(repr, others)), chosen)
        if name_key(chosen) == "none":
            log.warning("%s: %r is read as a class; leave the cells of unlabelled photos empty", name, chosen)
    return Task(name, tuple(values))


def _group_spellings(task: str, column: pd.Series[str]) -> list[list[str]]:
    """Return the spellings of each class of a task, the most frequent one first."""
    counts = column.value_counts(sort=False)
    by_key: dict[str, list[str]] = {}
    for value in sorted(counts.index, key=lambda value: (-counts[value], value)):
        by_key.setdefault(class_key(task, value), []).append(value)
    return list(by_key.values())


def read_targets(csv: Path, column: pd.Series[str], task: Task) -> pd.Series[int]:
    """Convert class names to targets, and empty cells to UNLABELLED.

    Raises:
        SampleTableError: a name is unknown; the message has its line number.
    """
    targets = {"": UNLABELLED}
    for value in column[column != ""].unique():
        target = find_target(task, value)
        if target is None:
            raise SampleTableError(
                f"{csv}, line {line_of(column, value)}: {task.name} has no class {value!r}; "
                f"{did_you_mean(value, task.classes)}"
            )
        targets[value] = target
    return column.map(targets).astype("int64")


def _read_cells(csv: Path, tasks: Sequence[str]) -> Cells:
    if not csv.is_file():
        raise SampleTableError(f"expected a CSV at {csv}, found none; set data.table to it")
    cells = read_cells(csv, dict.fromkeys([*NO_TASKS, *KEPT, *FACE.names, *tasks]))
    if cells.empty:
        raise SampleTableError(f"expected a row per photo in {csv}, found none; add them")
    return cells


def _check_columns(csv: Path, cells: Cells, needed: Sequence[str]) -> None:
    for name in [name for name in needed if name in RESERVED]:
        raise LabelError(f"a task cannot be called {name}, which has another meaning; rename its column")
    missing = [column for column in (*NEEDED, *needed) if column not in cells]
    if missing:
        found = f"expected a column {missing[0]} in {csv}, found {', '.join(cells.columns)}"
        if missing[0] in NEEDED:
            raise SampleTableError(f"{found}; add it, or rename the column that holds it")
        raise SampleTableError(f"{found}; add it or rename the column that holds it (to train without: task.tasks)")
    for column in NEEDED:
        empty = cells.index[cells[column].map(lambda value: name_key(value) in MISSING | {"none"})]
        if len(empty):
            found = cells[column][empty[0]] or "empty"
            raise SampleTableError(f"{csv}, line {empty[0] + 2}: {column} is {found} ({len(empty)} times); fill it in")
    short = cells.index[cells["person_id"].map(lambda value: _SCIENTIFIC.fullmatch(value) is not None)]
    if len(short):
        raise SampleTableError(
            f"{csv}, line {short[0] + 2}: person_id is {cells['person_id'][short[0]]}, a number whose last digits a "
            "spreadsheet has dropped; save that column as text"
        )


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
    years = cells[source].map(years_of).astype("float64")
    if years.notna().any():
        table["years"] = years


def _photos(csv: Path, root: Path, names: pd.Series[str], follow_symlinks: bool) -> list[str]:
    if not root.is_dir():
        raise ConfigError(f"expected the folder of the photos at {root}, found none; set data.root, or leave it null")
    paths = []
    for row, name in names.items():
        try:
            paths.append(path_inside(root, name, follow_symlinks=follow_symlinks))
        except SampleTableError as error:
            raise SampleTableError(f"{csv}, line {int(row) + 2}: {error}") from None  # type: ignore[call-overload]
    missing = missing_files(paths)
    if missing:
        alike = name_in_other_case(missing[0])
        raise SampleTableError(
            f"{csv} names {len(missing)} photos that are not there ({', '.join(map(str, missing[:3]))}); "
            + (
                f"the first is called {alike} on this disk: write small and capital letters alike"
                if alike
                else "restore them, drop their lines, or set data.root to what the paths are relative to"
            )
        )
    twice = pd.Series(paths)[pd.Series(paths).duplicated()]
    if len(twice):
        raise SampleTableError(f"{csv} names {len(twice)} photos twice ({twice.iloc[0]}); keep one line of each")
    return [str(path) for path in paths]


def _check_people(csv: Path, table: pd.DataFrame, space: LabelSpace) -> None:
    for task in space.tasks:
        people = people_with_two_labels(table, task.name)
        if people and task.name in PERSON_TASKS:
            rows = table[(table["person_id"] == people[0]) & (table[task.name] != UNLABELLED)]
            labels = " and ".join(task.classes[i] for i in sorted(rows[task.name].unique()))
            raise SampleTableError(
                f"expected one {task.name} per person in {csv}, found {labels} for person {people[0]} "
                f"({len(people)} such people); correct the cells, or give other people another person_id"
            )
        labelled = table[table[task.name] != UNLABELLED]
        with_several_photos = int((labelled.groupby("person_id").size() > 1).sum())
        if people and len(people) <= MISTAKES * with_several_photos:
            log.warning(
                "%d of %d people have two labels of %s (%s): mistakes? It is used as a task of the single photo",
                len(people),
                with_several_photos,
                task.name,
                ", ".join(people[:5]),
            )
    if "years" in table:
        ages = table.dropna(subset="years").groupby("person_id")["years"].nunique()
        if (ages > 1).any():
            log.warning(
                "%d people have photos at several ages: %s", (ages > 1).sum(), ", ".join(ages.index[ages > 1][:5])
            )
