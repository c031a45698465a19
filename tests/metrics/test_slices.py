"""Slices of eight photos of four people, counted by hand."""

from __future__ import annotations

import pytest

from mask_lightning.labels import UNLABELLED
from mask_lightning.metrics.bootstrap import Interval
from mask_lightning.metrics.slices import Slice, scores_given, slice_columns, slice_scores, worst_slice

PEOPLE = list("aabbccdd")
TARGETS = {"mask": [0, 2] * 4, "age": [0, 0, 0, 0, 1, 1, 2, 2]}
PREDS = {"mask": [0, 2, 0, 2, 0, 2, 0, 0], "age": [0, 1, 0, 0, 1, 1, 0, 2]}
RACE = ["x", "x", "y", "y", "y", "y", "x", "x"]


def certain(answers: list[int]) -> list[list[float]]:
    return [[float(i == answer) for i in range(3)] for answer in answers]


@pytest.fixture
def predictions(make_labelled):
    probs = {task: certain(preds) for task, preds in PREDS.items()}
    return make_labelled(PEOPLE, TARGETS, probs=probs, race=RACE, remark=[f"note {i}" for i in range(8)], shot=RACE)


def test_every_class_and_every_value_is_a_slice(predictions) -> None:
    found = {(each.column, each.value): each for each in slice_scores(predictions)}
    assert list(found) == [
        *(("mask", name) for name in ("wear", "normal")),
        *(("age", name) for name in ("<30", "30-59", ">=60")),
        *(("race", name) for name in "xy"),
        *(("remark", f"note {i}") for i in range(8)),
    ]
    race = found["race", "x"]
    assert (race.people, race.photos, race.accuracy.value) == (2, 4, 0.25)
    assert race.task_accuracy == {"mask": 0.75, "age": 0.5}
    assert found["race", "y"].accuracy == Interval(1.0, 1.0, 1.0)
    assert found["race", "y"].f1 == 1.0
    # targets are wear >=60 and normal >=60, once each; preds are wear <30 and wear >=60
    assert found["age", ">=60"].f1 == 0.0
    assert found["age", ">=60"].accuracy.low is None


def test_columns_that_are_no_slices(make_labelled) -> None:
    many = [str(i) for i in range(25)]
    predictions = make_labelled(many, {"gender": [0] * 25}, city=["one"] * 25, street=many, floor=[1] * 25)
    assert list(slice_columns(predictions)) == ["gender"]


def test_unlabelled_photos_are_in_no_slice(make_labelled) -> None:
    predictions = make_labelled("abc", {"gender": [0, UNLABELLED, 1]}, race=["x", "y", ""])
    assert [(each.column, each.value) for each in slice_scores(predictions)] == [
        ("gender", "male"),
        ("gender", "female"),
        ("race", "x"),
    ]


def test_the_worst_slice_has_enough_people() -> None:
    few, bad, good = (
        Slice("race", name, people, 70, Interval(score, None, None), 0.5, {})
        for name, people, score in (("few", 1, 0.0), ("bad", 10, 0.4), ("good", 99, 0.9))
    )
    assert worst_slice([few, good, bad]) == bad
    assert worst_slice([few, good, bad], min_people=1) == few
    assert worst_slice([few]) is None


def test_age_given_mask(predictions) -> None:
    given = scores_given(predictions, "age", "mask")
    assert list(given) == ["wear", "normal"]
    assert (given["wear"].accuracy, given["normal"].accuracy) == (0.75, 0.75)
    assert given["wear"].f1 == pytest.approx((0.8 + 1 + 0) / 3)  # <30: 2 of 2, and one more pred
    assert scores_given(predictions, "gender", "mask") == {}
