"""Tasks, and how their targets combine into one code: the only place that knows a label's number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mask_lightning.errors import LabelError, did_you_mean

Codes = TypeVar("Codes")  # an int, a NumPy array or a torch tensor of integers

UNLABELLED = -1  # the target of a photo whose class nobody stated


@dataclass(frozen=True)
class Task:
    """One question about a photo; the target of class `classes[i]` is `i`."""

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
        """How many classes there are."""
        return len(self.classes)

    def target(self, name: str) -> int:
        """The target of a class name. Raises LabelError if there is no such class."""
        if name not in self.classes:
            raise LabelError(f"{self.name} has no class {name!r}; {did_you_mean(name, self.classes)}")
        return self.classes.index(name)


@dataclass(frozen=True)
class LabelSpace:
    """Named tasks in order, and the combined class that they span: a mixed-radix number, first task slowest."""

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
        """How many combined classes there are (18 for FACE)."""
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
        """The label space of some of the tasks, in this space's order."""
        wanted = {self[name].name for name in names}
        return LabelSpace(tuple(task for task in self.tasks if task.name in wanted))

    def encode(self, targets: Mapping[str, Codes]) -> Codes:
        """Targets per task (ints, arrays or tensors of one shape) -> codes of that shape."""
        code: Any = 0
        for task in self.tasks:
            code = code * task.num_classes + targets[task.name]
        result: Codes = code
        return result

    def decode(self, codes: Codes) -> dict[str, Codes]:
        """Codes (int, array or tensor) -> targets per task, each of that shape."""
        targets: dict[str, Codes] = {}
        rest: Any = codes
        for task in reversed(self.tasks):
            targets[task.name] = rest % task.num_classes
            rest = rest // task.num_classes
        return dict(reversed(targets.items()))

    def to_plain(self) -> dict[str, list[str]]:
        """Task name -> class names: what a checkpoint carries."""
        return {task.name: list(task.classes) for task in self.tasks}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Sequence[str]]) -> LabelSpace:
        """The inverse of `to_plain`."""
        return cls(tuple(Task(name, tuple(classes)) for name, classes in plain.items()))


MASK = Task("mask", ("wear", "incorrect", "normal"))
GENDER = Task("gender", ("male", "female"))
AGE = Task("age", ("<30", "30-59", ">=60"))
FACE = LabelSpace((MASK, GENDER, AGE))

PERSON_TASKS = ("gender", "age")  # what all photos of a person share
FACE_SETS = {  # what each kind of data is labelled with; data=table brings its own tasks
    "auto": FACE,
    "competition": FACE,
    "utkface": FACE.only(PERSON_TASKS),
    "fairface": FACE.only(PERSON_TASKS),
}

AGE_CUTS = (30, 60)  # years at which the second and the third age band begin


def age_band(years: npt.ArrayLike, cuts: Sequence[int] = AGE_CUTS) -> npt.NDArray[np.int64]:
    """Ages in years -> targets of AGE, of the same shape; `cuts` may be others, to train on."""
    bands: npt.NDArray[np.int64] = np.digitize(np.asarray(years), cuts).astype(np.int64)
    return bands
