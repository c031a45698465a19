"""Combining predictions of different tasks, and averaging those of the same task."""

import numpy as np
import pytest

from mask_lightning.errors import PredictionsError
from mask_lightning.labels import AGE, FACE, GENDER, MASK, UNLABELLED, LabelSpace, Task
from mask_lightning.metrics.predictions import average, combine, join_spaces


def test_tasks_of_different_runs_are_combined(make_predictions) -> None:
    parts = [make_predictions(space=FACE.only([name]), seed=i) for i, name in enumerate(("age", "mask", "gender"))]
    whole = combine(parts)
    assert whole.space == FACE
    by_task = {part.space.names[0]: part for part in parts}
    expected = sum(
        by_task[task].probs[task].argmax(1) * factor for task, factor in (("mask", 6), ("gender", 3), ("age", 1))
    )
    np.testing.assert_array_equal(whole.codes, expected)
    assert [source.tasks for source in whole.sources] == [("age",), ("mask",), ("gender",)]


def test_photos_in_another_order_are_matched_by_name(make_predictions) -> None:
    first = make_predictions(("a", "b", "c"), FACE.only(["mask"]))
    second = make_predictions(("c", "a", "b"), FACE.only(["age"]), seed=1)
    whole = combine([first, second])
    assert whole.photos["photo"].tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(whole.probs["age"], second.probs["age"][[1, 2, 0]])


def test_the_mean_is_over_the_parts_with_the_task(make_predictions) -> None:
    both = [make_predictions(seed=seed) for seed in (1, 2)]
    only_age = make_predictions(space=LabelSpace((AGE,)), seed=3)
    both[1].targets["age"][:] = [0, UNLABELLED, 2]
    mean_of_parts = average([*both, only_age])
    np.testing.assert_allclose(
        mean_of_parts.probs["mask"], (both[0].probs["mask"] + both[1].probs["mask"]) / 2, rtol=1e-6
    )
    mean = (both[0].probs["age"] + both[1].probs["age"] + only_age.probs["age"]) / 3
    np.testing.assert_allclose(mean_of_parts.probs["age"], mean, rtol=1e-6)
    assert mean_of_parts.targets["age"].tolist() == [0, UNLABELLED, 2]
    expected = [-np.log(mean[0, 0]), np.nan, -np.log(mean[2, 2])]
    np.testing.assert_allclose(mean_of_parts.losses["age"], expected, rtol=1e-5)
    assert len(mean_of_parts.sources) == 3


def test_a_task_in_two_parts_cannot_be_combined(make_predictions) -> None:
    with pytest.raises(PredictionsError, match=r"found mask from run0/best.ckpt and from run1/best.ckpt; leave one"):
        combine([make_predictions(), make_predictions(space=LabelSpace((MASK,)), seed=1)])


@pytest.mark.parametrize("photos", [("a.jpg", "b.jpg"), ("a.jpg", "b.jpg", "x.jpg"), ("a.jpg", "b.jpg", "c.jpg", "d")])
def test_different_photos_cannot_be_combined(make_predictions, photos: tuple[str, ...]) -> None:
    with pytest.raises(PredictionsError, match="expected the photos of run0"):
        average([make_predictions(), make_predictions(photos, seed=1)])


@pytest.mark.parametrize(
    ("spaces", "names"),
    [
        ([[AGE], [GENDER], [MASK]], ("mask", "gender", "age")),
        ([[Task("hat", ("no", "yes"))], [AGE]], ("age", "hat")),
    ],
)
def test_joined_label_space(spaces: list[list[Task]], names: tuple[str, ...]) -> None:
    assert join_spaces([LabelSpace(tuple(tasks)) for tasks in spaces]).names == names


def test_a_task_needs_the_same_classes_everywhere() -> None:
    other = Task("age", ("young", "old"))
    with pytest.raises(PredictionsError, match="age means <30, 30-59, >=60 in one and young, old in another"):
        join_spaces([LabelSpace((AGE,)), LabelSpace((other,))])
