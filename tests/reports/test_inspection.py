"""The tables of `inspect=true`."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from mask_lightning.data.splits import Split
from mask_lightning.labels import FACE
from mask_lightning.models.network import MultiTaskNetwork
from mask_lightning.reports.inspection import describe_cost, split_table

ROWS = pd.DataFrame({"person_id": ["a", "a", "b"], "family": ["a", "a", "b"], "gender": [0, 0, 1]})


@pytest.mark.parametrize(
    ("genders", "want"),
    [
        ([0, 0, 1], [["2", "3"], ["1", "2"], ["1", "1"]]),
        ([0, -1, 1], [["2", "3"], ["1", "1"], ["1", "1"], ["", "1"]]),  # the last row: not labelled
    ],
)
def test_photos_are_counted_by_class(genders: list[int], want: list[list[str]]) -> None:
    module = SimpleNamespace(space=FACE.only(["gender"]))
    table = split_table(module, Split(ROWS.assign(gender=genders), ROWS.iloc[:0]))  # type: ignore[arg-type]
    _, people, photos, *_ = (list(column.cells) for column in table.columns)
    assert [list(row) for row in zip(people, photos, strict=True)] == want


@pytest.mark.parametrize(
    ("sharing", "more"),
    [
        ("hard", None),
        ("none", "(sharing=none: 3.00 and 3.00 times those of sharing=hard)"),
        ("cross_stitch", "(sharing=cross_stitch: 3.00 and 3.00 times those of sharing=hard)"),
    ],
)
def test_sharing_is_told_with_its_cost(sharing: str, more: str | None) -> None:
    options = {"sharing": {"name": sharing}, "image_size": 64}
    network = MultiTaskNetwork("test_resnet", {"mask": 3, "gender": 2, "age": 3}, **options)
    hparams = {"backbone": "test_resnet", "network": options}
    told = describe_cost(SimpleNamespace(space=FACE, network=network, hparams=hparams), 64)  # type: ignore[arg-type]
    count = sum(parameter.numel() for parameter in network.parameters())
    assert told.startswith(f"{count / 1e6:.2f} M parameters, ")
    assert told.endswith(more or "GFLOPs per photo")
