"""All numbers of an evaluation, also as strict JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mask_lightning.labels import FACE, UNLABELLED
from mask_lightning.metrics.evaluation import evaluate, to_plain
from mask_lightning.metrics.scores import score

PEOPLE = [str(i // 7) for i in range(84)]


def targets(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {task.name: rng.integers(task.num_classes, size=len(PEOPLE)) for task in FACE.tasks}


def test_an_evaluation_is_complete_and_strict_json(make_labelled) -> None:
    predictions = make_labelled(PEOPLE, targets(), race=[str(int(person) % 3) for person in PEOPLE])
    evaluation = evaluate(predictions)
    assert (evaluation.people, evaluation.photos, evaluation.headline) == (12, 84, "joint")
    assert evaluation.scores["joint"].f1 == score(predictions)["joint"].f1
    plain = json.loads(json.dumps(evaluation.to_plain(), allow_nan=False))
    assert plain["intervals"]["age"]["f1"]["value"] == evaluation.scores["age"].f1
    assert plain["age_given_mask"].keys() == {"wear", "incorrect", "normal"}
    assert {each["column"] for each in plain["slices"]} == {*FACE.names, "race"}
    assert plain["worst"]["people"] >= 10


def test_the_seed_draws_the_people(make_labelled) -> None:
    predictions = make_labelled(PEOPLE, targets(), race=[str(int(person) % 2) for person in PEOPLE])
    first, again, other = (evaluate(predictions, seed=seed).to_plain() for seed in (0, 0, 1))
    assert first == again
    assert first["scores"] == other["scores"]
    assert first["intervals"] != other["intervals"]
    assert first["slices"] != other["slices"]


@pytest.mark.parametrize(
    ("people", "labels"),
    [
        (["p"] * 3, {"gender": [0, 1, 0]}),  # a single person
        (list("abc"), {"gender": [1, 1, 1]}),  # one class only
        (list("abc"), {"mask": [0, UNLABELLED, UNLABELLED], "age": [UNLABELLED, 1, 1]}),  # no photo has both
    ],
)
def test_small_data_are_scored(make_labelled, people: list[str], labels: dict) -> None:
    evaluation = evaluate(make_labelled(people, labels))
    assert evaluation.headline != "joint"
    assert (evaluation.people, evaluation.photos) == (len(set(people)), 3)
    json.dumps(evaluation.to_plain(), allow_nan=False)


def test_numbers_that_json_lacks_become_null() -> None:
    assert to_plain({"a": np.float64("nan"), "b": (float("inf"), np.int64(3))}) == {"a": None, "b": [None, 3]}
