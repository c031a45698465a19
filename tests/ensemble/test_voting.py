"""Hard and soft votes: winners, ties and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import VotingClassifier

from mask_lightning.ensemble.voting import agreement, hard_vote, soft_vote, vote_predictions
from mask_lightning.errors import PredictionsError
from mask_lightning.inference.prediction_file import read_predictions, write_predictions
from mask_lightning.labels import FACE

A, B, C = [0.6, 0.3, 0.1], [0.3, 0.6, 0.1], [0.1, 0.3, 0.6]  # a member's probs of one photo, for one class each
SURE_C = [0.0, 0.0, 1.0]


def votes(*members: list[float]) -> np.ndarray:
    """Members' probs of a single photo -> (M, 1, 3)."""
    return np.array(members)[:, None]


@pytest.mark.parametrize(
    ("members", "weights", "winner", "ties"),
    [
        ([A, B, B], None, 1, 0),
        ([A, A, SURE_C], None, 0, 0),  # regardless of its confidence
        ([A, B, SURE_C], None, 2, 1),  # one vote each: the mean probability decides
        ([A, B], None, 0, 1),  # also equal: the lower class
        ([A, A, B, B, SURE_C], None, 0, 1),  # its mean, .40, is the largest, but it has fewer votes than they
        ([A, B, C], [1, 3, 1], 1, 0),
        ([A, B, B], [2, 1, 1], 0, 1),
        ([A, B, B], [0, 1, 0], 1, 0),
        ([C], None, 2, 0),
    ],
)
def test_hard_vote(members: list[list[float]], weights: list[float] | None, winner: int, ties: int) -> None:
    vote = hard_vote(votes(*members), weights)
    assert (vote.preds.tolist(), vote.ties) == ([winner], ties)


def test_hard_votes_are_shares_of_the_votes() -> None:
    np.testing.assert_allclose(hard_vote(votes(A, B, B, C)).probs, [[0.25, 0.5, 0.25]])


@pytest.mark.parametrize(
    ("members", "weights", "probs", "ties"),
    [
        ([A, A, SURE_C], None, [0.4, 0.2, 0.4], 1),
        ([A, B], [3, 1], [0.525, 0.375, 0.1], 0),
        ([SURE_C, B], None, [0.15, 0.3, 0.55], 0),
    ],
)
def test_soft_vote(members: list[list[float]], weights: list[float] | None, probs: list[float], ties: int) -> None:
    vote = soft_vote(votes(*members), weights)
    np.testing.assert_allclose(vote.probs, [probs])
    assert vote.ties == ties
    assert vote.preds == np.argmax(probs)


class Constant:
    """A member with fixed probabilities for scikit-learn's VotingClassifier."""

    def __init__(self, probs: np.ndarray) -> None:
        self.probs = probs

    def predict(self, x: object) -> np.ndarray:
        return self.probs.argmax(axis=1)

    def predict_proba(self, x: object) -> np.ndarray:
        return self.probs


@pytest.mark.parametrize("weights", [None, [0.2, 0.9, 0.4, 1.0, 0.3]])
def test_votes_equal_scikit_learns_where_nothing_is_tied(weights: list[float] | None) -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(3), size=(5, 400))
    for kind, ours in (("hard", hard_vote), ("soft", soft_vote)):
        theirs = VotingClassifier([(str(i), None) for i in range(5)], voting=kind, weights=weights)
        theirs.estimators_ = [Constant(member) for member in probs]
        theirs.le_ = type("Identity", (), {"inverse_transform": staticmethod(lambda x: x)})()
        vote = ours(probs, weights)
        counts = np.sort(np.stack([np.bincount(p, minlength=3, weights=weights) for p in probs.argmax(2).T]), axis=1)
        clear = ~np.isclose(counts[:, -1], counts[:, -2])
        assert clear.sum() > 200
        np.testing.assert_array_equal(vote.preds[clear], theirs.predict(np.zeros((400, 1)))[clear])


def test_agreement_is_the_share_of_equal_preds() -> None:
    probs = np.array([[A, A], [A, B], [C, B]])
    np.testing.assert_allclose(agreement(probs), [[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]])


@pytest.mark.parametrize("weights", [[1], [1, -1], [0, 0], [float("nan"), 1]])
def test_impossible_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(PredictionsError, match="a weight of 0 or more for each of 2 members"):
        hard_vote(votes(A, B), weights)


def test_a_vote_needs_members() -> None:
    with pytest.raises(PredictionsError, match="0 members"):
        soft_vote(np.empty((0, 4, 3)))


def predictions_of(make_predictions, probs: dict[str, Any]) -> Any:
    """Predictions with the given probabilities."""
    space = FACE.only(list(probs))
    predictions = make_predictions(["a", "b"], space)
    predictions.probs.update({task: np.array(values, np.float32) for task, values in probs.items()})
    return predictions


FIRST, SECOND = [0.6, 0.4, 0.0], [0.1, 0.9, 0.0]


def test_each_task_is_voted_on_by_the_members_that_predict_it(make_predictions, tmp_path: Path) -> None:
    parts = [
        predictions_of(make_predictions, {"age": [FIRST, FIRST]}),
        predictions_of(make_predictions, {"age": [FIRST, FIRST]}),
        predictions_of(make_predictions, {"age": [SECOND, SECOND]}),
        predictions_of(make_predictions, {"mask": [SECOND, FIRST], "gender": [[0.5, 0.5], [0.2, 0.8]]}),
    ]
    parts[3].targets["mask"][:] = [1, 2]
    hard, soft = vote_predictions(parts, kind="hard"), vote_predictions(parts, kind="soft")
    assert hard.predictions.space == FACE
    assert hard.predictions.preds["age"].tolist() == [0, 0]
    assert soft.predictions.preds["age"].tolist() == [1, 1]  # 1.7 of 3 against 1.3
    np.testing.assert_allclose(hard.predictions.probs["age"], [[2 / 3, 1 / 3, 0]] * 2, atol=1e-6)
    assert soft.predictions.codes.tolist() == [1 * 6 + 0 * 3 + 1, 0 * 6 + 1 * 3 + 1]
    np.testing.assert_allclose(soft.predictions.losses["mask"], [-np.log(0.9), 87.33654], rtol=1e-5)
    assert np.isnan(soft.predictions.losses["age"]).all()
    write_predictions(tmp_path / "votes.parquet", hard.predictions)
    assert (read_predictions(tmp_path / "votes.parquet", FACE).codes == hard.predictions.codes).all()


def test_the_winner_of_a_broken_tie_is_the_most_probable_class(make_predictions) -> None:
    parts = [
        predictions_of(make_predictions, {"age": [FIRST, FIRST]}),
        predictions_of(make_predictions, {"age": [SECOND, FIRST]}),
    ]
    result = vote_predictions(parts, kind="hard")  # one vote each; means .35 and .65
    assert result.ties == {"age": 1}
    assert result.predictions.preds["age"].tolist() == [1, 0]
    np.testing.assert_allclose(result.predictions.probs["age"], [[0.5, 0.5, 0], [1, 0, 0]], atol=1e-3)
    np.testing.assert_allclose(result.predictions.probs["age"].sum(axis=1), 1, atol=1e-6)


def test_weights_count(make_predictions) -> None:
    parts = [predictions_of(make_predictions, {"age": [each, each]}) for each in (FIRST, FIRST, SECOND)]
    for weights, want in (([0.2, 0.25, 0.5], 1), ([3, 3, 5], 0)):
        result = vote_predictions(parts, kind="hard", weights={"age": weights})
        assert result.predictions.preds["age"].tolist() == [want, want]
        assert result.ties == {"age": 0}
