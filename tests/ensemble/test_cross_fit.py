"""Cross-fitted choices on small arrays, by hand and by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from mask_lightning.ensemble.cross_fit import cross_fit, cross_fitted_vote, person_folds, weights_by_score
from mask_lightning.labels import UNLABELLED

CLASSES = np.eye(3)


@pytest.mark.parametrize(("people", "folds", "want"), [(10, 5, [2] * 5), (3, 5, [1, 1, 1]), (2, 5, [1, 1])])
def test_people_are_dealt_into_equal_folds(make_labelled, people: int, folds: int, want: list[int]) -> None:
    names = [f"p{i // 2}" for i in range(2 * people)]
    fold = person_folds(make_labelled(names, {"age": [0] * len(names)}), folds=folds)
    assert fold is not None
    by_person = {name: {int(each) for each, other in zip(fold, names, strict=True) if other == name} for name in names}
    assert all(len(found) == 1 for found in by_person.values())
    assert np.bincount([min(found) for found in by_person.values()]).tolist() == want


def test_families_stay_together_and_one_person_has_no_folds(make_labelled) -> None:
    predictions = make_labelled(["a", "b", "c"], {"age": [0, 1, 2]}, family=["f", "f", "g"])
    fold = person_folds(predictions)
    assert fold is not None
    assert fold[0] == fold[1] != fold[2]
    assert person_folds(make_labelled(["a", "a"], {"age": [0, 1]})) is None


def test_predictions_come_back_in_their_order(make_labelled) -> None:
    predictions = make_labelled([f"p{i}" for i in range(6)], {"age": [0, 1, 2, 0, 1, 2]})
    asked = []

    def predict(others, held):
        asked.append((others.tolist(), held.tolist()))
        return predictions.select(held)

    found = cross_fit(np.array([1, 0, 1, 2, 0, 2]), predict)
    assert asked == [([0, 2, 3, 5], [1, 4]), ([1, 3, 4, 5], [0, 2]), ([0, 1, 2, 4], [3, 5])]
    assert found.photos["photo"].tolist() == predictions.photos["photo"].tolist()
    np.testing.assert_array_equal(found.probs["age"], predictions.probs["age"])


def test_weights_are_scores_per_task_and_equal_where_nothing_scores(make_labelled) -> None:
    targets = {"age": [0, 1, 2], "gender": [0, 1, UNLABELLED]}
    first = make_labelled("abc", targets, probs={"age": CLASSES[[0, 1, 1]], "gender": np.eye(2)[[0, 0, 0]]})
    second = make_labelled("abc", {"age": targets["age"]}, probs={"age": CLASSES[[1, 2, 0]]})
    weights = weights_by_score([first, second])
    options = {"average": "macro", "labels": [0, 1, 2], "zero_division": 0}
    assert weights["age"] == pytest.approx([f1_score([0, 1, 2], [0, 1, 1], **options), 0.0])
    assert weights["gender"] == pytest.approx([f1_score([0, 1], [0, 0], average="macro", zero_division=0)])
    assert weights_by_score([second, second]) == {"age": [1.0, 1.0]}
    unlabelled = make_labelled("abc", {"age": [UNLABELLED] * 3})
    assert weights_by_score([unlabelled, unlabelled]) == {"age": [1.0, 1.0]}


def test_a_weighted_vote_is_scored_on_people_on_whom_it_was_not_weighted(make_labelled) -> None:
    """Against a vote by hand: random members with probability 1, weights by scikit-learn from the other folds."""
    rng, options = np.random.default_rng(0), {"average": "macro", "labels": [0, 1, 2], "zero_division": 0}
    targets, people = rng.integers(3, size=30), [f"p{i}" for i in range(30)]
    preds = [rng.integers(3, size=30) for _ in range(7)]
    parts = [make_labelled(people, {"age": targets}, probs={"age": CLASSES[each]}) for each in preds]
    fold = person_folds(parts[0])
    assert fold is not None
    vote = cross_fitted_vote(parts, fold)
    for i in range(30):
        others = fold != fold[i]
        weights = [f1_score(targets[others], each[others], **options) for each in preds]
        votes = sum(weight * CLASSES[each[i]] for weight, each in zip(weights, preds, strict=True))
        assert vote.predictions.preds["age"][i] == np.argmax(votes)
