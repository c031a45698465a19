"""Label issues are the flipped labels, and their corrections undo the flips once a person agrees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from mask_lightning.data import corrections
from mask_lightning.data.corrections import correct
from mask_lightning.data.index import read_index
from mask_lightning.errors import PredictionsError
from mask_lightning.labels import AGE, FACE, GENDER, UNLABELLED, LabelSpace, Task
from mask_lightning.metrics import label_issues
from mask_lightning.metrics.label_issues import doubted_labels, find_issues, gather_labels, propose_corrections
from mask_lightning.metrics.predictions import Predictions, no_targets

SMILE = Task("smile", ("no", "yes"))


def predictions(
    space: LabelSpace,
    people: list[str],
    probs: Mapping[str, npt.ArrayLike],
    targets: Mapping[str, npt.ArrayLike],
    paths: list[str] | None = None,
) -> Predictions:
    paths = paths or [f"/photos/{person}/{i}.jpg" for i, person in enumerate(people)]
    photos = pd.DataFrame({"photo": paths, "path": paths, "person_id": people})
    _, losses = no_targets(space, len(people))
    return Predictions(
        space,
        photos,
        {task: np.asarray(values, np.float32) for task, values in probs.items()},
        {task: np.asarray(values, np.int64) for task, values in targets.items()},
        losses,
        (),
    )


def test_issues_are_those_of_the_papers_definition() -> None:
    """By hand: a class's threshold is its mean probability over the samples labelled with it, here 0.625 and 0.6."""
    given = np.array([0, 0, 0, 0, 1, 1, 1])
    first = np.array([0.9, 0.85, 0.7, 0.05, 0.1, 0.2, 0.9])  # probability of class 0
    probs = np.stack([first, 1 - first], axis=1)
    assert doubted_labels(given, probs).tolist() == [3, 6]  # 0.95 >= 0.6, then 0.9 >= 0.625
    probs[2] = 0.45, 0.55  # most probable is the other class, but below its threshold of 0.6: not doubted
    assert doubted_labels(given, probs).tolist() == [3, 6]


@pytest.mark.parametrize("given", [[], [1], [0, 0, 0]])
def test_one_class_has_no_issues(given: list[int]) -> None:
    probs = np.tile([0.2, 0.8], (len(given), 1))
    assert doubted_labels(np.array(given, np.int64), probs).tolist() == []


def test_labels_of_people_use_the_mean_of_their_photos() -> None:
    space = LabelSpace((GENDER, SMILE))
    made = predictions(
        space,
        ["a", "a", "b", "b", "c"],
        {
            "gender": [[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.4, 0.6], [0.5, 0.5]],
            "smile": [[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.4, 0.6], [0.5, 0.5]],
        },
        {"gender": [0, 0, 1, 1, UNLABELLED], "smile": [0, 1, 1, 1, 0]},
    )
    gender, smile = (gather_labels(made, task) for task in space.tasks)
    assert (gender.of_people, smile.of_people) == (True, False)
    np.testing.assert_allclose(gender.probs, [[0.7, 0.3], [0.3, 0.7]], atol=1e-6)
    assert gender.table["person_id"].tolist() == ["a", "b"]
    assert gender.table["paths"][1] == ("/photos/b/2.jpg", "/photos/b/3.jpg")
    assert smile.table["photo"].tolist() == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg"]


def test_one_person_at_two_ages_has_two_labels() -> None:
    made = predictions(LabelSpace((AGE,)), ["a", "a", "a"], {"age": np.eye(3)}, {"age": [1, 1, 2]})
    labels = gather_labels(made, AGE)
    assert labels.table["given"].tolist() == [1, 2]
    np.testing.assert_allclose(labels.probs, [[0.5, 0.5, 0], [0, 0, 1]])


def test_photos_with_the_same_name_get_their_folder() -> None:
    paths = ["/p/a_20/1.jpg", "/p/a_30/1.jpg", "/p/b_20/1.jpg"]
    made = predictions(
        LabelSpace((SMILE,)), ["a", "a", "b"], {"smile": np.eye(2)[[0, 1, 0]]}, {"smile": [0, 1, 0]}, paths
    )
    assert gather_labels(made, SMILE).table["photo"].tolist() == ["a_20/1.jpg", "a_30/1.jpg", "1.jpg"]


def noisy_probs(targets: npt.NDArray[np.int64], classes: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Probabilities that are right in about 94 % of cases, with lower values where they are wrong."""
    logits = rng.normal(0, 1, (len(targets), classes))
    logits[np.arange(len(targets)), targets] += 3.5
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_flipped_labels_are_at_the_top(seed: int) -> None:
    """With 3 % of the labels flipped, two thirds of the listed are flipped and two thirds of the flipped are listed."""
    rng = np.random.default_rng(seed)
    people = np.repeat(np.arange(1000), 3)
    truth = {
        "mask": rng.choice(3, 3000, p=[5 / 7, 1 / 7, 1 / 7]),
        "gender": rng.integers(0, 2, 1000)[people],
        "age": rng.choice(3, 1000, p=[0.47, 0.46, 0.07])[people],
    }
    given = {task: values.copy() for task, values in truth.items()}
    flipped = {
        task: rng.choice(3000 if task == "mask" else 1000, 90 if task == "mask" else 30, replace=False)
        for task in truth
    }
    for task in FACE.tasks:
        rows = flipped[task.name] if task.name == "mask" else np.flatnonzero(np.isin(people, flipped[task.name]))
        given[task.name][rows] = (given[task.name][rows] + 1) % task.num_classes
    probs = {task.name: noisy_probs(truth[task.name], task.num_classes, rng) for task in FACE.tasks}
    for issues in find_issues(predictions(FACE, [f"{i}" for i in people], probs, given), share=0.03):
        name = issues.task.name
        if name == "mask":
            listed = {int(Path(suspect.photo).stem) for suspect in issues.listed}
        else:
            listed = {int(suspect.person_id) for suspect in issues.listed}
        hits = len(listed & set(flipped[name].tolist()))
        assert hits / len(flipped[name]) > 0.66, name
        assert hits / len(listed) > 0.66, name
        assert issues.labels == (3000 if name == "mask" else 1000)


FLIPS = """person_id,field,value
000002,gender,male
000014,gender,male
000018,gender,female
000001,age_band,>=60
000010,age_band,<30
000005,mask,mask3.jpg:normal
000007,swap,normal:incorrect_mask
"""


def test_reviewed_issues_restore_the_labels(competition: Path, tmp_path: Path) -> None:
    right = read_index(competition)
    (tmp_path / "flips.csv").write_text(FLIPS)
    wrong, _ = correct(right, tmp_path / "flips.csv")
    sure = {task.name: np.eye(task.num_classes)[right[task.name]] for task in FACE.tasks}
    probs = {task: 0.9 * values + 0.1 / values.shape[1] for task, values in sure.items()}
    made = predictions(FACE, wrong["person_id"].tolist(), probs, dict(wrong[list(FACE.names)]), wrong["path"].tolist())
    found = find_issues(made)
    assert {each.task.name: len(each) for each in found} == {"mask": 3, "gender": 3, "age": 2}
    lines = propose_corrections(found)
    assert "mask3.jpg:wear" in set(lines["value"])
    path = tmp_path / "issues.csv"
    lines.to_csv(path, index=False)
    unseen, report = correct(wrong, path)
    pd.testing.assert_frame_equal(unseen, wrong)
    assert (report.applied, report.too_few_agreed) == (0, 8)
    lines.assign(agreed_by=1).to_csv(path, index=False)
    pd.testing.assert_frame_equal(correct(wrong, path)[0], right)


def test_a_share_lists_the_least_probable_labels_first() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200)
    given = truth.copy()
    given[:40] = 1 - given[:40]
    made = predictions(
        LabelSpace((GENDER,)), [f"{i}" for i in range(200)], {"gender": noisy_probs(truth, 2, rng)}, {"gender": given}
    )
    (whole,), (part,) = find_issues(made), find_issues(made, share=0.05)
    assert whole.doubted == part.doubted == len(whole)
    assert part.listed == whole.listed[:10]
    probs_of_given = [suspect.given_prob for suspect in whole.listed]
    assert probs_of_given == sorted(probs_of_given)
    assert {suspect.suggested for suspect in whole.listed if suspect.given == "male"} == {"female"}
    assert whole.agreement == pytest.approx(0.78, abs=0.06)


@pytest.mark.parametrize(("columns", "targets"), [(["person_id"], [UNLABELLED] * 2), ([], [0, 1])])
def test_labels_and_people_are_required(columns: list[str], targets: list[int]) -> None:
    made = predictions(LabelSpace((GENDER,)), ["a", "b"], {"gender": np.eye(2)}, {"gender": targets})
    with pytest.raises(PredictionsError, match="labelled photos with a person_id, found none; name a sweep"):
        find_issues(replace(made, photos=made.photos[["photo", "path", *columns]]))


def test_corrections_have_the_columns_that_are_read() -> None:
    assert label_issues.CORRECTION_COLUMNS == corrections.COLUMNS
