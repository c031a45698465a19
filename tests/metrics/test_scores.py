"""Scores against scikit-learn, averaged over all classes as the competition does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from mask_lightning.errors import PredictionsError
from mask_lightning.labels import FACE, UNLABELLED, LabelSpace, Task
from mask_lightning.metrics.scores import MEAN, METRICS, headline, labelled_preds, people_of, score


@st.composite
def cases(draw: st.DrawFn) -> dict[str, list[int]]:
    """Targets of 1 to 30 photos; classes are often absent, and some photos are not labelled for a task."""
    count = draw(st.integers(1, 30))
    lowest = draw(st.sampled_from([UNLABELLED, 0]))
    highest = {task.name: draw(st.integers(0, task.num_classes - 1)) for task in FACE.tasks}
    return {
        name: draw(st.lists(st.integers(lowest, highest[name]), min_size=count, max_size=count)) for name in FACE.names
    }


@settings(max_examples=60, deadline=None)
@given(targets=cases(), seed=st.integers(0, 9))
def test_scores_are_scikit_learns_over_all_classes(make_labelled, targets: dict[str, list[int]], seed: int) -> None:
    predictions = make_labelled(["p"] * len(targets["mask"]), targets, seed=seed)
    if all(value == UNLABELLED for values in targets.values() for value in values):
        with pytest.raises(PredictionsError, match="labels are known, found none"):
            score(predictions)
        return
    preds, truth = predictions.preds, {name: np.array(values) for name, values in targets.items()}
    tasks = [name for name in FACE.names if (truth[name] >= 0).any()]
    known = np.all([truth[name] >= 0 for name in tasks], axis=0)
    space = FACE.only(tasks)
    want = {name: (truth[name], preds[name], truth[name] >= 0, FACE[name].num_classes) for name in tasks}
    half = all(2 * known.sum() >= (truth[name] >= 0).sum() for name in tasks)
    if len(tasks) > 1 and half and all(set(truth[name]) - {-1} == set(truth[name][known]) for name in tasks):
        want["joint"] = (space.encode(truth), space.encode(preds), known, space.num_codes)
    scores = score(predictions)
    assert list(scores) == list(want)
    for name, (true, preds, rows, classes) in want.items():
        labels, true, preds = list(range(classes)), true[rows], preds[rows]
        options = {"labels": labels, "zero_division": 0}
        got = scores[name]
        assert got.f1 == pytest.approx(metrics.f1_score(true, preds, average="macro", **options))
        assert got.accuracy == pytest.approx(metrics.accuracy_score(true, preds))
        np.testing.assert_allclose(got.precision, metrics.precision_score(true, preds, average=None, **options))
        np.testing.assert_allclose(got.recall, metrics.recall_score(true, preds, average=None, **options))
        np.testing.assert_array_equal(got.confusion, metrics.confusion_matrix(true, preds, labels=labels))
        assert (got.support.tolist(), got.photos) == (np.bincount(true, minlength=classes).tolist(), rows.sum())


def test_an_absent_class_counts_as_0(make_labelled) -> None:
    always = {"gender": [[0.9, 0.1]] * 4}
    scores = score(make_labelled("abcd", {"gender": [0, 0, 0, 0]}, probs=always))["gender"]
    assert (scores.accuracy, scores.f1, scores.absent) == (1.0, 0.5, ("female",))


def test_a_label_space_too_large_to_combine_has_no_joint_score(make_labelled) -> None:
    space = LabelSpace(tuple(Task(name, tuple("abcdefghijk")) for name in ("x", "y")))
    scores = score(make_labelled("pq", {"x": [0, 1], "y": [2, 3]}, space=space))
    assert list(scores) == ["x", "y"]
    assert headline(scores) == MEAN


def test_without_person_ids_every_photo_is_another_person(make_labelled) -> None:
    predictions = make_labelled("aab", {"gender": [0, 1, UNLABELLED]})
    assert people_of(predictions).tolist() == ["a", "a", "b"]
    assert labelled_preds(predictions)["gender"].rows.tolist() == [0, 1]
    del predictions.photos["person_id"]
    assert people_of(predictions).tolist() == ["0.jpg", "1.jpg", "2.jpg"]


@pytest.mark.parametrize("name", METRICS)
def test_metrics_take_batches_of_arrays_and_of_tensors(name: str) -> None:
    confusion = np.random.default_rng(0).integers(0, 5, size=(4, 3, 3))
    confusion[0] = 0  # no photo at all
    confusion[1, 2] = confusion[1, :, 2] = 0  # an absent class
    want = [METRICS[name].compute(each) for each in confusion]
    np.testing.assert_allclose(METRICS[name].compute(confusion), want)
    np.testing.assert_allclose(METRICS[name].compute(torch.tensor(confusion)).numpy(), want, rtol=1e-6)
    assert METRICS[name].compute(confusion[0]) == 0
