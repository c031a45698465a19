"""Sentences about answers that were counted by hand: 20 people with a photo each, two tasks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mask_lightning.inference.predictions import Predictions
from mask_lightning.labels import LabelSpace, Task
from mask_lightning.metrics.evaluation import Evaluation, evaluate
from mask_lightning.metrics.mistakes import find_mistakes
from mask_lightning.reports import report_words

SPACE = LabelSpace((Task("mask", ("on", "off")), Task("age", ("young", "old"))))


def predictions(sure: float = 0.9, tasks: tuple[str, ...] = SPACE.names) -> Predictions:
    """Everybody's mask is told; of age, 4 of 10 young are taken for old and 1 of 10 old for young."""
    targets = {"mask": np.tile([0, 1], 10), "age": np.repeat([0, 1], 10)}
    said = {"mask": targets["mask"], "age": np.array([1] * 4 + [0] * 6 + [0] + [1] * 9)}
    certainty = {"mask": 1.0, "age": sure}
    space = SPACE.only(tasks)
    probs = {
        task: np.where(np.eye(2)[said[task]] == 1, certainty[task], 1 - certainty[task]).astype(np.float32)
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
    said = report_words.summarise(evaluation, find_mistakes(predictions()), {"age": [30, 10]}, known=0.99)
    assert said[:3] == [
        "It is right in mask and age together on 75% of the photos (mask 100%, age 75%), but on 99% of those that it "
        "was trained on: these it knows by heart.",
        "Most often it takes age young for old: 4 photos of 4 people, 40% of all that are young.",
        # 6 of 10 found, 6 of 7 right: F1 12/17 = .706; old: 9 of 10, 9 of 13: 18/23 = .783
        "Its weakest class is age young: it finds 60% of 10 photos, and 86% of what it calls so is right. Of the "
        "photos that it was trained on, 75.0% were of this class.",
    ]
    assert said[3].startswith("It is worst on age young: right on 60% of 10 photos of 10 people (95 % interval ")
    assert said[3].endswith("of all photos on 75%.")
    assert said[4] == "It overrates itself most in age: 90% sure on average, right on 75% (calibration error .150)."
    assert len(said) == 5


@pytest.mark.parametrize("known", [None, 0.76])
def test_what_it_does_not_know_by_heart(evaluation: Evaluation, known: float | None) -> None:
    assert report_words.say_share_right(evaluation, known).endswith("(mask 100%, age 75%).")


def test_one_task_without_mistakes() -> None:
    alone = predictions(tasks=("mask",))
    said = report_words.summarise(evaluate(alone), find_mistakes(alone), {})
    assert said[0] == "It is right on 100% of the photos."
    assert said[1].startswith("Its weakest class is mask on: it finds 100% of 10 photos")
    assert said[-1] == "It knows how sure it is: its largest calibration error is .000, in mask."


@pytest.mark.parametrize(("sure", "want"), [(0.55, "underrates"), (0.95, "overrates")])
def test_which_way_probabilities_are_wrong(sure: float, want: str) -> None:
    assert f"It {want} itself most in age" in report_words.say_calibration(evaluate(predictions(sure)))


def test_people_with_one_photo_cannot_disagree() -> None:
    found = find_mistakes(predictions())
    assert report_words.say_disagreement(found, 20, ()).startswith("Nobody here has two photos")
    assert report_words.say_disagreement(found, 20, ("gender", "age")).startswith("Gender and age are the same")
