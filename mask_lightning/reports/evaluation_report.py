"""What an evaluation shows of itself: evaluation.json, pictures, and tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mask_lightning.engine.epoch_scores import JOINT
from mask_lightning.metrics.bootstrap import METRICS, Difference, Interval, Metric
from mask_lightning.metrics.evaluation import Evaluation
from mask_lightning.metrics.scores import headline
from mask_lightning.metrics.slices import MIN_PEOPLE
from mask_lightning.reports.confusion import plot_confusion
from mask_lightning.reports.figures import save_figure
from mask_lightning.reports.reliability import plot_reliability
from mask_lightning.reports.slices import plot_slices
from mask_lightning.utils.files import write_json

FILE_NAME = "evaluation.json"
METRIC_NAMES: dict[Metric, str] = {"f1": "macro F1", "accuracy": "accuracy"}
LIMITS = (
    "These are averages over people who resemble the data. They do not say whether the answer for one person is right, "
    "so this model must not decide about anyone: not who gets in, buys, works or is watched. Gender and age are how "
    "others perceived a face, in two classes and three bands; they are not who somebody is, and no proof of age. Where "
    "a slice scores low, the model treats those people worse. Masks, cameras or countries that the data lacks have not "
    "been scored at all."
)


def save(folder: Path, evaluation: Evaluation, about: Mapping[str, Any]) -> None:
    """Write evaluation.json, `about` first, and pictures into `folder`."""
    write_json(folder / FILE_NAME, {**about, **evaluation.to_plain(), "limits": LIMITS})
    for name, scores in evaluation.scores.items():
        stem, title = ("confusion", "all tasks together") if name == JOINT else (f"confusion_{name}", name)
        save_figure(plot_confusion(scores.confusion, scores.classes, title), folder / f"{stem}.png")
    save_figure(plot_reliability(evaluation.calibration), folder / "reliability.png")
    if evaluation.slices:
        everyone = evaluation.intervals[evaluation.headline]["accuracy"]
        save_figure(plot_slices(evaluation.slices, everyone, evaluation.worst), folder / "slices.png")


def print_evaluation(evaluation: Evaluation, title: str) -> None:
    """The scores, and what to think of them."""
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
    """Macro F1 and accuracy of every task with their intervals."""
    table = Table(title=escape(title), caption="95 % intervals by bootstrap over people; macro F1 over all classes")
    table.add_column("")
    for heading in (*METRIC_NAMES.values(), "photos"):
        table.add_column(heading, justify="right")
    for name, scores in evaluation.scores.items():
        cells = [show_interval(evaluation.intervals[name][metric]) for metric in METRICS]
        style = "bold" if name == evaluation.headline else None
        table.add_row(_task_name(evaluation, name), *cells, f"{scores.photos:,}", style=style)
    return table


def classes_table(evaluation: Evaluation) -> Table:
    """Precision, recall, F1 and photos of every class of every task."""
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
    """Accuracy of every slice; the worst in red."""
    tasks = [name for name in evaluation.scores if name != JOINT]
    table = Table(title="slices: share of photos that are right")
    for heading in ("", "people", "in every task", *tasks):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for before, each in zip((None, *evaluation.slices), evaluation.slices, strict=False):
        if before is not None and before.column != each.column:
            table.add_section()
        by_task = [f"{each.task_accuracy[task]:.3f}" if task in each.task_accuracy else "" for task in tasks]
        name, style = escape(f"{each.column} {each.value}"), "red" if each == evaluation.worst else None
        table.add_row(name, f"{each.people:,}", show_interval(each.accuracy), *by_task, style=style)
    return table


def age_table(evaluation: Evaluation) -> Table:
    """Scores of age by how the mask is truly worn."""
    table = Table(title="age given mask")
    for heading in ("mask", "age macro F1", "age accuracy", "photos"):
        table.add_column(heading, justify="left" if heading == "mask" else "right")
    for name, scores in evaluation.age_given_mask.items():
        table.add_row(escape(name), f"{scores.f1:.3f}", f"{scores.accuracy:.3f}", f"{scores.photos:,}")
    return table


def calibration_table(evaluation: Evaluation) -> Table:
    """Expected calibration error of every task, before and after temperature scaling."""
    given = any(task.given for task in evaluation.calibration.values())
    tried = "the run's own temperatures" if given else "each half of the people with the temperature of the other half"
    table = Table(title="are the probabilities honest?", caption=f"after: {tried}")
    for heading in ("", "ECE", "temperature", "ECE after"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, task in evaluation.calibration.items():
        after = f"{task.after.ece:.3f}" if task.after is not None else ""
        table.add_row(name, f"{task.before.ece:.3f}", f"{task.temperature:.2f}", after)
    return table


def print_differences(name: str, other: str, differences: Mapping[str, Mapping[Metric, Difference]]) -> None:
    """Whether one run is really better than another on the same photos."""
    table = Table(title=f"{escape(name)} minus {escape(other)}", caption="paired bootstrap over people, same photos")
    for heading in ("", "", "difference", "is"):
        table.add_column(heading, justify="right" if heading == "difference" else "left")
    for task, metrics in differences.items():
        for metric, difference in metrics.items():
            verdict = "real" if difference.is_real else "not shown to be real"
            table.add_row(task, METRIC_NAMES[metric], show_difference(difference), verdict)
    counts = headline(differences)
    console = Console()
    console.print(table)
    console.print(f"{counts} macro F1: {describe(differences[counts]['f1'])}", highlight=False)


def describe(difference: Difference) -> str:
    """`the difference +0.021 [-0.004, +0.046]: not shown to be real`, and how many draws say otherwise."""
    shown = f"the difference {show_difference(difference)}"
    if difference.not_better is None:
        return f"{shown}: of a single person, who says nothing about others"
    verdict = "shown to be real" if difference.is_real else "not shown to be real"
    otherwise = difference.not_better if difference.value > 0 else 1 - difference.not_better
    doubt = f" ({otherwise:.1%} of the draws of people say otherwise)" if difference.value else ""
    return f"{shown}: {verdict}{doubt}"


def show_difference(difference: Difference) -> str:
    """`+0.021 [-0.004, +0.046]`, escaped for rich."""
    if difference.low is None or difference.high is None:
        return f"{difference.value:+.3f}"
    return f"{difference.value:+.3f} \\[{difference.low:+.3f}, {difference.high:+.3f}]"


def show_interval(interval: Interval) -> str:
    """`0.507 [0.383, 0.601]`, escaped for rich."""
    if interval.low is None or interval.high is None:
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} \\[{interval.low:.3f}, {interval.high:.3f}]"


def print_notes(notes: Sequence[str]) -> None:
    """What a reader must know to trust the numbers."""
    for note in notes:
        Console().print(f"[yellow]note:[/yellow] {escape(note)}", highlight=False)


def print_files(folder: Path, seconds: tuple[float, float], following: str) -> None:
    """How long the pass over the photos and the rest took, what lies in the folder, and the next command."""
    console = Console(stderr=True)
    console.print(f"{seconds[0]:.1f} s to predict, {seconds[1]:.1f} s to evaluate", highlight=False)
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".json", ".png", ".parquet"))
    console.print(f"look at: {escape(str(folder))}/ {', '.join(names)}", highlight=False, soft_wrap=True)
    console.print(f"next:    {escape(following)}", highlight=False, soft_wrap=True)


def _task_name(evaluation: Evaluation, name: str) -> str:
    return " x ".join(task for task in evaluation.scores if task != JOINT) if name == JOINT else name


def _worst_line(evaluation: Evaluation) -> str:
    if evaluation.worst is None:
        return f"no slice has the {MIN_PEOPLE} people or more that it takes to be called the worst"
    worst = evaluation.worst
    return (
        f"worst of the slices of {MIN_PEOPLE} people or more: [red]{escape(f'{worst.column} {worst.value}')}[/red], "
        f"{show_interval(worst.accuracy)} of its photos right in every task"
    )
