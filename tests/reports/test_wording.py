from __future__ import annotations

import math

import pytest

from mask_lightning.reports.wording import count, join, number, percent


@pytest.mark.parametrize(
    ("share", "want"),
    [(0, "0%"), (1, "100%"), (0.534, "53%"), (0.998, "99.8%"), (0.9999, "99.9%"), (0.0001, "0.1%"), (0.004, "0.4%")],
)
def test_nearly_all_is_not_all(share: float, want: str) -> None:
    assert percent(share) == want


@pytest.mark.parametrize(
    ("value", "want"), [(0.50651, ".507"), (1.0, "1.000"), (0.0, ".000"), (None, "–"), (math.nan, "–")]
)
def test_scores(value: float | None, want: str) -> None:
    assert number(value) == want


def test_counts_and_lists() -> None:
    assert [count(1, "person"), count(2, "person"), count(1, "photo"), count(2000, "photo")] == [
        "1 person",
        "2 people",
        "1 photo",
        "2,000 photos",
    ]
    assert [join(["a"]), join(["a", "b"]), join(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
