"""Splits by person: nobody on both sides, nobody left out, similar strata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mask_lightning.data.index import read_index
from mask_lightning.data.splits import (
    Split,
    assign_folds,
    check_classes,
    class_counts,
    draw_stratified,
    hold_out,
    k_folds,
    limit_people,
    split_people,
)
from mask_lightning.errors import SplitError
from mask_lightning.labels import FACE, UNLABELLED, LabelSpace, Task

STRATA = ["gender", "age"]


def people(sizes: dict[tuple[int, int], int], *, photos: int = 7) -> pd.DataFrame:
    """Build a table of `sizes[gender, age]` people; every tenth shares the family of the person before."""
    rows = []
    for (gender, age), size in sizes.items():
        for _ in range(size):
            number = len(rows) // photos
            family = number - 1 if number % 10 == 9 else number
            person = {"person_id": f"{number:06d}", "family": f"{family:06d}", "gender": gender, "age": age}
            rows += [{**person, "mask": min(shot, 2)} for shot in range(photos)]
    return pd.DataFrame(rows).sample(frac=1, random_state=0).reset_index(drop=True)


IMBALANCED = {(1, 0): 86, (1, 1): 84, (1, 2): 13, (0, 0): 55, (0, 1): 54, (0, 2): 8}  # the competition's shares
TABLE = people(IMBALANCED)

tables = st.builds(
    lambda sizes, photos: people(dict(zip(IMBALANCED, sizes, strict=True)), photos=photos),
    st.lists(st.integers(0, 12), min_size=6, max_size=6).filter(lambda sizes: sum(sizes) >= 4),
    st.integers(1, 3),
)
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def parts(table: pd.DataFrame, split: Split) -> None:
    """Check that both sides together are the table, and share no family."""
    columns = ["person_id", "mask"]
    both = pd.concat([split.train, split.val])
    key = both.sort_values(columns).reset_index(drop=True)
    pd.testing.assert_frame_equal(key, table.sort_values(columns).reset_index(drop=True), check_dtype=False)
    assert not set(split.train["family"]) & set(split.val["family"])


@quick
@given(tables, st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_folds_hold_out_everyone_once(table: pd.DataFrame, k: int, seed: int) -> None:
    if table["family"].nunique() < k:
        return
    folds = k_folds(table, k, seed=seed)
    assert len(folds) == k
    for fold in folds:
        parts(table, fold)
    held_out = pd.concat([fold.val for fold in folds])["person_id"]
    assert sorted(held_out) == sorted(table["person_id"])


@quick
@given(st.lists(st.integers(6, 25), min_size=6, max_size=6), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_folds_have_equal_strata_up_to_one_person(sizes: list[int], k: int, seed: int) -> None:
    """Holds if every family is one person, and no stratum has fewer people than folds."""
    table = people(dict(zip(IMBALANCED, sizes, strict=True)), photos=1)
    table["family"] = table["person_id"]
    fold = assign_folds(table, k, seed=seed, strata=STRATA)
    for _, stratum in table.groupby(STRATA):
        counts = np.bincount(fold[stratum.index], minlength=k)
        assert counts.max() - counts.min() <= 1


@quick
@given(tables, st.sampled_from([0.2, 0.25, 1 / 3, 0.5]) | st.floats(0.0001, 0.9999), st.integers(0, 2**32 - 1))
def test_a_hold_out_splits_any_table_or_names_the_option(table: pd.DataFrame, fraction: float, seed: int) -> None:
    try:
        split = split_people(table, val_fraction=fraction, seed=seed)
    except SplitError as error:
        assert "data.val_fraction" in str(error)  # noqa: PT017 (both outcomes are correct)
    else:
        parts(table, split)
        assert len(split.train)
        assert len(split.val)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.25, 1 / 3, 0.5, 0.667, 0.9, 0.123])
@pytest.mark.parametrize("seed", [0, 1])
def test_sides_have_the_requested_share_and_strata(fraction: float, seed: int) -> None:
    split = split_people(TABLE, val_fraction=fraction, seed=seed)
    parts(TABLE, split)
    everyone = TABLE.drop_duplicates("person_id")
    held_out = split.val.drop_duplicates("person_id")
    assert len(held_out) / len(everyone) == pytest.approx(fraction, abs=0.02)
    counts = held_out.groupby(STRATA).size().reindex(list(product_of_strata()), fill_value=0)
    for stratum, size in IMBALANCED.items():
        assert counts[stratum[0], stratum[1]] == pytest.approx(size * fraction, abs=2.5)


def product_of_strata() -> list[tuple[int, int]]:
    return [(gender, age) for gender in (0, 1) for age in (0, 1, 2)]


@pytest.mark.parametrize("fraction", [0.0001, 0.004, 0.996, 0.9999])
def test_fractions_near_0_and_1_leave_people_on_both_sides(fraction: float) -> None:
    split = split_people(people({(1, 0): 150, (0, 1): 90}, photos=1), val_fraction=fraction, seed=0)
    small = split.val if fraction < 0.5 else split.train
    assert 1 <= len(small) <= 3


@pytest.mark.parametrize("size", [2, 3, 4])
def test_few_people_can_be_split(size: int) -> None:
    """No stratum has as many people as there are folds."""
    table = people(dict.fromkeys(IMBALANCED, size))
    split = split_people(table, val_fraction=0.2, seed=0)
    parts(table, split)
    assert len(split.val)


def test_the_split_depends_on_the_seed_only() -> None:
    first, again, other = (split_people(TABLE, val_fraction=0.2, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first.val, again.val)
    assert set(first.val["person_id"]) != set(other.val["person_id"])


def held_out(table: pd.DataFrame, *, seed: int, **options: Any) -> set[str]:
    return set(hold_out(table, val_fraction=0.2, seed=seed, **options).val["person_id"])


def newcomer(gender: int, age: int) -> pd.DataFrame:
    return TABLE[:1].assign(person_id="new", family="new", gender=gender, age=age)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("change", "most"),
    [
        (lambda table: pd.concat([table, newcomer(1, 0)]), 3),
        (lambda table: pd.concat([table, newcomer(0, 2)]), 3),
        (lambda table: table[table["person_id"] != "000040"], 3),
        (lambda table: table[table["person_id"] != "000170"], 3),
        (lambda table: table.assign(age=table["age"].where(table["person_id"] != "000005", 2)), 5),
        (lambda table: table.iloc[::-1].reset_index(drop=True), 0),
    ],
    ids=["add young", "add old", "remove", "remove middle", "relabel", "reverse"],
)
def test_changing_a_person_moves_few_others(change: Any, most: int, seed: int) -> None:
    changed = change(TABLE).reset_index(drop=True)
    both = set(TABLE["person_id"]) & set(changed["person_id"])
    before, after = (held_out(table, seed=seed) & both for table in (TABLE, changed))
    assert len(before ^ after) <= most
    folds = [
        dict(zip(table["person_id"], assign_folds(table, 5, seed=seed, strata=STRATA), strict=True))
        for table in (TABLE, changed)
    ]
    assert sum(folds[0][person] != folds[1][person] for person in both) <= 5 * most


@pytest.mark.parametrize("options", [{}, {"folds": 4, "fold": 3}, {"limit": 40}])
def test_corrected_labels_move_nobody(options: dict[str, Any]) -> None:
    corrected = TABLE.assign(age=(TABLE["age"] + 1) % 3)
    split = hold_out(TABLE, val_fraction=0.2, seed=0, **options)
    after = hold_out(corrected, val_fraction=0.2, seed=0, labels=TABLE, **options)
    for side in ("train", "val"):
        rows, kept = getattr(split, side), getattr(after, side)
        assert kept["person_id"].tolist() == rows["person_id"].tolist()
        assert (kept["age"] == (rows["age"] + 1) % 3).all()


def test_photos_may_come_in_any_order() -> None:
    """If a file system or a table lists people in another order, a person's photos stay together."""
    split = split_people(TABLE.iloc[::-1].reset_index(drop=True), val_fraction=0.2, seed=0)
    parts(TABLE, split)


def test_fraction_0_holds_out_nobody() -> None:
    split = split_people(TABLE, val_fraction=0, seed=0)
    pd.testing.assert_frame_equal(split.train, TABLE)
    assert split.val.empty
    assert list(split.val.columns) == list(TABLE.columns)


@pytest.mark.parametrize("seed", range(4))
def test_families_and_one_id_at_two_ages_stay_together(competition: Path, seed: int) -> None:
    table = read_index(competition)
    for fold in k_folds(table, 4, seed=seed):
        side = {"train": fold.train, "val": fold.val}
        for ids in ({"000003", "000003-1"}, {"000022"}):
            there = {name: rows[rows["person_id"].isin(ids)] for name, rows in side.items()}
            assert sorted(len(rows) for rows in there.values()) == [0, 14]


@pytest.mark.parametrize("seed", range(10))
def test_a_class_of_a_few_people_reaches_the_held_out_side(seed: int) -> None:
    table = people({(1, 0): 25, (1, 1): 20, (0, 0): 25, (0, 1): 20, (1, 2): 2})
    split = split_people(table, val_fraction=0.2, seed=seed)
    check_classes(split, FACE)
    assert set(split.val["age"]) == set(split.train["age"]) == {0, 1, 2}


@pytest.mark.parametrize("fraction", [1.0, 1.5, -0.2, float("nan")])
def test_a_fraction_outside_0_to_1_raises(fraction: float) -> None:
    with pytest.raises(SplitError, match=rf"val_fraction must be in \[0, 1\), got {fraction}; set data"):
        split_people(TABLE, val_fraction=fraction, seed=0)


@pytest.mark.parametrize("fraction", [0.2, 0.5])
def test_one_family_cannot_be_split(fraction: float) -> None:
    with pytest.raises(SplitError, match="at least 2 families for two sides, found 1; add people"):
        split_people(people({(1, 0): 1}), val_fraction=fraction, seed=0)


@pytest.mark.parametrize(("size", "k"), [(1, 2), (3, 5), (4, 5)])
def test_fewer_families_than_folds_raise(size: int, k: int) -> None:
    with pytest.raises(SplitError, match=f"at least {k} families for {k} folds, found {size}; add people"):
        k_folds(people({(1, 0): size}), k, seed=0)


def test_a_person_on_both_sides_is_refused() -> None:
    rows = TABLE[TABLE["person_id"] == "000005"]
    with pytest.raises(SplitError, match="found 000005 on both"):
        Split(TABLE, rows)


@pytest.mark.parametrize(
    ("without", "side", "message"),
    [
        (("val", "age", 2), "validation", "none of age >=60 among"),
        (("train", "age", 0), "training", "none of age <30 among"),
        (("val", "gender", 1), "validation", "none of gender female among"),
        (("train", "mask", 1), "training", "none of mask incorrect among"),
    ],
)
def test_a_class_missing_on_one_side_raises(without: tuple[str, str, int], side: str, message: str) -> None:
    split = split_people(TABLE, val_fraction=0.2, seed=0)
    sides = {"train": split.train, "val": split.val}
    name, task, target = without
    sides[name] = sides[name][sides[name][task] != target]
    with pytest.raises(SplitError, match=f"on the {side} side, found {message}") as caught:
        check_classes(Split(**sides), FACE)
    assert f"{sides[name]['person_id'].nunique()} people" in str(caught.value)
    others = [other for other in FACE.names if other != task]
    check_classes(Split(**sides), FACE.only(others))


def small(labels: str, **columns: list[int]) -> pd.DataFrame:
    """Build a table of one person per letter with gender m or f and age y, a or o, such as `my fo`."""
    people = labels.split()
    rows = {"gender": ["mf".index(each[0]) for each in people], "age": ["yao".index(each[1]) for each in people]}
    ids = [f"{i:03d}" for i in range(len(people))]
    return pd.DataFrame({"person_id": ids, "family": ids, "mask": 0, **rows, **columns})


PERSON = FACE.only(["gender", "age"])
TWELVE = "my ma mo fy fa fo my ma fy fa my fo"


def divisible(table: pd.DataFrame) -> bool:
    """Try every division of the people."""
    columns = [(table[name] == i).to_numpy() for name, size in (("gender", 2), ("age", 3)) for i in range(size)]
    for number in range(1, 2 ** (len(table) - 1)):
        side = (number >> np.arange(len(table))) & 1 == 1
        if all((each & side).any() and (each & ~side).any() for each in columns):
            return True
    return False


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("fraction", [0.2, 0.25, 0.34, 0.5])
def test_twelve_people_can_be_split_with_any_seed(seed: int, fraction: float, caplog: pytest.LogCaptureFixture) -> None:
    table = small(TWELVE)
    split = hold_out(table, val_fraction=fraction, seed=seed, space=PERSON)
    check_classes(split, PERSON)
    parts(table, split)
    assert len(split.val) == max(round(12 * fraction), 3)
    assert ("3 instead of 2 families are held out" in caplog.text) == (fraction == 0.2)


def test_the_training_side_is_not_enlarged() -> None:
    split = hold_out(small(TWELVE), val_fraction=0.9, seed=0, space=PERSON)
    assert len(split.train) == 1
    with pytest.raises(
        SplitError, match=r"on the training side, found none of .*; add such people, or change data.val"
    ):
        check_classes(split, PERSON)


@pytest.mark.parametrize("trial", range(40))
def test_a_split_with_every_class_is_found_if_there_is_one(trial: int) -> None:
    rng = np.random.default_rng(trial)
    count = int(rng.integers(5, 10))
    chosen = zip(rng.choice(list("mf"), count), rng.choice(list("yao"), count, p=[0.5, 0.3, 0.2]), strict=True)
    table = small(" ".join(map("".join, chosen)))
    possible = divisible(table)
    try:
        split = hold_out(table, val_fraction=0.3, seed=trial, space=PERSON)
        check_classes(split, PERSON)
    except SplitError as error:
        assert not possible, str(error)  # noqa: PT017 (both outcomes are correct)
    else:
        assert possible
        parts(table, split)


@pytest.mark.parametrize("seed", range(5))
def test_classes_of_single_photos_are_covered_too(seed: int) -> None:
    """Two of forty people have an incorrect mask; it is no stratum."""
    table = small("my ma mo fy fa fo my ma fy fa " * 4, mask=[1 if i in (3, 17) else 0 for i in range(40)])
    space = LabelSpace((Task("mask", ("wear", "incorrect")), *PERSON.tasks))
    split = hold_out(table, val_fraction=0.2, seed=seed, space=space)
    check_classes(split, space)
    assert len(split.val) == 8


@pytest.mark.parametrize("seed", range(4))
def test_a_correction_does_not_undo_an_exchange_for_a_class(seed: int) -> None:
    """Two families with the only incorrect masks are exchanged; a correction makes a held-out one incorrect, too."""
    table = small("my ma mo fy fa fo my ma fy fa " * 4)
    space = LabelSpace((Task("mask", ("wear", "incorrect")), *PERSON.tasks))
    base = hold_out(table, val_fraction=0.2, seed=seed)
    rare = base.train["person_id"][:2]
    table = table.assign(mask=table["person_id"].isin(rare).astype(int))
    corrected = table.assign(mask=table["mask"].where(table["person_id"] != base.val["person_id"][0], 1))
    before = hold_out(table, val_fraction=0.2, seed=seed, space=space)
    after = hold_out(corrected, val_fraction=0.2, seed=seed, space=space, labels=table)
    assert set(before.val["person_id"]) != set(base.val["person_id"])
    if base.val["person_id"][0] in set(before.val["person_id"]):
        assert set(after.val["person_id"]) == set(before.val["person_id"])
    check_classes(after, space)
    assert len(after.train) + len(after.val) == len(corrected)
    assert after.val["mask"].sum() == corrected["mask"][corrected["person_id"].isin(after.val["person_id"])].sum()


def test_a_split_that_has_every_class_stays(competition: Path) -> None:
    for table in (read_index(competition), TABLE):
        for fraction in (0.2, 0.34):
            plain = hold_out(table, val_fraction=fraction, seed=0)
            check_classes(plain, FACE)
            pd.testing.assert_frame_equal(hold_out(table, val_fraction=fraction, seed=0, space=FACE).val, plain.val)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("my my fy fa ma mo", r"none of age >=60 among . people \(only family 005 has >=60\); add such people"),
        ("my my fy fa ma ma", r"none of age >=60 among . people \(nobody has >=60\); .* train without that class"),
        ("my fa mo my fa mo".replace("mo", "fo", 1), None),
    ],
)
def test_what_makes_a_split_impossible_is_said(labels: str, message: str | None) -> None:
    table = small(labels)
    if message is None:
        check_classes(hold_out(table, val_fraction=0.5, seed=0, space=PERSON), PERSON)
        return
    with pytest.raises(SplitError, match=message):
        check_classes(hold_out(table, val_fraction=0.34, seed=0, space=PERSON), PERSON)


def test_a_division_that_does_not_exist_is_said() -> None:
    """Each of three people shares one of three classes with each of the others."""
    pairs = LabelSpace(tuple(Task(name, ("no", "yes")) for name in "abc"))
    ids = ["x", "y", "z"] * 2
    shown = {"a": [1, 1, 0, 0, 0, 0], "b": [0, 1, 1, 0, 0, 0], "c": [1, 0, 1, 0, 0, 0]}
    table = pd.DataFrame({"person_id": ids, "family": ids, **shown})
    with pytest.raises(SplitError, match=r"every class of a, b, c on both sides .*found no division of 3 families"):
        hold_out(table, val_fraction=0.34, seed=0, strata=[], space=pairs)


def test_an_empty_validation_side_lacks_nothing() -> None:
    check_classes(split_people(TABLE, val_fraction=0, seed=0), FACE)


@pytest.mark.parametrize("count", [6, 30, 100, 250])
def test_limited_people_are_whole_and_stratified(count: int) -> None:
    rows = limit_people(TABLE, count, seed=0)
    families = rows.drop_duplicates("family")
    assert len(families) == count
    whole = TABLE[TABLE["family"].isin(families["family"])]
    assert len(rows) == len(whole)
    everyone = TABLE.drop_duplicates("family")
    for stratum, size in everyone.groupby(STRATA).size().items():
        found = (families[STRATA] == list(stratum)).all(axis=1).sum()
        assert found >= 1
        assert found == pytest.approx(size * count / len(everyone), abs=1.01)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("limit", [3, 6, 12])
def test_limited_people_have_every_class_that_fits(limit: int, seed: int) -> None:
    """Two of forty people have the only incorrect masks, which are no stratum."""
    table = small("my ma mo fy fa fo my ma fy fa " * 4, mask=[1 if i in (3, 17) else 0 for i in range(40)])
    space = LabelSpace((Task("mask", ("wear", "incorrect")), *PERSON.tasks))
    kept = limit_people(table, limit, seed=seed, space=space)
    assert kept["person_id"].nunique() == limit
    check_classes(Split(kept, kept.iloc[:0]), space)
    plain = limit_people(table, limit, seed=seed)
    if all((plain[task.name] == i).any() for task in space.tasks for i in range(task.num_classes)):
        pd.testing.assert_frame_equal(kept, plain)


def test_a_limit_below_the_classes_is_named() -> None:
    table = small(TWELVE)
    split = hold_out(table, val_fraction=0.25, limit=2, seed=0, space=PERSON)
    with pytest.raises(SplitError, match=r"on the training side, .* families have .*data\.limit_people"):
        check_classes(split, PERSON, table=table)


def test_a_limit_above_all_people_keeps_every_row() -> None:
    assert len(limit_people(TABLE, 10_000, seed=0)) == len(TABLE)


def test_a_stratified_draw_keeps_the_order_and_depends_on_the_seed() -> None:
    drawn = draw_stratified(TABLE, 50, strata=STRATA, seed=0)
    assert list(drawn.index) == sorted(drawn.index)
    pd.testing.assert_frame_equal(drawn, TABLE.loc[drawn.index])
    assert list(draw_stratified(TABLE, 50, strata=STRATA, seed=0).index) == list(drawn.index)
    assert list(draw_stratified(TABLE, 50, strata=STRATA, seed=1).index) != list(drawn.index)


@pytest.mark.parametrize(("count", "want"), [(0, 0), (50, 50), (10**6, len(TABLE))])
def test_a_draw_has_the_requested_size(count: int, want: int) -> None:
    assert len(draw_stratified(TABLE, count, strata=["mask"], seed=0)) == want


def test_folds_are_numbered_from_0(competition: Path) -> None:
    folds = assign_folds(read_index(competition), 3, seed=0, strata=STRATA)
    assert set(np.unique(folds)) == {0, 1, 2}
    assert np.bincount(folds).min() >= 6 * 7


def unlabelled(share: float, *, seed: int = 0) -> pd.DataFrame:
    """TABLE, with unknown ages for a share of the people and unknown masks for a share of the photos."""
    rng = np.random.default_rng(seed)
    table = TABLE.copy()
    unknown = rng.choice(table["person_id"].unique(), int(share * table["person_id"].nunique()), replace=False)
    table.loc[table["person_id"].isin(unknown), "age"] = UNLABELLED
    table.loc[rng.random(len(table)) < share, "mask"] = UNLABELLED
    return table


@pytest.mark.parametrize("strata", [STRATA, ["age"], []])
def test_unlabelled_people_can_be_split(strata: list[str]) -> None:
    table = unlabelled(0.4)
    split = split_people(table, val_fraction=0.25, seed=0, strata=strata)
    parts(table, split)
    check_classes(split, FACE.only(["mask", "gender"]))
    people = split.val["person_id"].nunique()
    assert people == pytest.approx(table["person_id"].nunique() / 4, abs=4)
    if strata:
        of = split.val.drop_duplicates("person_id")
        assert (of["age"] == UNLABELLED).mean() == pytest.approx(0.4, abs=0.06)


@pytest.mark.parametrize("strata", [STRATA, []])
def test_fewer_people_may_lack_labels_and_strata(strata: list[str]) -> None:
    rows = limit_people(unlabelled(0.4), 60, seed=0, strata=strata)
    assert rows["family"].nunique() == 60
    assert len(draw_stratified(rows, 30, strata=strata, seed=0)) == 30


def test_unlabelled_photos_do_not_count_as_a_class() -> None:
    table = unlabelled(0.4)
    table.loc[table["age"] == 2, "age"] = UNLABELLED
    with pytest.raises(SplitError, match="found none of age >=60 among"):
        check_classes(split_people(table, val_fraction=0.25, seed=0), FACE)


def test_class_counts_leave_out_unlabelled_photos() -> None:
    table = unlabelled(0.4)
    counts = class_counts(table, FACE)
    for task in FACE.tasks:
        want = table[task.name][table[task.name] >= 0].value_counts()
        assert counts[task.name] == [int(want.get(i, 0)) for i in range(task.num_classes)]
    assert class_counts(table[table["age"] != 2], FACE)["age"][2] == 0


def test_class_counts_are_sums_of_weights() -> None:
    table = unlabelled(0.4)
    weights = np.linspace(0.5, 1.5, len(table))
    counts = class_counts(table, FACE, weights)
    for task in FACE.tasks:
        want = [weights[table[task.name] == i].sum() for i in range(task.num_classes)]
        assert counts[task.name] == pytest.approx(want)


@pytest.mark.parametrize("held_out", [{"val_fraction": 0.25}, {"val_fraction": 0.25, "folds": 4, "fold": 2}])
def test_the_limit_is_of_people_to_train_on_and_drawn_after_the_split(held_out: dict[str, Any]) -> None:
    whole, limited = (hold_out(TABLE, limit=limit, seed=0, **held_out) for limit in (None, 20))
    assert limited.train["family"].nunique() == 20
    assert set(limited.train["family"]) <= set(whole.train["family"])
    pd.testing.assert_frame_equal(limited.val, whole.val)
