"""One entry in METRICS is enough for a metric to be logged, to get intervals, and to appear in every table."""

from __future__ import annotations

from io import StringIO

import numpy as np
import pytest
import torch
from rich.console import Console

from mask_lightning.engine.epoch_scores import Scores
from mask_lightning.ensemble.scoring import Candidate, compare_candidates
from mask_lightning.labels import FACE
from mask_lightning.metrics.evaluation import evaluate
from mask_lightning.metrics.names import lower_is_better, score_keys
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.metrics.scores import METRICS, Metric, accuracy
from mask_lightning.reports.evaluation_report import scores_table

PEOPLE = [f"p{i // 3}" for i in range(60)]


@pytest.fixture(autouse=True)
def error_rate(monkeypatch: pytest.MonkeyPatch) -> Metric:
    """Register the share of wrong preds as `error_rate`."""
    metric = Metric("error rate", lambda confusion: 1 - accuracy(confusion), higher_is_better=False)
    monkeypatch.setitem(METRICS, "error_rate", metric)
    return metric


@pytest.fixture
def predictions(make_labelled) -> Predictions:
    """Random predictions of 20 people for all tasks."""
    rng = np.random.default_rng(1)
    return make_labelled(PEOPLE, {task.name: rng.integers(task.num_classes, size=60) for task in FACE.tasks})


def test_it_is_logged() -> None:
    scores, target = Scores(FACE), {task: torch.zeros(4, dtype=torch.long) for task in FACE.names}
    log_probs = {task.name: torch.eye(task.num_classes)[[0, 0, 0, 1]] for task in FACE.tasks}
    losses = {task: torch.tensor(1.0) for task in FACE.names}
    scores.update(log_probs, target, losses)
    found = scores.compute()
    assert found["error_rate"] == found["age/error_rate"] == 0.25


def test_it_has_a_key_that_can_be_monitored() -> None:
    assert {"val/error_rate", "val/age/error_rate"} <= set(score_keys(["val"], ["age"]))
    assert lower_is_better("val/age/error_rate")


def test_it_is_in_the_evaluation_with_an_interval(predictions: Predictions) -> None:
    plain = evaluate(predictions).to_plain()
    for task in (*FACE.names, "joint"):
        interval = plain["intervals"][task]["error_rate"]
        assert interval["value"] == pytest.approx(1 - plain["scores"][task]["accuracy"])
        assert interval["low"] < interval["value"] < interval["high"]
        assert plain["scores"][task]["error_rate"] == pytest.approx(interval["value"])


def test_it_is_in_the_table_on_the_terminal(predictions: Predictions) -> None:
    shown = StringIO()
    Console(file=shown, width=200).print(scores_table(evaluate(predictions), "title"))
    assert "error rate" in shown.getvalue()


def test_it_is_in_the_comparison_of_an_ensemble(predictions: Predictions, make_labelled) -> None:
    perfect = {task.name: np.eye(task.num_classes)[predictions.targets[task.name]] for task in FACE.tasks}
    vote = make_labelled(PEOPLE, predictions.targets, probs=perfect)
    found = compare_candidates([Candidate("a", "member", predictions), Candidate("vote", "vote", vote)])
    plain = [each.to_plain() for each in found.scores if each.task == "age"]
    assert [each["name"] for each in plain] == ["a", "vote"]
    assert plain[1]["error_rate"]["value"] == 0
    (gain,) = (each.differences["error_rate"] for each in found.gains if each.task == "age")
    assert gain.value < 0
    assert gain.not_better == 0  # fewer errors are better


def test_a_metric_without_interval_has_a_value_only(predictions: Predictions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        METRICS, "error_rate", Metric("error rate", lambda confusion: 1 - accuracy(confusion), interval=False)
    )
    found = evaluate(predictions).intervals["age"]
    assert (found["error_rate"].low, found["error_rate"].high) == (None, None)
    assert found["accuracy"].low is not None
