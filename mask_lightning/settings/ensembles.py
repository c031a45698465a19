"""Names of the ensembles' members: nine for age, ten for mask and three for gender, as in the original entry.

Further members, `balanced0`, `balanced1`, ..., exist for any run with a single task.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mask_lightning.errors import ConfigError, did_you_mean
from mask_lightning.labels import AGE, GENDER, MASK, Task


@dataclass(frozen=True)
class Ensemble:
    """Networks that vote on one task; `ensemble.subsets` chooses what each is trained on."""

    task: Task
    size: int

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members: age0, age1, ..."""
        return tuple(f"{self.task.name}{i}" for i in range(self.size))


ENSEMBLES = {ensemble.task.name: ensemble for ensemble in (Ensemble(AGE, 9), Ensemble(MASK, 10), Ensemble(GENDER, 3))}


def find_member(name: str) -> tuple[Ensemble | None, int]:
    """Return the ensemble of a member and its index; None instead of the ensemble for `balanced<i>`.

    Example:
        >>> find_member("balanced3")
        (None, 3)

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
