"""Ages in years: what is known of them, and what only the training rows are taught of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.errors import SampleTableError, SplitError
from mask_lightning.labels import AGE, AGE_CUTS, UNLABELLED, age_band

YEARS = "years"
MOVED = "years_checked"  # a column of rows whose years were compared with the labels before these were moved

Floats = npt.NDArray[np.float64]


def check_years(rows: pd.DataFrame, *, needed_by: str) -> None:
    """Raises SampleTableError unless the age in years of some photo is known."""
    if YEARS not in rows or np.isnan(known_years(rows)).all():
        raise SampleTableError(
            f"{needed_by} needs ages in years, found none among {len(rows)} photos; "
            "write them into the column age, or into a column years beside it"
        )


def known_years(rows: pd.DataFrame, *, bin_width: int | None = None) -> Floats:
    """The age in years of every photo (N,), NaN where it is not known.

    An age outside the age band that a photo is labelled with is not known either: of such a person the band was
    corrected, which says nothing of the years.

    Args:
        rows: of a sample table with the column `years`.
        bin_width: instead of the age, the middle of its bin: of 10 years, 25 for 20 to 29.
    """
    years = rows[YEARS].to_numpy(np.float64, na_value=np.nan)
    band = np.where(np.isnan(years), UNLABELLED, age_band(years))
    labels = rows[AGE.name].to_numpy()
    if MOVED not in rows:
        years = np.where((labels == UNLABELLED) | (labels == band), years, np.nan)
    return years if bin_width is None else (years // bin_width) * bin_width + bin_width / 2


def without_ages(rows: pd.DataFrame, ranges: Sequence[tuple[int, int]]) -> pd.DataFrame:
    """The rows without those whose age lies in one of the ranges, both ends included."""
    years = known_years(rows)
    inside = np.any([(low <= years) & (years <= high) for low, high in ranges], axis=0)
    kept: pd.DataFrame = rows[~inside].reset_index(drop=True)
    return kept


def with_cuts(rows: pd.DataFrame, cuts: Sequence[int]) -> pd.DataFrame:
    """The rows with targets of `age` by other cuts; photos without label or known age keep what they have."""
    years, labels = known_years(rows), rows[AGE.name].to_numpy()
    known = ~np.isnan(years) & (labels != UNLABELLED)
    taught = rows.assign(**{AGE.name: np.where(known, age_band(years, cuts), labels)})
    taught[YEARS], taught[MOVED] = years, True
    return taught


def check_taught(rows: pd.DataFrame, *, option: str) -> None:
    """Raises SplitError unless there are rows of every age band; `option` is what may have taken one away."""
    for target, name in enumerate(AGE.classes):
        if not (rows[AGE.name] == target).any():
            raise SplitError(
                f"expected people of every age band to train on, found none of {name} after {option}; "
                "move its years, or set it to null"
            )


def class_borders(years: Floats, *, top: float, cuts: Sequence[int] = AGE_CUTS) -> list[float]:
    """For each cut the number halfway between the training ages on its two sides, all above `top` taken for `top`.

    Of whole years, that of the cut 60 is 59.5: a sigmoid that ends at 60 would never reach 60 itself. Of ages that are
    middles of bins it is the border that leaves most room for error: 57.5 between 55 and 60.

    Raises:
        SplitError: no age is known on one side of a cut.
    """
    known = np.minimum(years[~np.isnan(years)], top)
    borders = []
    for cut in cuts:
        below, above = known[known < cut], known[known >= cut]
        if not len(below) or not len(above):
            raise SplitError(
                f"expected people below and from {cut} years whose age is known to train on, found {len(below)} and "
                f"{len(above)} photos; add such people, or set head=classes"
            )
        borders.append(float(below.max() + above.min()) / 2)
    return borders


def count_years(years: Floats, *, top: float, weights: Floats | None = None) -> list[float]:
    """Photos per whole year from 0 to `top`, all above it counted there, by their weights (N,)."""
    known = ~np.isnan(years)
    rounded = np.minimum(years[known], top).round().astype(int)
    counts = np.bincount(rounded, weights=None if weights is None else weights[known], minlength=round(top) + 1)
    return [float(count) for count in counts]
