"""Ages in years: known ages of photos, and changed age labels of the training rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.errors import SampleTableError, SplitError
from mask_lightning.labels import AGE, AGE_CUTS, UNLABELLED, age_band

YEARS = "years"
CHECKED = "years_checked"  # column that marks years as compared with the labels before `apply_age_cuts`

Floats = npt.NDArray[np.float64]


def check_years(rows: pd.DataFrame, *, needed_by: str) -> None:
    """Raise SampleTableError if no photo's age in years is known; `needed_by` is the option that needs it."""
    if YEARS not in rows or np.isnan(known_years(rows)).all():
        raise SampleTableError(
            f"{needed_by} needs ages in years, found none among {len(rows)} photos; "
            "write them into the column age, or into a column years beside it"
        )


def known_years(rows: pd.DataFrame, *, bin_width: int | None = None) -> Floats:
    """Return the age in years of every photo (N,), NaN if unknown.

    An age outside the photo's labelled age band also counts as unknown: the band was corrected, the years were not.

    Args:
        rows: rows of a sample table with the column `years`.
        bin_width: in years; return the middle of the age's bin instead, such as 25 for 20 to 29.

    Example:
        >>> rows = pd.DataFrame({"years": [23.0, None, 61.0], "age": [0, 1, 1]})
        >>> known_years(rows, bin_width=10).tolist()
        [25.0, nan, nan]
    """
    years = rows[YEARS].to_numpy(np.float64, na_value=np.nan)
    band = np.where(np.isnan(years), UNLABELLED, age_band(years))
    labels = rows[AGE.name].to_numpy()
    if CHECKED not in rows:
        years = np.where((labels == UNLABELLED) | (labels == band), years, np.nan)
    return years if bin_width is None else (years // bin_width) * bin_width + bin_width / 2


def leave_out_ages(rows: pd.DataFrame, ranges: Sequence[tuple[int, int]]) -> pd.DataFrame:
    """Leave out the rows whose age in years is in one of the ranges, both ends included."""
    years = known_years(rows)
    inside = np.any([(low <= years) & (years <= high) for low, high in ranges], axis=0)
    kept: pd.DataFrame = rows[~inside].reset_index(drop=True)
    return kept


def apply_age_cuts(rows: pd.DataFrame, cuts: Sequence[int]) -> pd.DataFrame:
    """Set the targets of `age` by other cuts in years; photos without a label or a known age keep theirs."""
    years, labels = known_years(rows), rows[AGE.name].to_numpy()
    known = ~np.isnan(years) & (labels != UNLABELLED)
    changed = rows.assign(**{AGE.name: np.where(known, age_band(years, cuts), labels)})
    changed[YEARS], changed[CHECKED] = years, True
    return changed


def check_age_bands(rows: pd.DataFrame, *, option: str) -> None:
    """Raise SplitError if an age band has no row; `option` is the option that may have caused it."""
    for target, name in enumerate(AGE.classes):
        if not (rows[AGE.name] == target).any():
            raise SplitError(
                f"expected people of every age band to train on, found none of {name} after {option}; "
                "move its years, or set it to null"
            )


def class_borders(years: Floats, *, top: float, cuts: Sequence[int] = AGE_CUTS) -> list[float]:
    """Compute for each cut the midpoint between the nearest training ages on its two sides.

    For whole years the cut 60 gives 59.5, since a sigmoid that ends at 60 never reaches 60. For middles of bins the
    midpoint leaves the most room for error: 57.5 between 55 and 60.

    Args:
        years: ages in years (N,), NaN if unknown.
        top: ages above it count as `top`.
        cuts: first years of the second and third age band.

    Raises:
        SplitError: no age is known on one side of a cut.

    Example:
        >>> class_borders(np.array([25.0, 35.0, 55.0, 65.0]), top=60)
        [30.0, 57.5]
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
    """Count photos per whole year from 0 to `top`, older ones at `top`, each once or by its weight (N,).

    Example:
        >>> count_years(np.array([1.0, 1.0, 9.0, np.nan]), top=3)
        [0.0, 2.0, 0.0, 1.0]
    """
    known = ~np.isnan(years)
    rounded = np.minimum(years[known], top).round().astype(int)
    counts = np.bincount(rounded, weights=None if weights is None else weights[known], minlength=round(top) + 1)
    return [float(count) for count in counts]
