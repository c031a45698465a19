"""Terminal report of `mask_faces`."""

from __future__ import annotations

import pandas as pd

from mask_lightning.reports.mask_faces_report import left_out_by_reason, people_table


def test_reasons_are_counted_without_their_details() -> None:
    reasons = [
        "no face found",
        "head turned by 31 degrees, more than 25",
        "head turned by 29 degrees, more than 25",
        "cannot decode /a/b.jpg (broken); replace or remove it",
        "expected a photo at /a/c.jpg, found none; was it moved or deleted?",
        "/a/d.jpg claims 1x2 pixels",
    ]
    counts = left_out_by_reason(pd.DataFrame({"reason": reasons}))
    assert next(iter(counts.items())) == ("head turned", 2)
    assert {"no face found": 1, "cannot decode": 1, "expected a photo": 1}.items() <= counts.items()
    assert left_out_by_reason(pd.DataFrame({"reason": []})) == {}


def test_people_are_counted_by_gender_and_age() -> None:
    people = pd.DataFrame({"gender": ["male", "male", "female"], "age": ["29", "30", "60"]})
    columns = [list(column.cells) for column in people_table(people).columns]
    assert columns == [["male", "female"], ["1", "0"], ["1", "0"], ["0", "1"], ["2", "1"]]
