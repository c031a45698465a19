"""Output of an evaluation: evaluation.json, figures, and tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mask_lightning.metrics.bootstrap import Difference, Interval
from mask_lightning.metrics.evaluation import Evaluation
from mask_lightning.metrics.scores import JOINT, MEAN, METRICS, headline
from mask_lightning.metrics.slices import MIN_PEOPLE
from mask_lightning.reports.figures import save_figure
from mask_lightning.reports.plots import plot_confusion, plot_reliability, plot_slices
from mask_lightning.utils.files import write_json

FILE_NAME = "evaluation.json"
LIMITS = (
    "These are averages over people who resemble the data. They do not say if a single prediction is right, "
    "so this model must not decide about anyone: not who gets in, buys, works or is watched. Gender and age are how "
    "others perceived a face, in two classes and three bands; they are not who somebody is, and no proof of age. Where "
    "a slice scores low, the model treats those people worse. Masks, cameras or countries that the data lacks have not "
    "been scored at all."
)


def tasks_of(evaluation: Evaluation) -> list[str]:
    """Return the names of the scored tasks."""
    return [name for name in evaluation.scores if name != JOINT]


def save(folder: Path, evaluation: Evaluation, about: Mapping[str, Any]) -> None:
    """Write evaluation.json and the figures.

    Args:
        folder: existing folder.
        evaluation: scores to write.
        about: further entries of evaluation.json, written first.
    """
    write_json(folder / FILE_NAME, {**about, **evaluation.to_plain(), "limits": LIMITS})
    for name, scores in evaluation.scores.items():
        stem, title = ("confusion", "all tasks combined") if name == JOINT else (f"confusion_{name}", name)
        save_figure(plot_confusion(scores.confusion, scores.classes, title), folder / f"{stem}.png")
    save_figure(plot_reliability(evaluation.calibration), folder / "reliability.png")
    if evaluation.slices:
        everyone = evaluation.intervals[evaluation.headline]["accuracy"]
        save_figure(plot_slices(evaluation.slices, everyone, evaluation.worst), folder / "slices.png")


def print_evaluation(evaluation: Evaluation, title: str) -> None:
    """Print all tables of an evaluation."""
    console = Console()
    console.print(scores_table(evaluation, title))
    console.print(classes_table(evaluation))
    console.print(slices_table(evaluation))
    console.print(_worst_line(evaluation), highlight=False)
    if evaluation.age_given_mask:
        console.print(age_table(evaluation))
    console.print(calibration_table(evaluation))
    console.print(LIMITS, style="italic", highlight=False)


def scores_table(evaluation: Evaluation, title: str) -> Table:
    """Build the table of all metrics of every task, with intervals."""
    table = Table(title=escape(title), caption="95 % intervals by bootstrap over people; macro F1 over all classes")
    table.add_column("")
    for heading in (*(metric.title for metric in METRICS.values()), "photos"):
        table.add_column(heading, justify="right")
    for name, scores in evaluation.scores.items():
        cells = [show_interval(evaluation.intervals[name][metric]) for metric in METRICS]
        style = "bold" if name == evaluation.headline else None
        table.add_row(_task_name(evaluation, name), *cells, f"{scores.photos:,}", style=style)
    if MEAN in evaluation.intervals:
        cells = [show_interval(evaluation.intervals[MEAN][metric]) for metric in METRICS]
        table.add_row(MEAN, *cells, f"{evaluation.photos:,}", style="bold")
    return table


def classes_table(evaluation: Evaluation) -> Table:
    """Build the table of precision, recall, F1 and number of photos per class."""
    table = Table(title="classes")
    for heading in ("task", "class", "precision", "recall", "F1", "photos"):
        table.add_column(heading, justify="left" if heading in ("task", "class") else "right")
    for name, scores in evaluation.scores.items():
        columns = (scores.precision, scores.recall, scores.f1_per_class)
        for i, label in enumerate(scores.classes):
            cells = [f"{column[i]:.3f}" for column in columns]
            style = None if scores.support[i] else "red"
            table.add_row("" if i else name, escape(label), *cells, f"{scores.support[i]:,}", style=style)
        table.add_section()
    return table


def slices_table(evaluation: Evaluation) -> Table:
    """Build the table of the accuracy per slice; the worst slice is red."""
    tasks = tasks_of(evaluation)
    table = Table(title="slices: accuracy")
    for heading in ("", "people", "all tasks", *tasks):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for before, each in zip((None, *evaluation.slices), evaluation.slices, strict=False):
        if before is not None and before.column != each.column:
            table.add_section()
        by_task = [f"{each.task_accuracy[task]:.3f}" if task in each.task_accuracy else "" for task in tasks]
        name, style = escape(f"{each.column} {each.value}"), "red" if each == evaluation.worst else None
        table.add_row(name, f"{each.people:,}", show_interval(each.accuracy), *by_task, style=style)
    return table


def age_table(evaluation: Evaluation) -> Table:
    """Build the table of the age scores per true mask class."""
    table = Table(title="age given mask")
    for heading in ("mask", *(f"age {metric.title}" for metric in METRICS.values()), "photos"):
        table.add_column(heading, justify="left" if heading == "mask" else "right")
    for name, scores in evaluation.age_given_mask.items():
        cells = [f"{scores.values[metric]:.3f}" for metric in METRICS]
        table.add_row(escape(name), *cells, f"{scores.photos:,}")
    return table


def calibration_table(evaluation: Evaluation) -> Table:
    """Build the table of the expected calibration error per task, before and after temperature scaling."""
    given = any(task.given for task in evaluation.calibration.values())
    source = (
        "with the run's temperatures" if given else "temperatures fitted on one half of the people, used on the other"
    )
    table = Table(title="calibration", caption=f"ECE after: {source}")
    for heading in ("", "ECE", "temperature", "ECE after"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, task in evaluation.calibration.items():
        after = f"{task.after.ece:.3f}" if task.after is not None else ""
        table.add_row(name, f"{task.before.ece:.3f}", f"{task.temperature:.2f}", after)
    return table


def print_differences(name: str, other: str, differences: Mapping[str, Mapping[str, Difference]]) -> None:
    """Print the differences between two runs on the same photos.

    Args:
        name: name of the run.
        other: name of the run that is subtracted.
        differences: task -> metric -> difference.
    """
    table = Table(title=f"{escape(name)} minus {escape(other)}", caption="paired bootstrap over people, same photos")
    for heading in ("", "", "difference", "significant"):
        table.add_column(heading, justify="right" if heading == "difference" else "left")
    for task, metrics in differences.items():
        for metric, difference in metrics.items():
            verdict = "yes" if difference.is_real else "no"
            table.add_row(task, METRICS[metric].title, show_difference(difference), verdict)
    counts = headline(differences)
    console = Console()
    console.print(table)
    console.print(f"{counts} macro F1: {describe(differences[counts]['f1'])}", highlight=False)


def describe(difference: Difference) -> str:
    """Describe a difference: interval, significance and share of the bootstrap samples that do not show it."""
    text = f"difference {show_difference(difference)}"
    if difference.not_better is None:
        return f"{text}: no interval, because there is only one person"
    verdict = "significant" if difference.is_real else "not significant"
    contradicting = difference.not_better if difference.value > 0 else 1 - difference.not_better
    doubt = f" ({contradicting:.1%} of the bootstrap samples do not show it)" if difference.value else ""
    return f"{text}: {verdict}{doubt}"


def show_difference(difference: Difference) -> str:
    """Format as `+0.021 [-0.004, +0.046]`, escaped for rich."""
    if difference.low is None or difference.high is None:
        return f"{difference.value:+.3f}"
    return f"{difference.value:+.3f} \\[{difference.low:+.3f}, {difference.high:+.3f}]"


def show_interval(interval: Interval) -> str:
    """Format as `0.507 [0.383, 0.601]`, escaped for rich."""
    if interval.low is None or interval.high is None:
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} \\[{interval.low:.3f}, {interval.high:.3f}]"


def print_notes(notes: Sequence[str]) -> None:
    """Print reasons to trust the scores less."""
    for note in notes:
        Console().print(f"[yellow]note:[/yellow] {escape(note)}", highlight=False)


def print_files(folder: Path, seconds: tuple[float, float], following: str) -> None:
    """Print the time spent, the written files and the next command.

    Args:
        folder: folder of the evaluation.
        seconds: time of the predictions and time of the evaluation.
        following: next command.
    """
    console = Console(stderr=True)
    console.print(f"{seconds[0]:.1f} s to predict, {seconds[1]:.1f} s to evaluate", highlight=False)
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".json", ".png", ".parquet"))
    console.print(f"look at: {escape(str(folder))}/ {', '.join(names)}", highlight=False, soft_wrap=True)
    console.print(f"next:    {escape(following)}", highlight=False, soft_wrap=True)


def _task_name(evaluation: Evaluation, name: str) -> str:
    return " x ".join(tasks_of(evaluation)) if name == JOINT else name


def _worst_line(evaluation: Evaluation) -> str:
    if evaluation.worst is None:
        return f"worst slice: none, because no slice has {MIN_PEOPLE} or more people"
    worst = evaluation.worst
    return (
        f"worst slice with {MIN_PEOPLE} or more people: [red]{escape(f'{worst.column} {worst.value}')}[/red], "
        f"accuracy {show_interval(worst.accuracy)}"
    )
