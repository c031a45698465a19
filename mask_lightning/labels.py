"""Tasks, and the codes that combine their targets: the only place that knows the number of a label."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mask_lightning.errors import LabelError, did_you_mean

Codes = TypeVar("Codes")  # an int, a NumPy array or a torch tensor of integers

UNLABELLED = -1  # target of a photo without a label for the task
# Columns of sample tables and their records that are not labels, so a task cannot have these names.
RESERVED = frozenset({"path", "person_id", "family", "years", "years_checked", "side", "photo", "bytes", "role"})


@dataclass(frozen=True)
class Task:
    """A classification task; the target of class `classes[i]` is `i`.

    Example:
        >>> MASK.target("normal")
        2
    """

    name: str
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise LabelError(
                f"task {self.name} needs two or more different classes, got {', '.join(self.classes) or 'none'}; "
                "name each class once"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def target(self, name: str) -> int:
        """Return the target of a class name. Raises LabelError if there is no such class."""
        if name not in self.classes:
            raise LabelError(f"{self.name} has no class {name!r}; {did_you_mean(name, self.classes)}")
        return self.classes.index(name)


@dataclass(frozen=True)
class LabelSpace:
    """Ordered tasks, and the combined class of their targets: a mixed-radix number, the first task most significant.

    Example:
        >>> FACE.encode({"mask": 1, "gender": 0, "age": 2})
        8
        >>> FACE.decode(8)
        {'mask': 1, 'gender': 0, 'age': 2}
    """

    tasks: tuple[Task, ...]

    def __post_init__(self) -> None:
        if not self.tasks or len(set(self.names)) < len(self.tasks):
            raise LabelError(f"a label space needs one or more different tasks, got {list(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tasks, in order."""
        return tuple(task.name for task in self.tasks)

    @property
    def num_codes(self) -> int:
        """Number of combined classes (18 for FACE)."""
        return math.prod(task.num_classes for task in self.tasks)

    @property
    def code_names(self) -> tuple[str, ...]:
        """Names of the combined classes, in the order of their codes."""
        decoded = self.decode(np.arange(self.num_codes))
        columns = [[task.classes[i] for i in decoded[task.name]] for task in self.tasks]
        return tuple(" ".join(names) for names in zip(*columns, strict=True))

    def __getitem__(self, name: str) -> Task:
        for task in self.tasks:
            if task.name == name:
                return task
        raise LabelError(f"no task {name!r}; {did_you_mean(name, self.names)}")

    def only(self, names: Sequence[str]) -> LabelSpace:
        """Return the label space of some of the tasks, in the order of this one."""
        wanted = {self[name].name for name in names}
        return LabelSpace(tuple(task for task in self.tasks if task.name in wanted))

    def encode(self, targets: Mapping[str, Codes]) -> Codes:
        """Combine targets per task (ints, arrays or tensors of one shape) into codes of that shape."""
        code: Any = 0
        for task in self.tasks:
            code = code * task.num_classes + targets[task.name]
        result: Codes = code
        return result

    def decode(self, codes: Codes) -> dict[str, Codes]:
        """Split codes (int, array or tensor) into targets per task, each of that shape."""
        targets: dict[str, Codes] = {}
        rest: Any = codes
        for task in reversed(self.tasks):
            targets[task.name] = rest % task.num_classes
            rest = rest // task.num_classes
        return dict(reversed(targets.items()))

    def to_plain(self) -> dict[str, list[str]]:
        """Return class names by task name, as stored in a checkpoint."""
        return {task.name: list(task.classes) for task in self.tasks}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Sequence[str]]) -> LabelSpace:
        """Build a label space from what `to_plain` returns."""
        return cls(tuple(Task(name, tuple(classes)) for name, classes in plain.items()))


MASK = Task("mask", ("wear", "incorrect", "normal"))
GENDER = Task("gender", ("male", "female"))
AGE = Task("age", ("<30", "30-59", ">=60"))
FACE = LabelSpace((MASK, GENDER, AGE))

PERSON_TASKS = ("gender", "age")  # all photos of a person have the same label
FACE_SETS = {  # tasks that each kind of data has labels for; data=table has its own
    "auto": FACE,
    "competition": FACE,
    "utkface": FACE.only(PERSON_TASKS),
    "fairface": FACE.only(PERSON_TASKS),
}

AGE_CUTS = (30, 60)  # first year of the second and of the third age band


def age_band(years: npt.ArrayLike, cuts: Sequence[int] = AGE_CUTS) -> npt.NDArray[np.int64]:
    """Return the targets of AGE for ages in years, of the same shape.

    Args:
        years: ages.
        cuts: first year of the second and of the third band; others may be used to train on.

    Example:
        >>> age_band([29, 30, 60])
        array([0, 1, 2])
    """
    bands: npt.NDArray[np.int64] = np.digitize(np.asarray(years), cuts).astype(np.int64)
    return bands
