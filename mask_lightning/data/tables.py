"""Read a CSV of labelled photos into a sample table and a label space.

Columns: `path`, `person_id`, and one per task with class names; an empty cell means that the photo is not labelled.
Optional columns: `family` (people who must be on the same side of every split), `years`, `race` and `shot`. In a column
`age`, ages in years become FACE's age bands.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mask_lightning.data.families import join_families_of_people
from mask_lightning.data.images import missing_files, path_inside
from mask_lightning.data.index import OLDEST, read_csv
from mask_lightning.errors import ConfigError, LabelError, SampleTableError, did_you_mean
from mask_lightning.labels import AGE, FACE, PERSON_TASKS, UNLABELLED, LabelSpace, Task, age_band

log = logging.getLogger(__name__)

NEEDED = ("path", "person_id")
KEPT = ("race", "shot")
NO_TASKS = ("path", "person_id", "family", "years", "shot")
UNNAMED = "Unnamed: "  # prefix that pandas gives a column without a heading, such as a saved index
MAX_CLASSES = 50  # a column with more values holds remarks or measurements
MISTAKES = 0.05  # share of people with two labels up to which these look like mistakes, not like a task per photo

Cells = pd.DataFrame  # text, "" for an empty cell


def read_table(
    csv: str | Path, root: str | Path | None = None, *, space: LabelSpace | None = None, needed: Sequence[str] = ()
) -> tuple[pd.DataFrame, LabelSpace]:
    """Read a CSV of photos, without decoding them, in the order of its lines.

    Args:
        csv: the file.
        root: folder that its paths are relative to and must not leave; None: the CSV's own folder.
        space: the tasks and their classes; None infers them from the columns.
        needed: tasks that must have a column, with at least two classes if the label space is inferred.

    Returns:
        The sample table, and the label space of the tasks that the CSV has a column for.

    Raises:
        SampleTableError: a column or photo is missing, a path leaves `root`, a label is unknown, or a person has two
            genders or age bands.
        LabelError: no column is, or can be, a task.
        ConfigError: `root` is not a folder.
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
    table = join_families_of_people(table, source=str(csv))
    table["path"] = _photos(csv, Path(root).expanduser() if root else csv.parent, cells["path"])
    for task in space.tasks:
        table[task.name] = read_targets(csv, cells[task.name], task)
    _check_people(csv, table, space)
    return table, space


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

    A column with the name of a FACE task keeps the order of its classes if all values are classes of it.

    Raises:
        LabelError: no column, or not one of `needed`, can be a task.

    Example:
        >>> cells = pd.DataFrame({"path": ["1.jpg", "2.jpg"], "gender": ["Female", "male"], "smile": ["yes", "no"]})
        >>> infer_space(cells).to_plain()
        {'gender': ['male', 'female'], 'smile': ['no', 'yes']}
    """
    columns = [column for column in map(str, cells) if column not in NO_TASKS and not column.startswith(UNNAMED)]
    found = {column: _infer_task(column, cells[column]) for column in columns}
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


def _infer_task(name: str, column: pd.Series[str]) -> Task | str:
    """Return a task, or the reason why the column cannot be one."""
    values = sorted(set(column) - {""}, key=_natural)
    if name in FACE.names:
        targets = {find_target(FACE[name], value) for value in values}
        if None not in targets and len(targets) > 1:
            return Task(name, tuple(FACE[name].classes[i] for i in sorted(t for t in targets if t is not None)))
    if len(values) < 2:
        return "one class only" if values else "no labels"
    if len(values) > MAX_CLASSES:
        return f"{len(values)} different values, more than {MAX_CLASSES}"
    return Task(name, tuple(values))


def _natural(value: str) -> tuple[bool, float, str]:
    """Sort key that puts numbers in numerical order, before text."""
    number = _number(value)
    return (number is None, number or 0.0, value)


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def read_targets(csv: Path, column: pd.Series[str], task: Task) -> pd.Series[int]:
    """Convert class names to targets, and empty cells to UNLABELLED.

    Raises:
        SampleTableError: a name is unknown; the message has its line number.
    """
    targets = {"": UNLABELLED}
    for value in column[column != ""].unique():
        target = find_target(task, value)
        if target is None:
            line = int((column == value).to_numpy().argmax()) + 2
            raise SampleTableError(
                f"{csv}, line {line}: {task.name} has no class {value!r}; {did_you_mean(value, task.classes)}"
            )
        targets[value] = target
    return column.map(targets).astype("int64")


def find_target(task: Task, value: str) -> int | None:
    """Return the target of a class name in any case, or of an age in years for AGE; None if it is neither.

    Example:
        >>> find_target(AGE, "61"), find_target(AGE, "30-59"), find_target(AGE, "old")
        (2, 1, None)
    """
    years = _number(value)
    if years is not None and task.name == AGE.name and 0 <= years <= OLDEST and value not in task.classes:
        value = AGE.classes[int(age_band(years))]
    if value in task.classes:
        return task.classes.index(value)
    alike = [i for i, name in enumerate(task.classes) if name.casefold() == value.casefold()]
    return alike[0] if len(alike) == 1 else None


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
