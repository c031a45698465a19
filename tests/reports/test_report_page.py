"""Summary sentences for predictions that are counted by hand: 20 people with a photo each, two tasks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mask_lightning.labels import LabelSpace, Task
from mask_lightning.metrics.evaluation import Evaluation, evaluate
from mask_lightning.metrics.mistakes import find_mistakes
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.reports import report_page

SPACE = LabelSpace((Task("mask", ("on", "off")), Task("age", ("young", "old"))))


def predictions(prob: float = 0.9, tasks: tuple[str, ...] = SPACE.names) -> Predictions:
    """Predict every mask correctly, 4 of 10 young people as old, and 1 of 10 old people as young."""
    targets = {"mask": np.tile([0, 1], 10), "age": np.repeat([0, 1], 10)}
    preds = {"mask": targets["mask"], "age": np.array([1] * 4 + [0] * 6 + [0] + [1] * 9)}
    top_probs = {"mask": 1.0, "age": prob}
    space = SPACE.only(tasks)
    probs = {
        task: np.where(np.eye(2)[preds[task]] == 1, top_probs[task], 1 - top_probs[task]).astype(np.float32)
        for task in space.names
    }
    people = [f"p{i}" for i in range(20)]
    photos = pd.DataFrame({"photo": people, "person_id": people, "race": ["A"] * 10 + ["B"] * 10})
    losses = {task: np.zeros(20, np.float32) for task in space.names}
    return Predictions(space, photos, probs, {task: targets[task] for task in space.names}, losses, ())


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate(predictions())


def test_the_summary(evaluation: Evaluation) -> None:
    sentences = report_page.summarise(evaluation, find_mistakes(predictions()), {"age": [30, 10]}, train_accuracy=0.99)
    assert sentences[:3] == [
        "75% of the photos are correct in mask and age together (mask 100%, age 75%), but 99% of the training photos: "
        "the model has memorised them.",
        "The most frequent confusion is age young predicted as old: 4 photos of 4 people, 40% of the photos of class "
        "young.",
        # 6 of 10 found, 6 of 7 correct: F1 12/17 = .706; old: 9 of 10, 9 of 13: 18/23 = .783
        "The weakest class is age young: recall 60% (10 photos), precision 86%. This class makes up 75.0% of the "
        "training photos.",
    ]
    assert sentences[3].startswith(
        "The worst slice is age young: 60% of 10 photos of 10 people are correct (95 % interval "
    )
    assert sentences[3].endswith(", compared with 75% of all photos.")
    assert sentences[4] == (
        "The model is overconfident, most of all in age: mean probability 90%, accuracy 75% (calibration error .150)."
    )
    assert len(sentences) == 5


@pytest.mark.parametrize("train_accuracy", [None, 0.76])
def test_a_small_generalization_gap_is_not_mentioned(evaluation: Evaluation, train_accuracy: float | None) -> None:
    assert report_page.describe_accuracy(evaluation, train_accuracy).endswith("(mask 100%, age 75%).")


def test_one_task_without_mistakes() -> None:
    alone = predictions(tasks=("mask",))
    sentences = report_page.summarise(evaluate(alone), find_mistakes(alone), {})
    assert sentences[0] == "100% of the photos are correct."
    assert sentences[1].startswith("The weakest class is mask on: recall 100% (10 photos)")
    assert sentences[-1] == ("The probabilities are well calibrated: the largest calibration error is .000, in mask.")


@pytest.mark.parametrize(("prob", "want"), [(0.55, "underconfident"), (0.95, "overconfident")])
def test_the_direction_of_the_calibration_error(prob: float, want: str) -> None:
    assert f"The model is {want}, most of all in age" in report_page.describe_calibration(evaluate(predictions(prob)))


def test_people_with_one_photo_cannot_disagree() -> None:
    found = find_mistakes(predictions())
    assert "nobody has two photos" in report_page.describe_disagreement(found, 20, ())
    assert report_page.describe_disagreement(found, 20, ("gender", "age")).startswith("Gender and age are the same")
