"""Hold-out and folds by person: all photos of a family lie on one side, and the sides have like strata."""

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
    """The sample table's training and validation rows; `val` is empty where everyone trains."""

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
    """Hold out about `val_fraction` of the families (0: none), stratified by `strata`.

    The fraction becomes the simplest p/q within half a percent; p of q folds are held out.

    Raises:
        SplitError: `val_fraction` outside [0, 1), or fewer families than folds.
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
    """Hold out fold `fold` of `folds`, where those are given, else about `val_fraction` of the families.

    At most `limit` families stay on the training side.

    Raises:
        SplitError: as `split_people`.
    """
    if folds is None or fold is None:
        split = split_people(table, val_fraction=val_fraction, seed=seed, strata=strata)
    else:
        split = k_folds(table, folds, seed=seed, strata=strata)[fold]
    return Split(limit_people(split.train, limit, seed=seed, strata=strata), split.val) if limit else split


def k_folds(table: pd.DataFrame, k: int, *, seed: int, strata: Sequence[str] = STRATA) -> list[Split]:
    """The k splits of a cross-validation: every family is held out exactly once."""
    fold = assign_folds(table, k, seed=seed, strata=strata)
    return [Split(table[fold != i].reset_index(drop=True), table[fold == i].reset_index(drop=True)) for i in range(k)]


def assign_folds(table: pd.DataFrame, k: int, *, seed: int, strata: Sequence[str]) -> npt.NDArray[np.integer[Any]]:
    """Fold 0..k-1 of every row; scikit-learn's StratifiedGroupKFold over people, grouped by family."""
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
        warnings.filterwarnings("ignore", "The least populated class")  # check_classes says what it means for us
        for i, (_, held_out) in enumerate(folds.split(people, stratum, people["family"])):
            fold_of[people["family"].iloc[held_out]] = i
    return table["family"].map(_most_complete_first(table, fold_of, strata)).to_numpy(np.int64)


def _strata_for_folds(people: pd.DataFrame, strata: Sequence[str], k: int) -> pd.Series[int]:
    """Stratum of every person; by fewer columns where no stratum has k people, which scikit-learn refuses."""
    for count in range(len(strata), 0, -1):
        stratum = people.groupby(list(strata[:count])).ngroup()
        if stratum.value_counts().max() >= k:
            return stratum
    return pd.Series(0, index=people.index)


def _most_complete_first(table: pd.DataFrame, fold_of: pd.Series[int], strata: Sequence[str]) -> pd.Series[int]:
    """Number the folds anew, those with most classes first: a small rare class reaches the held-out side."""
    fold = table["family"].map(fold_of)
    labelled = (table[column].where(table[column] != UNLABELLED) for column in strata)
    present = reduce(add, (column.groupby(fold).nunique() for column in labelled), fold.groupby(fold).size() * 0)
    order = present.sort_values(ascending=False, kind="stable").index
    return fold_of.map({old: new for new, old in enumerate(order)})


def class_counts(
    rows: pd.DataFrame, space: LabelSpace, weights: npt.NDArray[np.float64] | None = None
) -> dict[str, list[float]]:
    """Task -> labelled photos per class, each counted once, or by its weight (N,)."""
    counts: dict[str, list[float]] = {}
    for task in space.tasks:
        targets = rows[task.name].to_numpy()
        labelled = targets != UNLABELLED
        kept = None if weights is None else weights[labelled]
        counts[task.name] = np.bincount(targets[labelled], weights=kept, minlength=task.num_classes).tolist()
    return counts


def check_classes(split: Split, space: LabelSpace) -> None:
    """Every class of every task must be on both sides (on the training side, where no one is held out).

    Raises:
        SplitError: naming the side and the class.
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
    """All photos of `people` families, drawn with the strata's shares; every row if there are no more people."""
    families = draw_stratified(rows.drop_duplicates("family"), people, strata=strata, seed=seed)
    return rows[rows["family"].isin(families["family"])].reset_index(drop=True)


def draw_stratified(rows: pd.DataFrame, count: int, *, strata: Sequence[str], seed: int) -> pd.DataFrame:
    """`count` of the rows, in their order: each stratum with its share, and at least one while they last.

    Photos without a label are a stratum of their own; without strata all rows are one.
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
    """The nearest fraction that leaves people on both sides."""
    return Fraction(min(max(round(value * denominator), 1), denominator - 1), denominator)
