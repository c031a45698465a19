"""Made-up probabilities -> votes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mask_lightning.ensemble.voting import cast_votes
from mask_lightning.inference.prediction_file import read_predictions, write_predictions
from mask_lightning.labels import FACE


def said(make_predictions, probs: dict[str, Any]) -> Any:
    """Predictions of given probabilities."""
    space = FACE.only(list(probs))
    predictions = make_predictions(["a", "b"], space)
    predictions.probs.update({task: np.array(values, np.float32) for task, values in probs.items()})
    return predictions


A, B = [0.6, 0.4, 0.0], [0.1, 0.9, 0.0]


def test_a_vote_for_each_task_over_those_who_answer_it(make_predictions, tmp_path: Path) -> None:
    parts = [
        said(make_predictions, {"age": [A, A]}),
        said(make_predictions, {"age": [A, A]}),
        said(make_predictions, {"age": [B, B]}),
        said(make_predictions, {"mask": [B, A], "gender": [[0.5, 0.5], [0.2, 0.8]]}),
    ]
    parts[3].targets["mask"][:] = [1, 2]
    hard, soft = cast_votes(parts, kind="hard"), cast_votes(parts, kind="soft")
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
    parts = [said(make_predictions, {"age": [A, A]}), said(make_predictions, {"age": [B, A]})]
    ballot = cast_votes(parts, kind="hard")  # one vote each; means .35 and .65
    assert ballot.ties == {"age": 1}
    assert ballot.predictions.preds["age"].tolist() == [1, 0]
    np.testing.assert_allclose(ballot.predictions.probs["age"], [[0.5, 0.5, 0], [1, 0, 0]], atol=1e-3)
    np.testing.assert_allclose(ballot.predictions.probs["age"].sum(axis=1), 1, atol=1e-6)


def test_weights_count(make_predictions) -> None:
    parts = [said(make_predictions, {"age": [each, each]}) for each in (A, A, B)]
    for weights, want in (([0.2, 0.25, 0.5], 1), ([3, 3, 5], 0)):
        ballot = cast_votes(parts, kind="hard", weights={"age": weights})
        assert ballot.predictions.preds["age"].tolist() == [want, want]
        assert ballot.ties == {"age": 0}
