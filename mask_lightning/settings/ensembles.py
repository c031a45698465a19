"""The names of an ensemble's members: nine for age, ten for mask, three for gender, as the original entry had them.

Beside those, `balanced0`, `balanced1`, ... are members for whatever single task a run has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mask_lightning.errors import ConfigError, did_you_mean
from mask_lightning.labels import AGE, GENDER, MASK, Task


@dataclass(frozen=True)
class Ensemble:
    """The networks that vote about one task; what each is trained on, `data.subsets` knows."""

    task: Task
    size: int

    @property
    def members(self) -> tuple[str, ...]:
        """Their names: age0, age1, ..."""
        return tuple(f"{self.task.name}{i}" for i in range(self.size))


ENSEMBLES = {ensemble.task.name: ensemble for ensemble in (Ensemble(AGE, 9), Ensemble(MASK, 10), Ensemble(GENDER, 3))}


def find_member(name: str) -> tuple[Ensemble | None, int]:
    """`age3` -> the ensemble for age, and 3; `balanced3` -> None, as it is for any task, and 3.

    Raises:
        ConfigError: no such member; names the nearest.
    """
    balanced = re.fullmatch(r"balanced(\d{1,4})", name)
    if balanced:
        return None, int(balanced[1])
    for ensemble in ENSEMBLES.values():
        if name in ensemble.members:
            return ensemble, ensemble.members.index(name)
    every = [member for ensemble in ENSEMBLES.values() for member in ensemble.members]
    raise ConfigError(f"there is no member {name!r}; {did_you_mean(name, [*every, 'balanced0'])}")
