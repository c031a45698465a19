"""Splits by person: hold-out and cross-validation that keep a family on one side and stratify by class.

The side of a family depends on a hash of its id, so that adding, removing or relabelling people moves few others.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.data.class_cover import class_members, divide, first_with_all_classes, swap_to_cover
from mask_lightning.errors import SplitError
from mask_lightning.labels import PERSON_TASKS, UNLABELLED, LabelSpace

log = logging.getLogger(__name__)

STRATA = PERSON_TASKS

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


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


def hold_out(
    table: pd.DataFrame,
    *,
    val_fraction: float,
    folds: int | None = None,
    fold: int | None = None,
    limit: int | None = None,
    seed: int,
    strata: Sequence[str] = STRATA,
    labels: pd.DataFrame | None = None,
    space: LabelSpace | None = None,
) -> Split:
    """Hold out fold `fold` of `folds` if both are given, else about `val_fraction` of the families.

    Args:
        table: a sample table. Its column `side`, if it has one, is the split; not for folds and val_fraction 0.
        val_fraction: see `split_people`.
        folds: number of folds; None: no folds.
        fold: index of the fold that is held out.
        limit: largest number of families on the training side; None: all.
        seed: of the assignment.
        strata: see `split_people`.
        labels: see `split_people`.
        space: tasks of which both sides must have every class, if that is possible (see `cover_classes`; not for
            folds), and of which `limit` keeps every class.

    Raises:
        SplitError: see `split_people`, `given_split` and `cover_classes`.
    """
    labels = table if labels is None else labels
    if "side" in table and folds is None and val_fraction > 0:
        split = given_split(table)
    elif folds is None or fold is None:
        split = split_people(table, val_fraction=val_fraction, seed=seed, strata=strata, labels=labels)
        if space is not None:
            split = _cover_before_and_after(split, table, labels, space, seed=seed)
    else:
        split = k_folds(table, folds, seed=seed, strata=strata, labels=labels)[fold]
    if not limit:
        return split
    kept = limit_people(split.train, limit, seed=seed, strata=strata, labels=labels, space=space)
    return Split(kept, split.val)


def given_split(table: pd.DataFrame) -> Split:
    """Return the split that the column `side` states; training photos of families with held-out photos are left out.

    Such families are near-duplicates, which are logged: people are on one side.

    Raises:
        SplitError: a person is on both sides.

    Example:
        >>> table = pd.DataFrame({"person_id": ["a", "b", "c"], "family": ["a", "b", "b"],
        ...     "side": ["train", "train", "val"]})
        >>> given_split(table).train["person_id"].tolist()
        ['a']
    """
    train, val = (table[table["side"] == side] for side in ("train", "val"))
    people = sorted(set(train["person_id"]) & set(val["person_id"]))
    if people:
        raise SplitError(
            f"expected each person in train/ or in val/, found {len(people)} in both ({', '.join(people[:5])}); move "
            "them to one side, or set data.folds, which deals all photos anew"
        )
    near = train["family"].isin(val["family"])
    if near.any():
        log.warning(
            "%d training photos that look like held-out ones are left out (%s)",
            near.sum(),
            ", ".join(train.loc[near, "person_id"].head(5)),
        )
    return Split(train[~near].reset_index(drop=True), val.reset_index(drop=True))


def split_people(
    table: pd.DataFrame,
    *,
    val_fraction: float,
    seed: int,
    strata: Sequence[str] = STRATA,
    labels: pd.DataFrame | None = None,
) -> Split:
    """Hold out about `val_fraction` of the families, stratified by `strata`; see `choose_families`.

    Args:
        table: a sample table.
        val_fraction: in [0, 1); 0 holds out nobody.
        seed: of the assignment.
        strata: columns whose classes both sides have in similar shares.
        labels: the same photos with the labels to stratify by, such as those before corrections; None: `table`.

    Raises:
        SplitError: `val_fraction` is outside [0, 1), or there are fewer than two families.

    Example:
        >>> ids = [str(i) for i in range(10)]
        >>> table = pd.DataFrame({"family": ids, "person_id": ids, "age": [0, 1] * 5})
        >>> split = split_people(table, val_fraction=0.2, seed=0, strata=["age"])
        >>> len(split.train), len(split.val)
        (8, 2)
    """
    if val_fraction == 0:
        return Split(table, table.iloc[:0])
    if not 0 < val_fraction < 1:
        raise SplitError(f"val_fraction must be in [0, 1), got {val_fraction}; set data.val_fraction")
    families = find_families(table if labels is None else labels, strata)
    _check_enough(families, 2, "two sides")
    chosen = choose_families(families, Fraction(val_fraction).limit_denominator(10**6), seed=seed)
    held_out = table["family"].isin(families.index[chosen])
    return Split(table[~held_out].reset_index(drop=True), table[held_out].reset_index(drop=True))


def k_folds(
    table: pd.DataFrame, k: int, *, seed: int, strata: Sequence[str] = STRATA, labels: pd.DataFrame | None = None
) -> list[Split]:
    """Return the k splits of a cross-validation, in which every family is held out exactly once."""
    fold = assign_folds(table, k, seed=seed, strata=strata, labels=labels)
    return [Split(table[fold != i].reset_index(drop=True), table[fold == i].reset_index(drop=True)) for i in range(k)]


def assign_folds(
    table: pd.DataFrame, k: int, *, seed: int, strata: Sequence[str], labels: pd.DataFrame | None = None
) -> npt.NDArray[np.integer[Any]]:
    """Assign a fold 0..k-1 to every row: each fold in turn is chosen from the remaining families.

    Fold 0 is what `split_people` holds out with `val_fraction` 1/k.

    Raises:
        SplitError: there are fewer families than folds.
    """
    rest = find_families(table if labels is None else labels, strata)
    _check_enough(rest, max(k, 2), f"{k} folds")
    fold_of = pd.Series(k - 1, index=rest.index)
    for i in range(k - 1):
        chosen = choose_families(rest, Fraction(1, k - i), seed=seed)
        fold_of[rest.index[chosen]] = i
        rest = rest[~chosen]
    return table["family"].map(fold_of).to_numpy(np.int64)


def _check_enough(families: pd.DataFrame, needed: int, purpose: str) -> None:
    if len(families) < needed:
        raise SplitError(
            f"expected at least {needed} families for {purpose}, found {len(families)}; "
            "add people, or change data.val_fraction or data.folds"
        )


def find_families(table: pd.DataFrame, strata: Sequence[str]) -> pd.DataFrame:
    """Return the stratum of each family: its first labelled target per column, in the order of the people's ids.

    Returns:
        One row per family, indexed and sorted by `family`, with the columns `strata`.
    """
    people = table.drop_duplicates(["family", "person_id", *strata]).sort_values(["person_id", *strata])
    labels = people[list(strata)].where(people[list(strata)] != UNLABELLED)
    return labels.groupby(people["family"]).first().fillna(UNLABELLED).astype("int64")


def choose_families(families: pd.DataFrame, share: Fraction, *, seed: int) -> Bools:
    """Choose a share of the families, at least one and not all; depends on ids, strata and the seed only.

    The families of each stratum are ordered by a hash of seed and id, and the first ones are chosen, so that a family
    that is added, removed or relabelled changes the choice of its neighbours in that order at most. The number chosen
    is rounded by largest remainder: for all families, then for the classes of the first column, and so on. So each
    combination of classes has its share up to one family. Rounding is the cost of stability: classes of a later column
    may differ by one family per class of the columns before it.

    A class of which no family, or every family, is chosen swaps two families, see `swap_to_cover`.

    Args:
        families: result of `find_families`.
        share: in (0, 1).
        seed: of the hash.

    Returns:
        (F,), True for the chosen families.
    """
    order = _hash_order(families.index, seed)
    ranked = families.iloc[order].reset_index(drop=True)
    count = min(max(round(len(ranked) * share), 1), len(ranked) - 1)
    chosen = np.zeros(len(ranked), bool)
    chosen[_choose(ranked, list(ranked.columns), count, share)] = True
    columns = [ranked[column].to_numpy() for column in ranked]
    members = [values == each for values in columns for each in np.unique(values) if each != UNLABELLED]
    chosen = swap_to_cover(chosen, np.array(members, bool).reshape(-1, len(ranked)).T)
    result = np.empty_like(chosen)
    result[order] = chosen
    return result


def _hash_order(families: Iterable[str], seed: int) -> Ints:
    """Return the positions of the families in the order of a hash of seed and id."""
    digests = [hashlib.blake2b(f"{seed}/{family}".encode(), digest_size=8).digest() for family in families]
    return np.argsort(np.array([int.from_bytes(digest) for digest in digests], np.uint64), kind="stable")


def _choose(ranked: pd.DataFrame, columns: Sequence[str], count: int, share: Fraction) -> list[int]:
    """Return `count` of the ranked families, which is `share` of them rounded up or down, spread over the classes."""
    if not columns:
        return ranked.index[:count].tolist()
    classes = [rows for _, rows in ranked.groupby(columns[0])]
    counts = [len(rows) * share // 1 for rows in classes]
    remainders = [len(rows) * share - each for rows, each in zip(classes, counts, strict=True)]
    by_remainder = sorted(range(len(classes)), key=lambda i: (-remainders[i], classes[i].index[0]))
    for i in by_remainder[: count - sum(counts)]:
        counts[i] += 1
    return [i for rows, each in zip(classes, counts, strict=True) for i in _choose(rows, columns[1:], each, share)]


def _cover_before_and_after(
    split: Split, table: pd.DataFrame, labels: pd.DataFrame, space: LabelSpace, *, seed: int
) -> Split:
    """Cover the classes by the labels as read, so that corrections move nobody, and then, if needed, as corrected."""
    if labels is not table:
        try:
            covered = cover_classes(split, labels, space, seed=seed)
        except SplitError:  # it may be possible with the corrected labels
            covered = split
        held_out = table["family"].isin(covered.val["family"])
        split = Split(table[~held_out].reset_index(drop=True), table[held_out].reset_index(drop=True))
    return cover_classes(split, table, space, seed=seed)


def cover_classes(split: Split, table: pd.DataFrame, space: LabelSpace, *, seed: int) -> Split:
    """Exchange as few families as possible so that both sides have every class; the same split if they have.

    Only small tables need this: `choose_families` covers the classes of the strata in all but rare cases. If there is
    no other way, more families are held out, which is logged.

    Args:
        split: a hold-out of the table.
        table: a sample table.
        space: tasks whose classes are covered.
        seed: of the order in which families are tried.

    Returns:
        The split, unchanged if a class has less than two families or the training side has too few families for all
        classes, which `check_classes` reports.

    Raises:
        SplitError: no division of the families has every class on both sides.
    """
    has_class = class_members(table, space)
    members, names = has_class.to_numpy(bool), has_class.index
    held_out = np.asarray(names.isin(split.val["family"]))
    if split.val.empty or (members[held_out].any(0) & members[~held_out].any(0)).all() or (members.sum(0) < 2).any():
        return split
    order, count = _hash_order(names, seed), int(held_out.sum())
    members, preferred = members[order], held_out[order]
    if divide(members, preferred) is None:
        raise SplitError(
            f"expected every class of {', '.join(space.names)} on both sides of the split, found no division of "
            f"{len(names)} families that has it; add people of the rare classes, train fewer tasks, or set "
            "data.val_fraction=0"
        )
    for larger in range(count, min(count + len(has_class.columns) + 1, len(names))):
        sides = divide(members, preferred, count=larger)
        if sides is not None:
            break
    else:
        return split
    if larger > count:
        log.warning("%d instead of %d families are held out, so that every class is on both sides", larger, count)
    rows = table["family"].isin(names[order[sides]])
    return Split(table[~rows].reset_index(drop=True), table[rows].reset_index(drop=True))


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


def check_classes(split: Split, space: LabelSpace, *, table: pd.DataFrame | None = None) -> None:
    """Check that both sides have every class of every task; without held-out people, only the training side.

    Args:
        split: a split.
        space: the tasks.
        table: all people, also those whom the split leaves out; None: those of the split.

    Raises:
        SplitError: names the side, its missing classes, and who has the first of them.
    """
    for side, rows in (("training", split.train), ("validation", split.val)):
        if side == "validation" and rows.empty:
            continue
        for task in space.tasks:
            absent = [i for i in range(task.num_classes) if not (rows[task.name] == i).any()]
            if absent:
                everyone = pd.concat([split.train, split.val]) if table is None else table
                owners = everyone.loc[everyone[task.name] == absent[0], "family"].unique().tolist()
                raise SplitError(
                    f"expected people of every class on the {side} side, found none of {task.name} "
                    f"{', '.join(task.classes[i] for i in absent)} among {rows['person_id'].nunique()} people "
                    f"{_name_owners(owners, task.classes[absent[0]])}"
                )


def _name_owners(owners: Sequence[str], name: str) -> str:
    """Say how many families have a class, and what can be done if a side of the split has none of them."""
    if not owners:
        return f"(nobody has {name}); add such people, or train without that class or task"
    if len(owners) == 1:
        return f"(only family {owners[0]} has {name}); add such people, or set data.val_fraction=0"
    return (
        f"({len(owners)} families have {name}); add such people, or change data.val_fraction, data.folds, "
        "data.limit_people or data.split_seed"
    )


def limit_people(
    rows: pd.DataFrame,
    limit: int,
    *,
    seed: int,
    strata: Sequence[str] = STRATA,
    labels: pd.DataFrame | None = None,
    space: LabelSpace | None = None,
) -> pd.DataFrame:
    """Keep all photos of `limit` families, in the order of a hash so that the strata keep their shares.

    Args:
        rows: training side of a split.
        limit: number of families; all rows are kept if there are fewer.
        seed: of the hash.
        strata: columns whose classes keep their shares; each combination has at least one family if possible.
        labels: see `split_people`; may have more photos than `rows`.
        space: tasks of which every class is kept if the limit allows it; None: the strata only.
    """
    labels = rows if labels is None else labels
    families = find_families(labels[labels["family"].isin(rows["family"])], strata)
    ranked = families.iloc[_hash_order(families.index, seed)]
    groups = ranked.assign(stratum=0).groupby([*strata, "stratum"])["stratum"]
    position = groups.cumcount() / groups.transform("size")
    order = position.sort_values(kind="stable").index
    members = np.zeros((len(order), 0), bool) if space is None else class_members(rows, space).loc[order].to_numpy(bool)
    kept = order[first_with_all_classes(members, limit)]
    return rows[rows["family"].isin(kept)].reset_index(drop=True)


def draw_stratified(rows: pd.DataFrame, count: int, *, strata: Sequence[str], seed: int) -> pd.DataFrame:
    """Draw `count` rows, in their order, so that each stratum keeps its share and has at least one row if possible.

    Unlabelled photos are a stratum of their own. Without strata all rows are one stratum.
    """
    groups = rows.sample(frac=1, random_state=seed).groupby(list(strata) or (lambda _: 0))
    position = groups.cumcount() / groups[rows.columns[0]].transform("size")
    return rows.loc[position.sort_values(kind="stable").index[:count].sort_values()]
