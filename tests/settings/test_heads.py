"""Heads and ages that cannot be, or would do nothing: each is told in one line."""

from __future__ import annotations

from typing import Any

import pytest

from mask_lightning.errors import ConfigError
from mask_lightning.labels import FACE, LabelSpace, Task
from mask_lightning.settings.base import check
from mask_lightning.settings.data import AgeSettings
from mask_lightning.settings.model import HeadSettings

OTHER = LabelSpace((Task("age", ("young", "old")), Task("hat", ("no", "yes"))))
AGE_ALONE = FACE.only(["age"])


@pytest.mark.parametrize(
    ("head", "ages", "tasks", "loss", "words"),
    [
        (
            "regression",
            {},
            FACE.only(["mask"]),
            {},
            ["head=regression", "the task age", "found mask (wear,"],
        ),
        ("ordinal", {}, FACE.only(["mask", "gender"]), {}, ["head=ordinal", "found mask", "gender (male, female)"]),
        ("classes_and_regression", {}, OTHER, {}, ["<30, 30-59, >=60", "found age (young, old); hat (no, yes)"]),
        ("classes", {"train_cuts": [30, 58]}, FACE.only(["mask"]), {}, ["labels.age.train_cuts=null", "found mask"]),
        ("classes", {"leave_out": [[57, 59]]}, OTHER, {}, ["labels.age.leave_out is for", "found age (young, old)"]),
        ("regression", {"train_cuts": [30, 58]}, FACE, {}, ["train_cuts moves classes", "head=ordinal"]),
        (
            "regression",
            {},
            AGE_ALONE,
            {"logit_adjustment": 1.0},
            ["loss.logit_adjustment", "found 1.0", "head=classes"],
        ),
        ("regression", {}, AGE_ALONE, {"class_weights": "balanced"}, ["loss.class_weights", "loss=cross_entropy"]),
        ("ordinal", {}, AGE_ALONE, {"focal_gamma": 2.0}, ["loss.focal_gamma", "head=ordinal"]),
        ("ordinal", {}, AGE_ALONE, {"label_smoothing": 0.1}, ["loss.label_smoothing"]),
    ],
)
def test_refused(head: str, ages: dict[str, Any], tasks: LabelSpace, loss: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        HeadSettings(name=head).check(tasks, ages=check(AgeSettings, ages), loss=loss)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("head", "ages", "tasks", "loss"),
    [
        ("classes", {}, OTHER, {"focal_gamma": 2.0}),
        ("regression", {"leave_out": [[27, 29]], "bin_width": 10}, FACE, {"logit_adjustment": 1.0}),  # of the others
        ("regression", {}, AGE_ALONE, {"task_weights": {"age": 1.0}}),
        ("ordinal", {"train_cuts": [30, 58]}, AGE_ALONE, {"logit_adjustment": 1.0}),
        ("classes_and_regression", {}, AGE_ALONE, {"soft_f1": 1.0}),
    ],
)
def test_taken(head: str, ages: dict[str, Any], tasks: LabelSpace, loss: dict[str, Any]) -> None:
    HeadSettings(name=head).check(tasks, ages=check(AgeSettings, ages), loss=loss)


@pytest.mark.parametrize(
    ("ages", "words"),
    [
        ({"train_cuts": [58, 30]}, ["labels.age.train_cuts must rise, got [58, 30]"]),
        ({"train_cuts": [30, 30]}, ["must rise"]),
        ({"train_cuts": [30, 130]}, ["train_cuts.1", "less than or equal to 120"]),
        ({"train_cuts": [0, 60]}, ["train_cuts.0", "greater than or equal to 1"]),
        ({"train_cuts": [30]}, ["train_cuts", "at least 2 items"]),
        ({"leave_out": [[59, 57]]}, ["labels.age.leave_out", "got [59, 57]"]),
        ({"leave_out": [[57, 121]]}, ["leave_out.0.1", "less than or equal to 120"]),
        ({"leave_out": []}, ["leave_out", "at least 1 item"]),
        ({"bin_width": 7}, ["bin_width", "10"]),
    ],
)
def test_ages_that_cannot_be(ages: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        check(AgeSettings, ages)
    assert all(word in str(error.value) for word in words), error.value
