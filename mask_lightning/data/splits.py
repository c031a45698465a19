"""Splits by person: hold-out and cross-validation that keep a family on one side and stratify by class."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from mask_lightning.errors import SplitError
from mask_lightning.labels import PERSON_TASKS, UNLABELLED, LabelSpace

STRATA = PERSON_TASKS


@dataclass(frozen=True)
class Split:
    """Training and validation rows of a sample table; `val` is empty if nobody is held out.

    Raises:
        SplitError: a family is on both sides.
    """

    train: pd.DataFrame
    val: pd.DataFrame

    def __post_init__(self) -> None:
        shared = sorted(set(self.train["family"]) & set(self.val["family"]))
        if shared:
            raise SplitError(
                f"expected people on one side of the split only, found {', '.join(shared[:5])} on both; "
                "give one person one person_id"
            )


def split_people(table: pd.DataFrame, *, val_fraction: float, seed: int, strata: Sequence[str] = STRATA) -> Split:
    """Hold out about `val_fraction` of the families, stratified by `strata`.

    The fraction is rounded to the simplest p/q within half a percent; p of q folds are held out.

    Args:
        table: a sample table.
        val_fraction: in [0, 1); 0 holds out nobody.
        seed: of the assignment to folds.
        strata: columns whose classes both sides have in similar shares.

    Raises:
        SplitError: `val_fraction` is outside [0, 1), or there are fewer families than folds.

    Example:
        >>> ids = [str(i) for i in range(10)]
        >>> table = pd.DataFrame({"family": ids, "person_id": ids, "age": [0, 1] * 5})
        >>> split = split_people(table, val_fraction=0.2, seed=0, strata=["age"])
        >>> len(split.train), len(split.val)
        (8, 2)
    """
    if val_fraction == 0:
        return Split(table, table.iloc[:0])
    share = _simple_fraction(val_fraction)
    fold = assign_folds(table, share.denominator, seed=seed, strata=strata)
    held_out = fold < share.numerator
    return Split(table[~held_out].reset_index(drop=True), table[held_out].reset_index(drop=True))


def hold_out(
    table: pd.DataFrame,
    *,
    val_fraction: float,
    folds: int | None = None,
    fold: int | None = None,
    limit: int | None = None,
    seed: int,
    strata: Sequence[str] = STRATA,
) -> Split:
    """Hold out fold `fold` of `folds` if both are given, else about `val_fraction` of the families.

    Args:
        table: a sample table.
        val_fraction: see `split_people`.
        folds: number of folds; None: no folds.
        fold: index of the fold that is held out.
        limit: largest number of families on the training side; None: all.
        seed: of the assignment to folds.
        strata: see `split_people`.

    Raises:
        SplitError: see `split_people`.
    """
    if folds is None or fold is None:
        split = split_people(table, val_fraction=val_fraction, seed=seed, strata=strata)
    else:
        split = k_folds(table, folds, seed=seed, strata=strata)[fold]
    return Split(limit_people(split.train, limit, seed=seed, strata=strata), split.val) if limit else split


def k_folds(table: pd.DataFrame, k: int, *, seed: int, strata: Sequence[str] = STRATA) -> list[Split]:
    """Return the k splits of a cross-validation, in which every family is held out exactly once."""
    fold = assign_folds(table, k, seed=seed, strata=strata)
    return [Split(table[fold != i].reset_index(drop=True), table[fold == i].reset_index(drop=True)) for i in range(k)]


def assign_folds(table: pd.DataFrame, k: int, *, seed: int, strata: Sequence[str]) -> npt.NDArray[np.integer[Any]]:
    """Assign a fold 0..k-1 to every row, by scikit-learn's StratifiedGroupKFold over people, grouped by family.

    Raises:
        SplitError: there are fewer families than folds.
    """
    people = table.drop_duplicates(["family", "person_id", *strata])
    families = people["family"].nunique()
    if families < max(k, 2):
        raise SplitError(
            f"expected at least {max(k, 2)} people for {k} folds, found {families}; "
            "add people, or change data.val_fraction or data.folds"
        )
    stratum = _strata_for_folds(people, strata, k)
    fold_of = pd.Series(0, index=people["family"].unique())
    folds = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # check_classes reports what matters here
        for i, (_, held_out) in enumerate(folds.split(people, stratum, people["family"])):
            fold_of[people["family"].iloc[held_out]] = i
    return table["family"].map(_most_complete_first(table, fold_of, strata)).to_numpy(np.int64)


def _strata_for_folds(people: pd.DataFrame, strata: Sequence[str], k: int) -> pd.Series[int]:
    """Return a stratum index per person, from fewer columns if no stratum has k people, which scikit-learn refuses."""
    for count in range(len(strata), 0, -1):
        stratum = people.groupby(list(strata[:count])).ngroup()
        if stratum.value_counts().max() >= k:
            return stratum
    return pd.Series(0, index=people.index)


def _most_complete_first(table: pd.DataFrame, fold_of: pd.Series[int], strata: Sequence[str]) -> pd.Series[int]:
    """Renumber the folds by their number of classes, so that a rare class is among the first, held-out folds."""
    fold = table["family"].map(fold_of)
    labelled = (table[column].where(table[column] != UNLABELLED) for column in strata)
    present = reduce(add, (column.groupby(fold).nunique() for column in labelled), fold.groupby(fold).size() * 0)
    order = present.sort_values(ascending=False, kind="stable").index
    return fold_of.map({old: new for new, old in enumerate(order)})


def class_counts(
    rows: pd.DataFrame, space: LabelSpace, weights: npt.NDArray[np.float64] | None = None
) -> dict[str, list[float]]:
    """Count the labelled photos per task and class, each once or by its weight (N,).

    Example:
        >>> from mask_lightning.labels import FACE
        >>> class_counts(pd.DataFrame({"gender": [0, 1, 1, -1]}), FACE.only(["gender"]))
        {'gender': [1, 2]}
    """
    counts: dict[str, list[float]] = {}
    for task in space.tasks:
        targets = rows[task.name].to_numpy()
        labelled = targets != UNLABELLED
        kept = None if weights is None else weights[labelled]
        counts[task.name] = np.bincount(targets[labelled], weights=kept, minlength=task.num_classes).tolist()
    return counts


def check_classes(split: Split, space: LabelSpace) -> None:
    """Check that both sides have every class of every task; without held-out people, only the training side.

    Raises:
        SplitError: names the side and its missing classes.
    """
    for side, rows in (("training", split.train), ("validation", split.val)):
        if side == "validation" and rows.empty:
            continue
        for task in space.tasks:
            absent = [name for i, name in enumerate(task.classes) if not (rows[task.name] == i).any()]
            if absent:
                raise SplitError(
                    f"expected people of every class on the {side} side, found none of {task.name} {', '.join(absent)} "
                    f"among {rows['person_id'].nunique()} people; add such people, or change data.val_fraction, "
                    "data.folds or data.split_seed"
                )


def limit_people(rows: pd.DataFrame, people: int, *, seed: int, strata: Sequence[str] = STRATA) -> pd.DataFrame:
    """Keep all photos of `people` families, drawn so that the strata keep their shares; all rows if there are fewer."""
    families = draw_stratified(rows.drop_duplicates("family"), people, strata=strata, seed=seed)
    return rows[rows["family"].isin(families["family"])].reset_index(drop=True)


def draw_stratified(rows: pd.DataFrame, count: int, *, strata: Sequence[str], seed: int) -> pd.DataFrame:
    """Draw `count` rows, in their order, so that each stratum keeps its share and has at least one row if possible.

    Unlabelled photos are a stratum of their own. Without strata all rows are one stratum.
    """
    groups = rows.sample(frac=1, random_state=seed).groupby(list(strata) or (lambda _: 0))
    position = groups.cumcount() / groups[rows.columns[0]].transform("size")
    return rows.loc[position.sort_values(kind="stable").index[:count].sort_values()]


def _simple_fraction(value: float) -> Fraction:
    if not 0 < value < 1:
        raise SplitError(f"val_fraction must be in [0, 1), got {value}; set data.val_fraction")
    for denominator in range(2, 200):
        fraction = _nearest(value, denominator)
        if abs(fraction - value) <= 0.005:
            return fraction
    return _nearest(value, 200)


def _nearest(value: float, denominator: int) -> Fraction:
    """Round to the nearest fraction strictly between 0 and 1."""
    return Fraction(min(max(round(value * denominator), 1), denominator - 1), denominator)
