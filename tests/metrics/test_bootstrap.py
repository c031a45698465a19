"""The bootstrap against an explicit loop over redrawn people; which differences are real."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from mask_lightning.errors import PredictionsError
from mask_lightning.labels import FACE, UNLABELLED
from mask_lightning.metrics.bootstrap import Difference, compare, draw_people, intervals, mean_difference

RNG = np.random.default_rng(3)
PEOPLE = [f"p{i:02d}" for i in range(12) for _ in range(1 + i % 3)]
TARGETS = {task.name: RNG.integers(task.num_classes, size=len(PEOPLE)) for task in FACE.tasks}
DRAWS = 60


def looped(predictions, weights: np.ndarray) -> list[tuple[float, float]]:
    """Score the combined class by repeating all photos of a drawn person: (macro F1, accuracy) per draw."""
    person, truth, preds = np.unique(PEOPLE, return_inverse=True)[1], FACE.encode(TARGETS), predictions.codes
    scores = []
    for counts in weights:
        rows = [i for who, n in enumerate(counts) for _ in range(n) for i in np.flatnonzero(person == who)]
        f1 = f1_score(truth[rows], preds[rows], average="macro", labels=range(18), zero_division=0)
        scores.append((f1, accuracy_score(truth[rows], preds[rows])))
    return scores


def test_intervals_are_percentiles_over_redrawn_people(make_labelled) -> None:
    predictions = make_labelled(PEOPLE, TARGETS)
    slow = np.array(looped(predictions, draw_people(12, draws=DRAWS, seed=5)))
    got = intervals(predictions, draws=DRAWS, seed=5, level=0.9)["joint"]
    for metric, scores in zip(("f1", "accuracy"), slow.T, strict=True):
        assert (got[metric].low, got[metric].high) == pytest.approx(tuple(np.percentile(scores, [5, 95])))
    assert got["f1"].value == pytest.approx(looped(predictions, np.ones((1, 12), int))[0][0])


def test_differences_use_the_same_draws_for_any_order_of_photos(make_labelled) -> None:
    a, b = (make_labelled(PEOPLE, TARGETS, seed=seed) for seed in (0, 1))
    weights = draw_people(12, draws=DRAWS, seed=0)
    gains = np.array(looped(a, weights)) - np.array(looped(b, weights))
    order = np.arange(len(PEOPLE))[::-1]
    turned = replace(
        b,
        photos=b.photos.iloc[order].reset_index(drop=True),
        **{name: {task: values[order] for task, values in getattr(b, name).items()} for name in ("probs", "targets")},
    )
    got = compare(a, turned, draws=DRAWS)["joint"]
    for metric, each in zip(("f1", "accuracy"), gains.T, strict=True):
        assert (got[metric].low, got[metric].high) == pytest.approx(tuple(np.percentile(each, [2.5, 97.5])))
        assert got[metric].not_better == pytest.approx((each <= 1e-12).mean())


def test_draws_are_of_people_with_replacement() -> None:
    weights = draw_people(50, draws=2000, seed=0)
    assert (weights.sum(axis=1) == 50).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.15)
    np.testing.assert_allclose(weights.var(axis=0).mean(), 1 - 1 / 50, atol=0.05)  # of a multinomial


def test_photos_of_one_person_are_not_independent(make_labelled) -> None:
    """Seven photos that are right or wrong together are one observation: the interval is about sqrt(7) as wide."""
    right = np.random.default_rng(0).random(40) < 0.6
    probs = {"gender": [[1.0, 0.0] if good else [0.0, 1.0] for good in right for _ in range(7)]}
    widths = []
    for people in ([str(i // 7) for i in range(280)], [str(i) for i in range(280)]):
        interval = intervals(make_labelled(people, {"gender": [0] * 280}, probs=probs))["gender"]["accuracy"]
        widths.append(interval.high - interval.low)
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(7), rel=0.15)


def test_a_single_person_has_no_interval(make_labelled) -> None:
    a, b = (make_labelled(["p"] * 5, {"age": [0, 1, 2, 0, 1]}, seed=seed) for seed in (0, 1))
    assert intervals(a)["age"]["f1"].low is None
    difference = compare(a, b)["age"]["f1"]
    assert (difference.high, difference.not_better, difference.is_real) == (None, None, False)


@pytest.mark.parametrize(
    ("low", "high", "want"), [(0.01, 0.04, True), (-0.04, -0.01, True), (-0.01, 0.04, False), (0.0, 0.0, False)]
)
def test_a_difference_is_real_if_its_interval_excludes_0(low: float, high: float, want: bool) -> None:
    assert Difference(0.02, low, high, 0.01).is_real is want


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            (PEOPLE[:-1], {task: values[:-1] for task, values in TARGETS.items()}),
            r"found 23 for 24 .*\(23\.jpg\); predict the same",
        ),
        ((PEOPLE, {**TARGETS, "age": (TARGETS["age"] + 1) % 3}), "same labels of age for both, found different ones"),
        ((PEOPLE, {**TARGETS, "age": [UNLABELLED, *TARGETS["age"][1:]]}), "same labels of age for both"),
    ],
)
def test_different_photos_or_labels_cannot_be_compared(make_labelled, other: tuple, message: str) -> None:
    with pytest.raises(PredictionsError, match=message):
        compare(make_labelled(PEOPLE, TARGETS), make_labelled(*other))


def test_only_common_tasks_are_compared(make_labelled) -> None:
    everything = make_labelled(PEOPLE, TARGETS)
    age, mask = (make_labelled(PEOPLE, {task: TARGETS[task]}) for task in ("age", "mask"))
    assert list(compare(everything, age)) == ["age"]
    with pytest.raises(PredictionsError, match="found age and mask; compare runs that share a task"):
        compare(age, mask)


def test_a_mean_over_pairs_is_the_mean_of_the_differences_with_a_smaller_interval(make_labelled) -> None:
    """Two pairs of independent people: the variance of the mean is half of the mean variance, about."""
    targets = {"age": np.arange(600) % 3}
    pairs = [
        tuple(make_labelled([f"{i}-{n}" for n in range(600)], targets, seed=10 * i + j) for j in range(2))
        for i in range(2)
    ]
    both = mean_difference(pairs, metric="f1", task="age")
    each = [mean_difference([pair], metric="f1") for pair in pairs]
    assert both.value == pytest.approx(np.mean([one.value for one in each]))
    assert (each[0].low, each[0].high) == tuple(
        getattr(compare(*pairs[0])["age"]["f1"], end) for end in ("low", "high")
    )
    width = np.mean([one.high - one.low for one in each])
    assert both.high - both.low == pytest.approx(width / np.sqrt(2), rel=0.15)
    with pytest.raises(PredictionsError, match="expected labels of mask"):
        mean_difference(pairs, metric="f1", task="mask")
