"""The report's charts, each with what it shows in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from matplotlib.figure import Figure

from mask_lightning.data.auditing.counts import count_classes, count_codes
from mask_lightning.engine.epoch_scores import JOINT
from mask_lightning.inference.predictions import Predictions
from mask_lightning.metrics.evaluation import Evaluation
from mask_lightning.reports.balance import plot_balance
from mask_lightning.reports.confusion import plot_confusion
from mask_lightning.reports.reliability import plot_reliability
from mask_lightning.reports.report_words import tasks_of
from mask_lightning.reports.slices import plot_slices

MAX_DRAWN = 40  # classes in a confusion matrix that can still be read


class Chart(NamedTuple):
    """A figure, and what is to be seen for who cannot see it."""

    figure: Figure
    alt: str


def draw_charts(predictions: Predictions, evaluation: Evaluation) -> dict[str, Chart]:
    """Name of the file, without its suffix -> chart."""
    everyone = evaluation.intervals[evaluation.headline]["accuracy"]
    return {
        **_confusions(evaluation),
        "slices": Chart(
            plot_slices(evaluation.slices, everyone, evaluation.worst),
            "Share of right photos in each slice with its interval; the table below has the numbers",
        ),
        "reliability": Chart(
            plot_reliability(evaluation.calibration), "How often answers are right, by how probable they were called"
        ),
        "classes": Chart(_balance(predictions, evaluation), "How many photos and people each class has, as bars"),
    }


def _confusions(evaluation: Evaluation) -> Mapping[str, Chart]:
    charts = {}
    for name, scores in evaluation.scores.items():
        if len(scores.classes) > MAX_DRAWN:
            continue
        what = " x ".join(tasks_of(evaluation)) if name == JOINT else name
        stem = "confusion" if name == JOINT else f"confusion_{name}"
        for suffix, show in (("", "counts"), ("_rates", "rates")):
            title = f"{what}: {'photos' if show == 'counts' else 'share of each true class'}"
            figure = plot_confusion(scores.confusion, scores.classes, title, show=show)  # type: ignore[arg-type]
            charts[stem + suffix] = Chart(figure, f"Confusion matrix of {title}; the table of pairs says the largest")
    return charts


def _balance(predictions: Predictions, evaluation: Evaluation) -> Figure:
    space = predictions.space.only(tasks_of(evaluation))
    table = predictions.photos.assign(**{task: predictions.targets[task] for task in space.names})
    if "person_id" not in table:
        table["person_id"] = table["photo"]
    tasks = {task.name: count_classes(table, task) for task in space.tasks}
    title = f"{len(table):,} photos of {evaluation.people:,} people that it was judged on"
    return plot_balance(tasks, count_codes(table, space), title=title)
