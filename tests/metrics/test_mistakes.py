"""Mistakes on six photos of three people, counted by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mask_lightning.labels import UNLABELLED, LabelSpace, Task
from mask_lightning.metrics import mistakes
from mask_lightning.metrics.predictions import Predictions

SPACE = LabelSpace((Task("mask", ("on", "off")), Task("age", ("young", "old"))))
PEOPLE = ["a", "a", "a", "b", "b", "c"]
MASK = [0, 1, 0, 0, 1, 0]
AGE = [0, 0, 0, 1, 1, UNLABELLED]
SAID = {  # probability of the second class
    "mask": [0.1, 0.8, 0.7, 0.2, 0.9, 0.6],
    "age": [0.9, 0.6, 0.3, 0.8, 0.4, 0.95],
}


def make(people: list[str] | None = PEOPLE, **targets: list[int]) -> Predictions:
    truth = {"mask": np.array(targets.get("mask", MASK)), "age": np.array(targets.get("age", AGE))}
    probs = {task: np.array([[1 - p, p] for p in said], np.float32) for task, said in SAID.items()}
    chosen = {task: probs[task][np.arange(6), truth[task]] for task in SPACE.names}
    losses = {task: np.where(truth[task] < 0, np.nan, -np.log(chosen[task])).astype(np.float32) for task in SPACE.names}
    photos = pd.DataFrame({"photo": [f"{i}.jpg" for i in range(6)]})
    if people is not None:
        photos["person_id"] = people
    return Predictions(SPACE, photos, probs, truth, losses, ())


def test_losses_add_up_over_the_tasks_that_are_known() -> None:
    want = [-np.log(0.9 * 0.1), -np.log(0.8 * 0.4), -np.log(0.3 * 0.7), -np.log(0.8 * 0.8), -np.log(0.9 * 0.4)]
    np.testing.assert_allclose(mistakes.total_losses(make()), [*want, -np.log(0.4)], rtol=1e-5)
    unknown = make(mask=[UNLABELLED] * 6, age=[UNLABELLED] * 6)
    assert np.isnan(mistakes.total_losses(unknown)).all()
    assert not len(mistakes.top_losses(unknown, 9))
    assert not len(mistakes.surest_right(unknown, 9))


@pytest.mark.parametrize(
    ("per_person", "count", "want"),
    [(1, 9, [0, 4, 5]), (2, 9, [0, 2, 4, 5, 3]), (9, 3, [0, 2, 1]), (9, 99, [0, 2, 1, 4, 5, 3])],
)
def test_top_losses_begin_with_the_largest(per_person: int, count: int, want: list[int]) -> None:
    assert mistakes.top_losses(make(), count, per_person=per_person).tolist() == want


def test_without_person_ids_every_photo_is_another_person() -> None:
    assert mistakes.top_losses(make(people=None), 9).tolist() == [0, 2, 1, 4, 5, 3]
    assert mistakes.person_tasks(make(people=None)) == ()
    assert mistakes.divided_people(make(people=None)) == []


@pytest.mark.parametrize(
    ("task", "per_person", "want"), [("mask", 9, [2, 5]), ("age", 9, [0, 1, 4]), ("age", 1, [0, 4])]
)
def test_surest_wrong(task: str, per_person: int, want: list[int]) -> None:
    assert mistakes.surest_wrong(make(), task, 9, per_person=per_person).tolist() == want


def test_surest_right_is_right_in_every_task() -> None:
    assert mistakes.surest_right(make(), 9).tolist() == [3]


def test_pairs_of_one_task() -> None:
    first, second = mistakes.confused_pairs(make(), ["age"])
    assert (first.target, first.pred, first.photos, first.people) == ("young", "old", 2, 1)
    assert first.share == pytest.approx(2 / 3)
    assert first.rows.tolist() == [0, 1]
    assert (second.target, second.pred, second.photos, second.share) == ("old", "young", 1, 0.5)
    (mask,) = mistakes.confused_pairs(make(), ["mask"])
    assert (mask.photos, mask.people, mask.rows.tolist()) == (2, 2, [2, 5])


def test_pairs_of_the_combined_class_take_photos_with_every_label() -> None:
    pairs = mistakes.confused_pairs(make(), SPACE.names)
    found = {(pair.target, pair.pred): pair.photos for pair in pairs}
    assert found == {
        ("on young", "on old"): 1,
        ("off young", "off old"): 1,
        ("on young", "off young"): 1,
        ("off old", "off young"): 1,
    }
    assert pairs[0].share == 1
    assert mistakes.confused_pairs(make(mask=[0, 1, 1, 0, 1, 1]), ["mask"]) == []


def test_a_task_that_changes_within_a_person_is_not_the_persons() -> None:
    assert mistakes.person_tasks(make()) == ("age",)


def test_people_with_contradicting_preds() -> None:
    first, second = mistakes.divided_people(make())
    assert (first.person, first.tasks, first.rows.tolist(), first.minority) == ("b", ("age",), [3, 4], 0.5)
    assert (second.person, second.rows.tolist()) == ("a", [0, 1, 2])
    assert second.minority == pytest.approx(1 / 3)


def test_one_row_of_every_person() -> None:
    assert mistakes.one_each(make(), np.array([2, 0, 5, 1, 4]), 2).tolist() == [2, 5]
