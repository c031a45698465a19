"""Known ages, and changed age labels of the training rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mask_lightning.data.ages import (
    apply_age_cuts,
    check_age_bands,
    check_years,
    class_borders,
    count_years,
    known_years,
    leave_out_ages,
)
from mask_lightning.errors import SampleTableError, SplitError
from mask_lightning.labels import UNLABELLED, age_band

NAN = float("nan")


def rows(years: list[float], age: list[int] | None = None) -> pd.DataFrame:
    labels = [UNLABELLED if np.isnan(y) else int(age_band(y)) for y in years] if age is None else age
    return pd.DataFrame({"path": [f"{i}.jpg" for i in range(len(years))], "years": years, "age": labels})


@pytest.mark.parametrize(
    ("years", "age", "width", "want"),
    [
        ([18, 59, 75], None, None, [18, 59, 75]),
        ([NAN, 30], [1, 1], None, [NAN, 30]),
        ([59, 59], [2, 1], None, [NAN, 59]),  # the band was corrected, so the years are unknown
        ([59, 20], [UNLABELLED, 0], None, [59, 20]),
        ([20, 29, 30, 71], None, 10, [25, 25, 35, 75]),
        ([20, NAN], [0, 0], 5, [22.5, NAN]),
    ],
)
def test_known_years(years: list[float], age: list[int] | None, width: int | None, want: list[float]) -> None:
    np.testing.assert_equal(known_years(rows(years, age), bin_width=width), want)


@pytest.mark.parametrize("table", [rows([20, 40]).drop(columns="years"), rows([NAN, NAN]), rows([20, 40], [1, 2])])
def test_unknown_ages_are_nan(table: pd.DataFrame) -> None:
    with pytest.raises(SampleTableError, match=r"head=regression needs ages in years, found none among 2 .* years"):
        check_years(table, needed_by="head=regression")


def test_other_cuts_change_only_labels_of_known_ages() -> None:
    table = rows([27, 29, 30, 57, 58, 60, NAN, 59, 59], [0, 0, 1, 1, 1, 2, 1, 2, UNLABELLED])
    moved = apply_age_cuts(table, [28, 58])
    assert moved["age"].tolist() == [0, 1, 1, 1, 2, 2, 1, 2, UNLABELLED]
    assert table["age"].tolist() == [0, 0, 1, 1, 1, 2, 1, 2, UNLABELLED], "the rows given stay as they are"
    unmoved = [column for column in table if column not in ("age", "years")]
    pd.testing.assert_frame_equal(moved[unmoved], table[unmoved])
    np.testing.assert_array_equal(known_years(moved), known_years(table))  # no age becomes unknown by its new label


def test_left_out_ranges_include_both_ends() -> None:
    table = rows([26, 27, 29, 30, 56, 57, 59, 60, NAN])
    left = leave_out_ages(table, [(27, 29), (57, 59)])
    np.testing.assert_equal(left["years"].tolist(), [26, 30, 56, 60, NAN])
    assert left.index.tolist() == list(range(5))


@pytest.mark.parametrize(
    ("table", "lost"),
    [
        (apply_age_cuts(rows([20, 40, 60]), [30, 61]), ">=60"),
        (apply_age_cuts(rows([20, 40, 60]), [10, 60]), "<30"),
        (leave_out_ages(rows([20, 40, 60]), [(30, 59)]), "30-59"),
    ],
)
def test_losing_an_age_band_raises(table: pd.DataFrame, lost: str) -> None:
    with pytest.raises(SplitError, match=f"found none of {lost} after labels.age.x; move its years, or set it to null"):
        check_age_bands(table, option="labels.age.x")


@pytest.mark.parametrize(
    ("years", "top", "want"),
    [
        ([18, 29, 30, 59, 60, 60], 60, [29.5, 59.5]),  # whole years
        ([25, 35, 45, 55, 65, 75], 60, [30, 57.5]),  # middles of decades; ages above the top count as the top
        ([25, 35, 45, 55, 65, 75], 70, [30, 60]),
        ([25, NAN, 41, 70], 60, [33, 50.5]),
    ],
)
def test_borders_are_midpoints_of_the_neighbouring_ages(years: list[float], top: int, want: list[float]) -> None:
    assert class_borders(np.array(years, float), top=top) == want


def test_borders_need_ages_on_both_sides() -> None:
    with pytest.raises(SplitError, match=r"below and from 60 years .* found 2 and 0 photos"):
        class_borders(np.array([20.0, 45.0, NAN]), top=60)


def test_years_are_counted_up_to_the_top_by_their_weights() -> None:
    years = np.array([20.0, 20.0, 59.0, 75.0, NAN])
    counts = count_years(years, top=60)
    assert len(counts) == 61
    assert {i: count for i, count in enumerate(counts) if count} == {20: 2, 59: 1, 60: 1}
    drawn = count_years(years, top=60, weights=np.array([0.5, 0.5, 1.0, 3.0, 9.0]))
    assert {i: count for i, count in enumerate(drawn) if count} == {20: 1, 59: 1, 60: 3}
