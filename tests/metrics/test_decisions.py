"""The decision rule for macro F1, against brute force, scikit-learn and a simulation whose optimum is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score

from mask_lightning.errors import PredictionsError
from mask_lightning.labels import FACE, LabelSpace, Task
from mask_lightning.metrics.calibration import Correction
from mask_lightning.metrics.decisions import (
    decide,
    decide_macro_f1,
    decided_together,
    expected_f1,
    joint_probs,
)
from mask_lightning.metrics.predictions import Source, join_rows

NO_CHANGE = {task.name: Correction(1.0, (0.0,) * task.num_classes) for task in FACE.tasks}


def draw(photos: int, classes: int, seed: int, *, sharpness: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with rare classes, and labels that are drawn from them: perfectly calibrated."""
    rng = np.random.default_rng(seed)
    probs = softmax(sharpness * rng.normal(size=(photos, classes)) - np.arange(classes), axis=1)
    labels = (probs.cumsum(axis=1) < rng.random((photos, 1))).sum(axis=1)
    return probs, labels


@pytest.mark.parametrize("seed", range(20))
def test_no_decisions_of_few_photos_have_a_larger_expected_f1(seed: int) -> None:
    probs, _ = draw(7, 3, seed)
    best = max(expected_f1(probs, np.array(preds)).mean() for preds in product(range(3), repeat=7))
    found = expected_f1(probs, decide_macro_f1(probs)).mean()
    assert found >= expected_f1(probs, probs.argmax(axis=1)).mean()
    assert found >= 0.93 * best  # exact for many photos, nearly for seven


@pytest.mark.parametrize("seed", range(5))
def test_of_two_classes_it_finds_the_best_threshold(seed: int) -> None:
    """With two classes the optimum is a threshold on the probability; all of them are tried."""
    rare = np.sort(np.random.default_rng(seed).beta(0.5, 4, 2000))
    probs = np.column_stack([1 - rare, rare])
    scores = [expected_f1(probs, (np.arange(2000) >= first).astype(np.int64)).mean() for first in range(2001)]
    assert expected_f1(probs, decide_macro_f1(probs)).mean() == pytest.approx(max(scores), abs=1e-4)


def test_no_change_of_one_photo_improves_the_expected_f1() -> None:
    probs, _ = draw(400, 5, seed=2)
    decided = decide_macro_f1(probs)
    found = expected_f1(probs, decided).mean()
    for photo, other in product(range(400), range(5)):
        changed = decided.copy()
        changed[photo] = other
        assert expected_f1(probs, changed).mean() < found + 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_it_beats_argmax_where_the_probabilities_are_true(seed: int) -> None:
    probs, labels = draw(20_000, 6, seed)
    decided, argmax = decide_macro_f1(probs), probs.argmax(axis=1)
    scores = [f1_score(labels, preds, average="macro") for preds in (decided, argmax)]
    assert scores[0] > scores[1] + 0.03
    assert expected_f1(probs, decided).mean() == pytest.approx(scores[0], abs=0.01)
    assert (decided == labels).mean() < (argmax == labels).mean()  # the price


def test_it_does_not_depend_on_the_order_of_the_photos() -> None:
    probs, _ = draw(300, 4, seed=1)
    order = np.random.default_rng(0).permutation(300)
    np.testing.assert_array_equal(decide_macro_f1(probs)[order], decide_macro_f1(probs[order]))


@pytest.mark.parametrize("probs", [[[0.2, 0.5, 0.3]], [[1.0, 0.0], [1.0, 0.0]], [[0.9, 0.1], [0.2, 0.8]]])
def test_hardly_any_photos(probs: list[list[float]]) -> None:
    decided = decide_macro_f1(probs)
    best = max(
        expected_f1(np.array(probs), np.array(preds)).mean()
        for preds in product(range(len(probs[0])), repeat=len(probs))
    )
    assert expected_f1(np.array(probs), decided).mean() == pytest.approx(best, abs=0.05)


def test_all_three_tasks_are_decided_together(make_predictions) -> None:
    predictions = make_predictions([f"{i}.jpg" for i in range(50)])
    decided = decide(predictions, NO_CHANGE)
    want = decide_macro_f1(joint_probs(FACE, predictions.probs))
    np.testing.assert_array_equal(decided.codes, want)
    assert (decided.codes != predictions.codes).any()
    assert decided.probs is predictions.probs
    parts = [decided.select(np.arange(20)), decided.select(np.arange(20, 50))]
    np.testing.assert_array_equal(join_rows(parts).codes, want)


def test_other_tasks_are_decided_alone(make_predictions) -> None:
    smile = Task("smile", ("no", "yes"))
    assert [group.names for group in decided_together(LabelSpace((*FACE.tasks, smile)))] == [FACE.names, ("smile",)]
    space = FACE.only(["gender", "age"])
    predictions = make_predictions([f"{i}.jpg" for i in range(50)], space)
    decided = decide(predictions, NO_CHANGE)
    for task in space.names:
        np.testing.assert_array_equal(decided.preds[task], decide_macro_f1(predictions.probs[task]))


def test_joint_probabilities_are_in_the_order_of_the_codes() -> None:
    probs = {task.name: np.eye(task.num_classes)[:2] for task in FACE.tasks}
    assert joint_probs(FACE, probs).argmax(axis=1).tolist() == [
        FACE.encode(dict.fromkeys(FACE.names, 0)),
        FACE.encode(dict.fromkeys(FACE.names, 1)),
    ]


def test_temperatures_that_were_applied_are_undone(make_predictions) -> None:
    raw = make_predictions([f"{i}.jpg" for i in range(60)], seed=3)
    (source,) = raw.sources
    scaled = replace(
        raw,
        probs={**raw.probs, "age": softmax(np.log(raw.probs["age"]) / 3.0, axis=1)},
        sources=(replace(source, temperatures={"age": 3.0}),),
    )
    corrections = {**NO_CHANGE, "age": Correction(2.0, (0.5, 0.0, -0.5))}
    np.testing.assert_array_equal(decide(scaled, corrections).codes, decide(raw, corrections).codes)


def test_without_calibration_the_remedy_is_named(make_predictions) -> None:
    with pytest.raises(PredictionsError, match=r"found none of age of .*evaluate ckpt=RUN calibrate=true"):
        decide(make_predictions(), {task: NO_CHANGE[task] for task in ("mask", "gender")})


def test_several_temperatures_of_one_task_cannot_be_undone(make_predictions) -> None:
    sources = tuple(Source(f"{i}.ckpt", "", "", FACE.names, {}, temperatures={"age": 2.0 + i}) for i in range(2))
    with pytest.raises(PredictionsError, match="expected one model for age"):
        decide(replace(make_predictions(), sources=sources), NO_CHANGE)
