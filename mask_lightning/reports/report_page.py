"""The HTML report: page structure and summary sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from mask_lightning.metrics.evaluation import Evaluation
from mask_lightning.metrics.mistakes import ConfusedPair, Mistakes, person_tasks
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.metrics.scores import JOINT, MAIN_METRIC, MEAN, METRICS, TaskScores, people_of
from mask_lightning.metrics.slices import Slice
from mask_lightning.reports.evaluation_report import LIMITS, tasks_of
from mask_lightning.reports.figures import count, join, number, percent
from mask_lightning.reports.html_page import Picture, render
from mask_lightning.reports.report_images import Album

FILE_NAME = "report.html"
MAX_PAIRS = 8  # rows in a table of confused pairs
SMALL_CALIBRATION_ERROR = 0.05  # below this, the probabilities count as well calibrated
LARGE_GENERALIZATION_GAP = 0.15  # training accuracy minus accuracy from which the model counts as overfitted

SECTIONS = {  # anchor -> link text
    "scores": "Scores",
    "pairs": "Confused classes",
    "losses": "Largest losses",
    "sure": "Highest probabilities",
    "looks": "Heat maps",
    "people": "Disagreements",
    "slices": "Slices",
    "calibration": "Calibration",
    "training": "Training",
    "limits": "Limits",
}

Counts = Mapping[str, Sequence[int]]  # task -> training photos of each class


@dataclass(frozen=True)
class Report:
    """Content of the HTML report.

    Attributes:
        title: name of the run.
        evaluated_on: description of the evaluated photos.
        predictions: predictions for these photos.
        evaluation: scores of the predictions.
        mistakes: mistakes of the predictions.
        charts: file name without suffix -> figure.
        album: the photos of the report.
        facts: name -> value; about the network, its training and the photos.
        trained_on: task -> training photos of each class.
        train_accuracy: clean train accuracy; None if unknown.
        notes: reasons to trust the scores less.
        no_heat_maps: reason why there are no heat maps; empty if there are some.
    """

    title: str
    evaluated_on: str
    predictions: Predictions
    evaluation: Evaluation
    mistakes: Mistakes
    charts: Mapping[str, Picture]
    album: Album
    facts: Mapping[str, str]
    trained_on: Counts = field(default_factory=dict)
    train_accuracy: float | None = None
    notes: Sequence[str] = ()
    no_heat_maps: str = ""


def render_report(report: Report, *, today: date) -> str:
    """Render the report as one HTML page."""
    evaluation = report.evaluation
    return render(
        "report.html",
        report=report,
        evaluation=evaluation,
        album=report.album,
        charts=report.charts,
        number=number,
        percent=percent,
        joint=JOINT,
        mean=MEAN,
        metrics=METRICS,
        limits=LIMITS,
        today=today.isoformat(),
        sections=SECTIONS,
        headline=_headline(report),
        summary=summarise(evaluation, report.mistakes, report.trained_on, train_accuracy=report.train_accuracy),
        classes=list(_class_rows(report)),
        pairs=_pair_tables(report.mistakes),
        matrices={task: list(_matrix_rows(evaluation.scores[task])) for task in tasks_of(evaluation)},
        disagreement=describe_disagreement(report.mistakes, evaluation.people, person_tasks(report.predictions)),
    )


def summarise(
    evaluation: Evaluation, mistakes: Mistakes, trained_on: Counts, *, train_accuracy: float | None = None
) -> list[str]:
    """Summarise an evaluation in three to five sentences, the most important first.

    Args:
        evaluation: scores of the predictions.
        mistakes: mistakes of the predictions.
        trained_on: task -> training photos of each class.
        train_accuracy: clean train accuracy; None if unknown.
    """
    sentences = [describe_accuracy(evaluation, train_accuracy)]
    if mistakes.pairs:
        sentences.append(describe_confusion(mistakes.pairs[0]))
    task, i = weakest_class(evaluation)
    sentences.append(describe_weakest_class(task, evaluation.scores[task], i, trained_on.get(task, ())))
    if evaluation.worst is not None:
        sentences.append(describe_worst_slice(evaluation.worst, everyones_accuracy(evaluation)))
    return [*sentences, describe_calibration(evaluation)]


def everyones_accuracy(evaluation: Evaluation) -> float:
    """Return the accuracy of all photos in all tasks together, or its mean over the tasks."""
    return evaluation.intervals[evaluation.headline]["accuracy"].value


def weakest_class(evaluation: Evaluation) -> tuple[str, int]:
    """Return task and index of the class with the lowest F1, among the classes that occur."""
    return min(
        ((task, i) for task in tasks_of(evaluation) for i in np.flatnonzero(evaluation.scores[task].support).tolist()),
        key=lambda found: evaluation.scores[found[0]].f1_per_class[found[1]],
    )


def describe_accuracy(evaluation: Evaluation, train_accuracy: float | None = None) -> str:
    """Describe the accuracy in all tasks together and per task, and warn about overfitting."""
    tasks, accuracy = tasks_of(evaluation), everyones_accuracy(evaluation)
    together = f" in {join(tasks)} together" if len(tasks) > 1 else ""
    if evaluation.headline == MEAN:
        together = f", mean of {join(tasks)}"
    each = ", ".join(f"{task} {percent(evaluation.scores[task].accuracy)}" for task in tasks)
    sentence = f"{percent(accuracy)} of the photos are correct{together}" + (f" ({each})" if len(tasks) > 1 else "")
    if train_accuracy is None or train_accuracy - accuracy < LARGE_GENERALIZATION_GAP:
        return f"{sentence}."
    return f"{sentence}, but {percent(train_accuracy)} of the training photos: the model has memorised them."


def describe_confusion(pair: ConfusedPair) -> str:
    """Describe the most frequent confusion."""
    return (
        f"The most frequent confusion is {pair.tasks[0]} {pair.target} predicted as {pair.pred}: "
        f"{count(pair.photos, 'photo')} of {count(pair.people, 'person')}, {percent(pair.share)} of the photos of "
        f"class {pair.target}."
    )


def describe_weakest_class(task: str, scores: TaskScores, i: int, trained_on: Sequence[int]) -> str:
    """Describe recall and precision of class `i` and its share of the training photos (if `trained_on` is given)."""
    sentence = (
        f"The weakest class is {task} {scores.classes[i]}: recall {percent(scores.recall[i])} "
        f"({count(int(scores.support[i]), 'photo')}), precision {percent(scores.precision[i])}."
    )
    if not trained_on:
        return sentence
    share = trained_on[i] / max(sum(trained_on), 1)
    return f"{sentence} This class makes up {share:.1%} of the training photos."


def describe_worst_slice(worst: Slice, everyone: float) -> str:
    """Compare the accuracy of the worst slice with that of all photos."""
    low, high = worst.accuracy.low, worst.accuracy.high
    interval = "" if low is None or high is None else f" (95 % interval {percent(low)} to {percent(high)})"
    return (
        f"The worst slice is {worst.column} {worst.value}: {percent(worst.accuracy.value)} of "
        f"{count(worst.photos, 'photo')} of {count(worst.people, 'person')} are correct{interval}, compared with "
        f"{percent(everyone)} of all photos."
    )


def describe_calibration(evaluation: Evaluation) -> str:
    """Describe the largest calibration error: is the model overconfident or underconfident?"""
    task = max(evaluation.calibration, key=lambda name: evaluation.calibration[name].before.ece)
    found = evaluation.calibration[task].before
    filled = found.photos > 0
    counts = found.photos[filled]
    prob, accuracy = (np.average(values[filled], weights=counts) for values in (found.confidence, found.accuracy))
    if found.ece < SMALL_CALIBRATION_ERROR:
        return (
            f"The probabilities are well calibrated: the largest calibration error is {number(found.ece)}, in {task}."
        )
    tendency = "overconfident" if prob > accuracy else "underconfident"
    return (
        f"The model is {tendency}, most of all in {task}: mean probability {percent(prob)}, accuracy "
        f"{percent(accuracy)} (calibration error {number(found.ece)})."
    )


def describe_disagreement(mistakes: Mistakes, people: int, tasks: Sequence[str]) -> str:
    """Describe how many people have photos with different predictions in `tasks`, whose labels belong to the person."""
    if not tasks:
        return "Predictions of one person cannot be compared: nobody has two photos and a label of the person."
    verb = "is" if len(tasks) == 1 else "are"
    return (
        f"{join(tasks).capitalize()} {verb} the same on all photos of a person, so the predictions should be the same. "
        f"They differ for {len(mistakes.divided):,} of {count(people, 'person')}."
    )


def print_report(report: Report, folder: Path) -> None:
    """Print the summary, the notes and the path of the page."""
    console = Console(stderr=True)
    for sentence in summarise(
        report.evaluation, report.mistakes, report.trained_on, train_accuracy=report.train_accuracy
    ):
        console.print(f"- {escape(sentence)}", highlight=False)
    for note in report.notes:
        console.print(f"[yellow]note:[/yellow] {escape(note)}", highlight=False)
    page = escape(str(folder / FILE_NAME))
    console.print(f"look at: {page} and the pictures beside it", highlight=False, soft_wrap=True)


def _headline(report: Report) -> dict[str, Any]:
    evaluation = report.evaluation
    name = evaluation.headline
    what = f"{len(evaluation.scores[name].classes)} classes" if name == JOINT else name
    return {"name": f"{METRICS[MAIN_METRIC].title}, {what}", "interval": evaluation.intervals[name][MAIN_METRIC]}


def _class_rows(report: Report) -> Iterator[dict[str, Any]]:
    evaluation, predictions = report.evaluation, report.predictions
    people = people_of(predictions)
    for task in tasks_of(evaluation):
        scores = evaluation.scores[task]
        for i, name in enumerate(scores.classes):
            of_class = predictions.targets[task] == i
            yield {
                "name": f"{task} {name}",
                "f1": scores.f1_per_class[i],
                "precision": scores.precision[i],
                "recall": scores.recall[i],
                "photos": int(scores.support[i]),
                "people": len(set(people[of_class])),
                "trained_on": report.trained_on[task][i] if task in report.trained_on else None,
                "weakest": (task, i) == weakest_class(evaluation),
            }


def _pair_tables(mistakes: Mistakes) -> dict[str, Sequence[ConfusedPair]]:
    tables = {"Single tasks": mistakes.pairs[:MAX_PAIRS], "All tasks combined": mistakes.joint_pairs[:MAX_PAIRS]}
    return {heading: pairs for heading, pairs in tables.items() if pairs}


def _matrix_rows(scores: TaskScores) -> Iterator[tuple[str, list[tuple[int, float]]]]:
    """Yield each true class with the count and the row share of each predicted class."""
    for name, row, total in zip(scores.classes, scores.confusion, scores.support, strict=True):
        yield name, [(int(n), float(n / max(total, 1))) for n in row]
