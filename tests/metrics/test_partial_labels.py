"""Complementary labels: one half of the people is labelled for mask, the other for gender, or everybody in part."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from mask_lightning.ensemble.scoring import Candidate, compare_candidates
from mask_lightning.labels import FACE, UNLABELLED
from mask_lightning.metrics.bootstrap import compare, draw_people, intervals
from mask_lightning.metrics.evaluation import evaluate
from mask_lightning.metrics.mistakes import find_mistakes
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.metrics.scores import MEAN, score, why_no_joint
from mask_lightning.metrics.slices import worst_slice
from mask_lightning.pipelines.evaluate import notes
from mask_lightning.pipelines.labelled import LabelledPredictions
from mask_lightning.reports import evaluation_report, report_page

PEOPLE, SHOTS = 24, 2
PHOTOS = PEOPLE * SHOTS
PERSON = np.repeat(np.arange(PEOPLE), SHOTS)


@pytest.fixture
def make_complementary(make_labelled):
    """Predictions of 24 people; the first half has labels of mask, the second of gender."""

    def make(seed: int = 0) -> Predictions:
        rng = np.random.default_rng(5)
        first = PERSON < PEOPLE // 2
        targets = {
            "mask": np.where(first, rng.integers(3, size=PHOTOS), UNLABELLED),
            "gender": np.where(first, UNLABELLED, PERSON % 2),
        }
        race = [("A", "B")[i % 2] for i in PERSON]
        return make_labelled([f"p{i:02}" for i in PERSON], targets, seed=seed, race=race)

    return make


def sklearn_means(predictions: Predictions, weight: np.ndarray | None = None) -> tuple[float, float]:
    """Mean macro F1 and mean accuracy over the tasks, each on its labelled photos."""
    values = []
    for task in predictions.space.tasks:
        true = predictions.targets[task.name]
        rows = true != UNLABELLED
        weights = None if weight is None else weight[rows]
        options = {"labels": range(task.num_classes), "average": "macro", "zero_division": 0, "sample_weight": weights}
        preds = predictions.preds[task.name][rows]
        values.append(
            (f1_score(true[rows], preds, **options), accuracy_score(true[rows], preds, sample_weight=weights))
        )
    return tuple(np.mean(values, axis=0))


@pytest.mark.parametrize(
    ("mask", "gender", "joint", "want"),
    [
        ([4, 4, 4], [6, 6], [2, 2, 2, 2, 2, 2], None),
        ([2, 1, 1], [2, 2], [2, 0, 0, 1, 0, 1], None),  # all labelled for both; absent combined classes do not matter
        ([4, 4, 4], [6, 6], [1, 1, 1, 1, 1, 1], None),  # exactly one half
        ([4, 4, 4], [6, 6], [1, 1, 1, 1, 1, 0], "5 of 12 photos with a label of mask are labelled for all tasks"),
        ([1, 1, 1], [6, 6], [1, 0, 0, 1, 1, 0], "3 of 12 photos with a label of gender are labelled for all tasks"),
        ([4, 4, 1], [6, 6], [3, 3, 1, 1, 0, 0], "no photo of mask normal is labelled for all tasks"),
        ([4, 4, 0], [6, 6], [3, 1, 2, 2, 0, 0], None),  # a class without any label
        ([0, 0, 0], [0, 0], [0] * 6, None),
        ([4, 4, 4], [6, 6], None, "there are more than 100 combined classes"),
    ],
)
def test_the_labels_decide_on_the_combined_class(mask, gender, joint, want: str | None) -> None:
    supports = {"mask": mask, "gender": gender} | ({} if joint is None else {"joint": joint})
    assert why_no_joint(FACE.only(["mask", "gender"]), supports) == want


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_of_the_tasks_is_the_headline(make_complementary, seed: int) -> None:
    predictions = make_complementary(seed)
    evaluation = evaluate(predictions)
    f1, accuracy = sklearn_means(predictions)
    assert list(score(predictions)) == ["mask", "gender"]
    assert evaluation.headline == MEAN
    assert evaluation.why_mean == "0 of 24 photos with a label of mask are labelled for all tasks"
    assert evaluation.intervals[MEAN]["f1"].value == pytest.approx(f1)
    assert evaluation.intervals[MEAN]["accuracy"].value == pytest.approx(accuracy)
    assert (evaluation.people, evaluation.photos) == (PEOPLE, PHOTOS)


def test_its_interval_redraws_the_people_of_all_tasks(make_complementary) -> None:
    predictions = make_complementary()
    drawn = draw_people(PEOPLE, draws=200, seed=3)[:, PERSON]
    want = np.quantile([sklearn_means(predictions, weight)[1] for weight in drawn], [0.025, 0.975])
    found = intervals(predictions, draws=200, seed=3)[MEAN]["accuracy"]
    assert [found.low, found.high] == pytest.approx(want.tolist())


def test_runs_and_candidates_are_compared_by_the_mean(make_complementary) -> None:
    a, b = make_complementary(0), make_complementary(1)
    gain = sklearn_means(a)[0] - sklearn_means(b)[0]
    assert compare(a, b)[MEAN]["f1"].value == pytest.approx(gain)
    comparison = compare_candidates([Candidate("a", "member", a), Candidate("b", "vote", b)])
    values = {(each.task, each.name): each.intervals["f1"].value for each in comparison.scores}
    assert values[MEAN, "a"] == pytest.approx(sklearn_means(a)[0])
    assert ("joint", "a") not in values
    assert [g.differences["f1"].value for g in comparison.gains if g.task == MEAN] == pytest.approx([-gain])


def test_slices_are_of_all_labelled_photos_and_the_worst_has_all_tasks(make_complementary) -> None:
    predictions = make_complementary()
    evaluation = evaluate(predictions)
    slices = {(each.column, each.value): each for each in evaluation.slices}
    assert {column for column, _ in slices} == {"mask", "gender", "race"}  # gender is known for others than mask is
    a = slices["race", "A"]
    rows = predictions.photos["race"].to_numpy() == "A"
    right = {task: predictions.preds[task] == predictions.targets[task] for task in a.task_accuracy}
    each = [np.mean(right[task][rows & (predictions.targets[task] != UNLABELLED)]) for task in right]
    assert a.accuracy.value == pytest.approx(np.mean(each))
    assert (a.people, a.photos) == (PEOPLE // 2, PHOTOS // 2)
    worst = worst_slice(evaluation.slices)
    assert worst is not None
    assert worst.column == "race"


def test_reports_say_so(make_complementary, tmp_path, capsys) -> None:
    predictions = make_complementary()
    evaluation = evaluate(predictions)
    evaluation_report.save(tmp_path, evaluation, {})
    evaluation_report.print_evaluation(evaluation, "title")
    assert MEAN in capsys.readouterr().out
    sentence = report_page.summarise(evaluation, find_mistakes(predictions), {})[0]
    assert "of the photos are correct, mean of mask and gender (" in sentence
    assert any("the mean of the tasks' scores" in note for note in notes([_labelled(predictions)], evaluation, None))


def _labelled(predictions: Predictions) -> LabelledPredictions:
    return LabelledPredictions(predictions, None, False, None, 0)  # type: ignore[arg-type]
