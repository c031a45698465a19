"""Text in a cell -> a class; the rest of it is tested with whole tables."""

from __future__ import annotations

import pandas as pd
import pytest

from mask_lightning.data.columns import find_target, infer_space
from mask_lightning.labels import AGE, Task


@pytest.mark.parametrize(
    ("task", "value", "want"),
    [
        (AGE, "29.9", 0),
        (AGE, "60", 2),
        (AGE, "-1", None),
        (AGE, "130", None),
        (AGE, "nan", None),
        (Task("age", ("young", "old")), "20", None),
        (Task("stars", ("1", "2")), "2", 1),
        (Task("size", ("s", "S")), "S", 1),
        (Task("size", ("s", "S", "xl")), "XL", 2),
        (Task("size", ("ss", "Ss")), "sS", None),  # which of them?
    ],
)
def test_cells_are_read_as_people_mean_them(task: Task, value: str, want: int | None) -> None:
    assert find_target(task, value) == want


def test_words_that_floats_know_are_classes_too() -> None:
    space = infer_space(pd.DataFrame({"end": ["inf", "nan", "2", ""]}))
    assert space["end"].classes == ("2", "inf", "nan")
