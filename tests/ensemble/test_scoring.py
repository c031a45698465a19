"""Members, votes and soups on made-up answers, against scikit-learn and differences by hand."""

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
    ServedSoup,
    best_of_each,
    hold_trial,
    judge,
    mean_f1,
)
from mask_lightning.inference.predictions import Predictions, cross_entropies
from mask_lightning.labels import FACE

PHOTOS, SHOTS = 60, 5  # of 12 people
TRUTH = {task.name: np.random.default_rng(0).integers(task.num_classes, size=PHOTOS) for task in FACE.tasks}


def said(right: float, *tasks: str, seed: int = 0, shots: int = SHOTS) -> Predictions:
    """Answers of which about the share `right` is the truth."""
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


def test_standings_and_gains_of_one_task() -> None:
    parts = {f"age{i}": said(right, "age", seed=i) for i, right in enumerate((0.1, 0.7, 0.2))}
    better = said(0.9, "age", seed=9)
    members = [Candidate(name, "member", part) for name, part in parts.items()]
    verdict = judge([*members, Candidate("hard vote", "vote", better), Candidate("soup", "soup", parts["age1"])])
    rows = {each.name: each for each in verdict.standings}
    assert list(rows) == ["age0", "age1", "age2", MEAN_MEMBER, "hard vote", "soup"]
    for name, part in (parts | {"hard vote": better}).items():
        assert rows[name].f1.value == pytest.approx(f1(part))
        assert rows[name].accuracy.value == pytest.approx(accuracy_score(TRUTH["age"], part.preds["age"]))
        assert rows[name].f1.low < rows[name].f1.value < rows[name].f1.high
    mean = np.mean([f1(part) for part in parts.values()])
    assert rows[MEAN_MEMBER].f1.value == pytest.approx(mean)
    gains = {(each.name, each.over): each.f1 for each in verdict.gains}
    assert set(gains) == {(name, over) for name in ("hard vote", "soup") for over in ("age1", MEAN_MEMBER)}
    assert gains["hard vote", "age1"].value == pytest.approx(f1(better) - f1(parts["age1"]))
    assert gains["hard vote", MEAN_MEMBER].value == pytest.approx(f1(better) - mean)
    assert gains["hard vote", MEAN_MEMBER].is_real
    same = gains["soup", "age1"]  # the same draws for both: no difference in any of them
    assert (same.value, same.low, same.high, same.is_real) == (0, 0, 0, False)


def test_the_combined_class_is_for_those_who_answer_everything() -> None:
    parts = {f"{task}{i}": said(0.3 + 0.3 * i, task, seed=i) for task in FACE.names for i in range(2)}
    members = [Candidate(name, "member", part) for name, part in parts.items()]
    best = best_of_each(members)
    assert best is not None
    whole = said(0.9)
    verdict = judge([*members, best, Candidate("hard vote", "vote", whole)])
    rows = {(each.task, each.name): each for each in verdict.standings}
    assert [name for task, name in rows if task == "joint"] == [EACH_BEST, "hard vote"]
    assert ("age", EACH_BEST) not in rows
    together = {task: parts[f"{task}1"].preds[task] for task in FACE.names}
    for name, preds in ((EACH_BEST, together), ("hard vote", whole.preds)):
        right = np.mean(FACE.encode(preds) == FACE.encode(TRUTH))
        assert rows["joint", name].accuracy.value == pytest.approx(right)
    assert [each.over for each in verdict.gains if each.task == "joint"] == [EACH_BEST]


def test_runs_of_all_tasks_are_their_own_best() -> None:
    members = [Candidate(str(i), "member", said(0.5, seed=i)) for i in range(2)]
    assert best_of_each(members) is None
    assert best_of_each([Candidate("age0", "member", said(0.5, "age"))]) is None
    rows = [(each.task, each.name) for each in judge(members).standings]
    assert [name for task, name in rows if task == "joint"] == ["0", "1", MEAN_MEMBER]


def test_one_person_gives_no_interval() -> None:
    members = [Candidate(str(i), "member", said(0.5, "age", seed=i, shots=PHOTOS)) for i in range(2)]
    verdict = judge([*members, Candidate("vote", "vote", said(0.9, "age"))])
    assert all(each.f1.low is None for each in verdict.standings)
    assert not any(each.f1.is_real for each in verdict.gains)


def test_mean_f1() -> None:
    part = said(0.5, "age", "mask")
    assert mean_f1(part) == pytest.approx((f1(part, "age") + f1(part, "mask")) / 2)


def jury(parts: dict[str, Predictions]) -> Any:
    """What a trial needs of one."""
    spaces = [part.space for part in parts.values()]
    return SimpleNamespace(
        members=[SimpleNamespace(name=name) for name in parts],
        space=FACE,
        places=lambda task: [i for i, space in enumerate(spaces) if task in space.names],
    )


def test_a_trial() -> None:
    parts = {f"{task}{i}": said(0.5, task, seed=i) for task in FACE.names for i in range(3)}
    soups = {f"soup_{task}_uniform": ServedSoup((f"{task}0", f"{task}1"), said(0.8, task)) for task in FACE.names}
    soups["soup_age_greedy"] = ServedSoup(("age1",), parts["age1"])
    weights = {task: [0, 1, 0] for task in FACE.names}
    trial = hold_trial(jury(parts), list(parts.values()), weights=weights, soups=soups)
    assert (trial.people, trial.photos) == (12, 60)
    assert trial.soups["soup_age_greedy"] == ("age1",)
    np.testing.assert_array_equal(trial.ballots["weighted"].predictions.preds["age"], parts["age1"].preds["age"])
    joint = [each.name for each in trial.verdict.standings if each.task == "joint"]
    assert joint == [EACH_BEST, "hard vote", "soft vote", "weighted vote", "uniform soup"]
    agreement = trial.agreements["age"]
    assert agreement.names == ("age0", "age1", "age2")
    alike = np.mean(parts["age0"].preds["age"] == parts["age2"].preds["age"])
    assert agreement.shares[0, 2] == pytest.approx(alike)
    unweighted = hold_trial(jury(parts), list(parts.values()), weights=None, soups={})
    assert set(unweighted.ballots) == {"hard", "soft"}
