"""The report as one HTML file: it arranges what was computed and drawn elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from mask_lightning.engine.epoch_scores import JOINT
from mask_lightning.inference.predictions import Predictions
from mask_lightning.metrics.evaluation import Evaluation
from mask_lightning.metrics.mistakes import ConfusedPair, Mistakes, person_tasks
from mask_lightning.metrics.scores import TaskScores, people_of
from mask_lightning.reports.evaluation_report import LIMITS
from mask_lightning.reports.page import Picture, render
from mask_lightning.reports.report_pictures import Album
from mask_lightning.reports.report_words import Counts, say_disagreement, summarise, tasks_of, weakest_class
from mask_lightning.reports.wording import number, percent

FILE_NAME = "report.html"
PAIRS = 8  # rows in a table of confused pairs

SECTIONS = {  # anchor -> name
    "scores": "Scores",
    "pairs": "What it takes for what",
    "losses": "Worst mistakes",
    "sure": "Most sure of itself",
    "looks": "Where it looked",
    "people": "Disagreements",
    "slices": "For whom it works",
    "calibration": "How sure it is",
    "training": "Training",
    "limits": "Limits",
}


@dataclass(frozen=True)
class Report:
    """What the page shows.

    Attributes:
        title: of the run.
        judged_on: in words, whose photos these are.
        predictions, evaluation, mistakes: the answers, what they are worth, and what is wrong with them.
        charts: name -> figure as picture.
        album: the photos.
        facts: name -> value, of the network, its training and these photos.
        trained_on: task -> training photos of each class.
        known: share of training photos, unaugmented, that are right in everything; None where that is not known.
        notes: what makes these scores mean less.
        unexplained: why there are no heat maps.
    """

    title: str
    judged_on: str
    predictions: Predictions
    evaluation: Evaluation
    mistakes: Mistakes
    charts: Mapping[str, Picture]
    album: Album
    facts: Mapping[str, str]
    trained_on: Counts = field(default_factory=dict)
    known: float | None = None
    notes: Sequence[str] = ()
    unexplained: str = ""


def render_report(report: Report, *, today: date) -> str:
    """The page."""
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
        limits=LIMITS,
        today=today.isoformat(),
        sections=SECTIONS,
        headline=_headline(report),
        summary=summarise(evaluation, report.mistakes, report.trained_on, known=report.known),
        classes=list(_class_rows(report)),
        pairs=_pair_tables(report.mistakes),
        matrices={task: list(_matrix_rows(evaluation.scores[task])) for task in tasks_of(evaluation)},
        disagreement=say_disagreement(report.mistakes, evaluation.people, person_tasks(report.predictions)),
    )


def _headline(report: Report) -> dict[str, Any]:
    evaluation = report.evaluation
    name = evaluation.headline
    what = f"{len(evaluation.scores[name].classes)} classes" if name == JOINT else name
    return {"name": f"macro F1, {what}", "interval": evaluation.intervals[name]["f1"]}


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
    tables = {"In one task": mistakes.pairs[:PAIRS], "In all tasks together": mistakes.joint_pairs[:PAIRS]}
    return {heading: pairs for heading, pairs in tables.items() if pairs}


def _matrix_rows(scores: TaskScores) -> Iterator[tuple[str, list[tuple[int, float]]]]:
    """Class -> count and share of the row, for each class that was said."""
    for name, row, total in zip(scores.classes, scores.confusion, scores.support, strict=True):
        yield name, [(int(n), float(n / max(total, 1))) for n in row]


def print_report(report: Report, folder: Path) -> None:
    """The summary, what to look at, and the next command."""
    console = Console(stderr=True)
    for sentence in summarise(report.evaluation, report.mistakes, report.trained_on, known=report.known):
        console.print(f"- {escape(sentence)}", highlight=False)
    for note in report.notes:
        console.print(f"[yellow]note:[/yellow] {escape(note)}", highlight=False)
    page = escape(str(folder / FILE_NAME))
    console.print(f"look at: {page}, and its pictures beside it", highlight=False, soft_wrap=True)
