"""What the columns of a CSV say: which tasks they are, and the targets in their cells."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mask_lightning.data.index import OLDEST
from mask_lightning.errors import LabelError, SampleTableError, did_you_mean
from mask_lightning.labels import AGE, FACE, UNLABELLED, LabelSpace, Task, age_band

log = logging.getLogger(__name__)

NO_TASKS = ("path", "person_id", "family", "years", "shot")
UNNAMED = "Unnamed: "  # what pandas calls a column without a heading, such as a saved index
MAX_CLASSES = 50  # a column of more values is a remark or a measurement

Cells = pd.DataFrame  # of text, "" where empty


def infer_space(cells: Cells, needed: Sequence[str] = ()) -> LabelSpace:
    """The tasks that the columns of text can be: two to MAX_CLASSES different values, in their order.

    Columns called as a task of FACE keep its classes' order where all their values fit.

    Raises:
        LabelError: none can, or one of `needed` cannot.
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
    """A task, or why the column cannot be one."""
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
    """Numbers by their size, before text."""
    number = _number(value)
    return (number is None, number or 0.0, value)


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def read_targets(csv: Path, column: pd.Series[str], task: Task) -> pd.Series[int]:
    """Class names -> targets, UNLABELLED where empty. Raises SampleTableError for an unknown name, with its line."""
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
    """The target that a cell states: a class name in any case, or for age bands the years; None if it is neither."""
    years = _number(value)
    if years is not None and task.name == AGE.name and 0 <= years <= OLDEST and value not in task.classes:
        value = AGE.classes[int(age_band(years))]
    if value in task.classes:
        return task.classes.index(value)
    alike = [i for i, name in enumerate(task.classes) if name.casefold() == value.casefold()]
    return alike[0] if len(alike) == 1 else None
