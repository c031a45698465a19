"""How many photos and people there are of each class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.labels import UNLABELLED, LabelSpace, Task


def count_classes(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Class name -> `photos` and `people`; a row for every class of the task, also for those that nobody has."""
    return _count(table, table[task.name], task.classes)


def count_codes(table: pd.DataFrame, space: LabelSpace, *, most: int = 60) -> pd.DataFrame:
    """Name of the combined class -> `photos` and `people`, a row for every code in their order.

    Of more codes than `most`, only the most frequent. Photos that lack a label have no code.
    """
    labelled = table[(table[list(space.names)] != UNLABELLED).all(axis=1)]
    codes = pd.Series(space.encode({name: labelled[name].to_numpy(np.int64) for name in space.names}), labelled.index)
    if space.num_codes <= most:
        return _count(labelled, codes, space.code_names)
    shown = np.sort(codes.value_counts().index[:most].to_numpy())
    chosen = codes.isin(shown)
    return _count(labelled[chosen], pd.Series(np.searchsorted(shown, codes[chosen])), _name_codes(space, shown))


def _name_codes(space: LabelSpace, codes: npt.NDArray[np.int64]) -> tuple[str, ...]:
    columns = [[space[name].classes[i] for i in targets] for name, targets in space.decode(codes).items()]
    return tuple(" ".join(names) for names in zip(*columns, strict=True))


def _count(table: pd.DataFrame, targets: pd.Series[Any], names: tuple[str, ...]) -> pd.DataFrame:
    groups = table["person_id"].groupby(targets.to_numpy())
    counts = pd.DataFrame({"photos": groups.size(), "people": groups.nunique()})
    return counts.reindex(range(len(names)), fill_value=0).astype(int).set_axis(list(names))


def count_per_person(table: pd.DataFrame) -> dict[str, int]:
    """person_id -> photos."""
    return {str(person): int(count) for person, count in table["person_id"].value_counts(sort=False).items()}


def tally(values: pd.Series[Any]) -> dict[str, int]:
    """Value -> how often, the most frequent first."""
    return {str(value): int(count) for value, count in values.value_counts().items()}
