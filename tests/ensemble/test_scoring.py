"""Scores and gains of members, votes and soups, against scikit-learn and differences computed by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score

from mask_lightning.ensemble.scoring import (
    EACH_BEST,
    MEAN_MEMBER,
    Candidate,
    SoupPredictions,
    best_of_each,
    compare_candidates,
    mean_score,
    score_ensemble,
)
from mask_lightning.labels import FACE
from mask_lightning.metrics.predictions import Predictions, cross_entropies

PHOTOS, SHOTS = 60, 5  # of 12 people
TRUTH = {task.name: np.random.default_rng(0).integers(task.num_classes, size=PHOTOS) for task in FACE.tasks}


def predict(right: float, *tasks: str, seed: int = 0, shots: int = SHOTS) -> Predictions:
    """Predictions of which about the share `right` is correct."""
    rng, space = np.random.default_rng(100 + seed), FACE.only(tasks or FACE.names)
    probs = {}
    for task in space.tasks:
        random = rng.integers(task.num_classes, size=PHOTOS)
        chosen = np.where(rng.random(PHOTOS) < right, TRUTH[task.name], random)
        probs[task.name] = (0.7 * np.eye(task.num_classes)[chosen] + 0.3 / task.num_classes).astype(np.float32)
    photos = pd.DataFrame({"photo": np.arange(PHOTOS).astype(str), "person_id": np.arange(PHOTOS) // shots})
    targets = {task: TRUTH[task] for task in space.names}
    losses = {task: cross_entropies(probs[task], targets[task]) for task in space.names}
    return Predictions(space, photos, probs, targets, losses, ())


def f1(predictions: Predictions, task: str = "age") -> float:
    labels = range(FACE[task].num_classes)
    return float(f1_score(TRUTH[task], predictions.preds[task], labels=labels, average="macro", zero_division=0))


def test_scores_and_gains_of_one_task() -> None:
    parts = {f"age{i}": predict(right, "age", seed=i) for i, right in enumerate((0.1, 0.7, 0.2))}
    better = predict(0.9, "age", seed=9)
    members = [Candidate(name, "member", part) for name, part in parts.items()]
    comparison = compare_candidates(
        [*members, Candidate("hard vote", "vote", better), Candidate("soup", "soup", parts["age1"])]
    )
    rows = {each.name: each for each in comparison.scores}
    assert list(rows) == ["age0", "age1", "age2", MEAN_MEMBER, "hard vote", "soup"]
    for name, part in (parts | {"hard vote": better}).items():
        assert rows[name].intervals["f1"].value == pytest.approx(f1(part))
        assert rows[name].intervals["accuracy"].value == pytest.approx(accuracy_score(TRUTH["age"], part.preds["age"]))
        assert rows[name].intervals["f1"].low < rows[name].intervals["f1"].value < rows[name].intervals["f1"].high
    mean = np.mean([f1(part) for part in parts.values()])
    assert rows[MEAN_MEMBER].intervals["f1"].value == pytest.approx(mean)
    gains = {(each.name, each.over): each.differences["f1"] for each in comparison.gains}
    assert set(gains) == {(name, over) for name in ("hard vote", "soup") for over in ("age1", MEAN_MEMBER)}
    assert gains["hard vote", "age1"].value == pytest.approx(f1(better) - f1(parts["age1"]))
    assert gains["hard vote", MEAN_MEMBER].value == pytest.approx(f1(better) - mean)
    assert gains["hard vote", MEAN_MEMBER].is_real
    same = gains["soup", "age1"]  # the same draws for both: no difference in any of them
    assert (same.value, same.low, same.high, same.is_real) == (0, 0, 0, False)


def test_only_candidates_with_all_tasks_are_scored_in_the_combined_class() -> None:
    parts = {f"{task}{i}": predict(0.3 + 0.3 * i, task, seed=i) for task in FACE.names for i in range(2)}
    members = [Candidate(name, "member", part) for name, part in parts.items()]
    best = best_of_each(members)
    assert best is not None
    whole = predict(0.9)
    comparison = compare_candidates([*members, best, Candidate("hard vote", "vote", whole)])
    rows = {(each.task, each.name): each for each in comparison.scores}
    assert [name for task, name in rows if task == "joint"] == [EACH_BEST, "hard vote"]
    assert ("age", EACH_BEST) not in rows
    together = {task: parts[f"{task}1"].preds[task] for task in FACE.names}
    for name, preds in ((EACH_BEST, together), ("hard vote", whole.preds)):
        right = np.mean(FACE.encode(preds) == FACE.encode(TRUTH))
        assert rows["joint", name].intervals["accuracy"].value == pytest.approx(right)
    assert [each.over for each in comparison.gains if each.task == "joint"] == [EACH_BEST]


def test_members_with_several_tasks_have_no_best_of_each() -> None:
    members = [Candidate(str(i), "member", predict(0.5, seed=i)) for i in range(2)]
    assert best_of_each(members) is None
    assert best_of_each([Candidate("age0", "member", predict(0.5, "age"))]) is None
    rows = [(each.task, each.name) for each in compare_candidates(members).scores]
    assert [name for task, name in rows if task == "joint"] == ["0", "1", MEAN_MEMBER]


def test_a_single_person_has_no_interval() -> None:
    members = [Candidate(str(i), "member", predict(0.5, "age", seed=i, shots=PHOTOS)) for i in range(2)]
    comparison = compare_candidates([*members, Candidate("vote", "vote", predict(0.9, "age"))])
    assert all(each.intervals["f1"].low is None for each in comparison.scores)
    assert not any(each.differences["f1"].is_real for each in comparison.gains)


def test_mean_score() -> None:
    part = predict(0.5, "age", "mask")
    assert mean_score(part) == pytest.approx((f1(part, "age") + f1(part, "mask")) / 2)


def loaded(parts: dict[str, Predictions]) -> Any:
    """Members without models, as far as `score_ensemble` needs them."""
    spaces = [part.space for part in parts.values()]
    return SimpleNamespace(
        members=[SimpleNamespace(name=name) for name in parts],
        space=FACE,
        positions=lambda task: [i for i, space in enumerate(spaces) if task in space.names],
    )


def test_score_ensemble() -> None:
    parts = {f"{task}{i}": predict(0.5, task, seed=i) for task in FACE.names for i in range(3)}
    soups = {
        f"soup_{task}_uniform": SoupPredictions((f"{task}0", f"{task}1"), predict(0.8, task)) for task in FACE.names
    }
    soups["soup_age_greedy"] = SoupPredictions(("age1",), parts["age1"])
    weights = {task: [0, 1, 0] for task in FACE.names}
    scores = score_ensemble(loaded(parts), list(parts.values()), weights=weights, soups=soups)
    assert (scores.people, scores.photos) == (12, 60)
    assert scores.soups["soup_age_greedy"] == ("age1",)
    np.testing.assert_array_equal(scores.votes["weighted"].predictions.preds["age"], parts["age1"].preds["age"])
    joint = [each.name for each in scores.comparison.scores if each.task == "joint"]
    assert joint == [EACH_BEST, "hard vote", "soft vote", "weighted vote", "uniform soup"]
    agreement = scores.agreements["age"]
    assert agreement.names == ("age0", "age1", "age2")
    alike = np.mean(parts["age0"].preds["age"] == parts["age2"].preds["age"])
    assert agreement.shares[0, 2] == pytest.approx(alike)
    unweighted = score_ensemble(loaded(parts), list(parts.values()), weights=None, soups={})
    assert set(unweighted.votes) == {"hard", "soft"}
