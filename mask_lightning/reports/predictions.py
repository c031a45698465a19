"""Terminal reports about predictions and submissions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mask_lightning.inference.submission import Submission, class_shares, disagreement, total_variation
from mask_lightning.labels import FACE, LabelSpace
from mask_lightning.metrics.decisions import decided_together
from mask_lightning.metrics.predictions import ClassTally, Predictions, Source

MAX_CHANGES = 5  # printed differences between two submissions, the most frequent first

Codes = npt.NDArray[np.int64]


def print_photo(predictions: Predictions) -> None:
    """Print the predictions for a single photo with the probabilities of all classes."""
    table = Table(title=escape(predictions.photos["photo"][0]))
    for heading in ("", "prediction", "probability of each class"):
        table.add_column(heading)
    for task in predictions.space.tasks:
        probs = predictions.probs[task.name][0]
        order = probs.argsort()[::-1]
        each = "  ".join(f"{task.classes[i]} {probs[i]:.2f}" for i in order)
        pred = predictions.preds[task.name][0]
        table.add_row(task.name, f"[bold]{escape(task.classes[pred])}[/bold]", escape(each))
    if len(predictions.space.tasks) > 1:
        table.add_row("class", str(predictions.codes[0]), f"of 0 to {predictions.space.num_codes - 1}")
    Console().print(table)


def print_summary(tally: ClassTally, noun: str = "photos") -> None:
    """Print how many photos, or faces (`noun`), were predicted as each class, with their mean probability."""
    table = Table(title=f"{tally.photos} {noun}")
    table.add_column("")
    for heading in (noun, "share", "mean probability"):
        table.add_column(heading, justify="right")
    for task in tally.space.tasks:
        for name, count, total in zip(task.classes, tally.counts[task.name], tally.sums[task.name], strict=True):
            mean = f"{total / count:.2f}" if count else ""
            table.add_row(escape(f"{task.name} {name}"), str(count), f"{count / tally.photos:.1%}", mean)
        table.add_section()
    Console().print(table)


def print_probabilities(sources: Sequence[Source]) -> None:
    """Print how the probabilities were computed: calibration and test-time augmentation (TTA)."""
    temperatures = {task: value for source in sources for task, value in source.temperatures.items()}
    scaling = ", ".join(f"{task} with temperature {value:.2f}" for task, value in temperatures.items())
    tta = sources[0].tta
    console = Console(stderr=True)
    console.print(f"probabilities: {f'calibrated ({scaling})' if scaling else 'not calibrated'}")
    if tta != "none":
        console.print(f"               averaged over augmented versions of each photo (tta={tta})")


def print_pseudo_labels(
    space: LabelSpace, preds: Mapping[str, Codes], weights: Mapping[str, npt.NDArray[np.float32]], path: Path
) -> None:
    """Print how many photos of each predicted class were chosen, the weight of each, and the next command.

    Args:
        space: the tasks.
        preds: task -> predicted classes (N,).
        weights: task -> weights (N,), 0 for a photo that was not chosen.
        path: the table that was written.
    """
    chosen = {task: values > 0 for task, values in weights.items()}
    table = Table(title=f"{int(np.any(list(chosen.values()), axis=0).sum()):,} photos with soft labels")
    table.add_column("")
    for heading in ("predicted", "chosen", "weight"):
        table.add_column(heading, justify="right")
    for task in space.tasks:
        for i, name in enumerate(task.classes):
            of_class = preds[task.name] == i
            both = of_class & chosen[task.name]
            weight = f"{weights[task.name][both][0]:.2f}" if both.any() else ""
            style = None if both.any() else "yellow"
            table.add_row(escape(f"{task.name} {name}"), str(of_class.sum()), str(both.sum()), weight, style=style)
        table.add_section()
    Console().print(table)
    console, folder = Console(stderr=True), escape(str(path.parent))
    console.print(f"look at: {folder}/ {path.name}, {path.stem}.csv", highlight=False, soft_wrap=True)
    following = f"python -m mask_lightning.train data.extra={escape(str(path))}"
    console.print(f"next:    {following}", highlight=False, soft_wrap=True)


def print_decisions(decided: Predictions) -> None:
    """Print which classes were decided together, and for how many photos the most probable class was not chosen."""
    groups = ", ".join(" x ".join(group.names) for group in decided_together(decided.space))
    argmax = {task: decided.probs[task].argmax(axis=1) for task in decided.space.names}
    changed = int(np.any([decided.preds[task] != argmax[task] for task in argmax], axis=0).sum())
    Console(stderr=True).print(
        f"decision=macro_f1: largest expected macro F1 of {groups}; {changed:,} of {len(decided):,} photos are not "
        "decided as their most probable classes",
        highlight=False,
        soft_wrap=True,
    )


def print_files(folder: Path, following: str | None) -> None:
    """Print the written files and the next command, if any."""
    console = Console(stderr=True)
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".csv", ".parquet", ".mp4"))
    names += ["annotated/"] if (folder / "annotated").is_dir() else []
    console.print(f"look at: {escape(str(folder))}/ {', '.join(names)}", highlight=False, soft_wrap=True)
    if following:
        console.print(f"next:    {escape(following)}", highlight=False, soft_wrap=True)


def print_problems(path: Path, count: int, problems: Sequence[str], *, official: bool) -> None:
    """Print the result of checking a submission.

    Args:
        path: the submission.
        count: number of its answers.
        problems: problems found; empty: valid.
        official: True if names and order were checked against the competition's info.csv.
    """
    console = Console()
    console.print(f"{escape(str(path))}: {count} answers", highlight=False, soft_wrap=True)
    for problem in problems:
        console.print(f"  [red]error:[/red] {escape(problem)}", highlight=False, soft_wrap=True)
    if not problems:
        checked = "columns, ImageIDs and range" + (", names and order as in info.csv" if official else "")
        console.print(f"  valid: {checked}", highlight=False)
    if not official:
        console.print("  not checked: names and order; set data.root to the folder that holds eval/", highlight=False)


def print_distribution(codes: Codes, truth: Codes | None) -> None:
    """Print the share of each class among the answers and, if known, among the training photos.

    Args:
        codes: (N,) answers.
        truth: (M,) codes of the training photos; None if unknown.
    """
    shares = class_shares(codes)
    table = Table(title="distribution of the answers")
    for heading in ("class", "", "answers", "share", *(("training",) if truth is not None else ())):
        table.add_column(heading, justify="right" if heading not in ("", "class") else "left")
    known = class_shares(truth) if truth is not None else None
    for code, name in enumerate(FACE.code_names):
        cells = [str(code), escape(name), str((codes == code).sum()), f"{shares[code]:.1%}"]
        table.add_row(*cells, *([f"{known[code]:.1%}"] if known is not None else []))
    console = Console()
    console.print(table)
    if known is not None:
        distance = total_variation(shares, known)
        console.print(f"total variation distance to the training photos: {distance:.1%}")
    never = [str(code) for code in range(FACE.num_codes) if not shares[code]]
    if never:
        console.print(f"[yellow]no answer is of class {', '.join(never)}[/yellow]; each of them lowers the macro F1")


def print_difference(path: Path, codes: Codes, others: Codes) -> None:
    """Print how many answers of two submissions differ, per task, and the most frequent differences."""
    console, differs = Console(), disagreement(codes, others)
    console.print(f"compared with {escape(str(path))}:", highlight=False, soft_wrap=True)
    table = Table()
    for heading in ("", "answers that differ", "share"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, rows in differs.items():
        table.add_row("all tasks" if name == "joint" else name, str(rows.sum()), f"{rows.mean():.1%}")
    console.print(table)
    pairs, counts = np.unique(np.stack([others, codes])[:, differs["joint"]], axis=1, return_counts=True)
    for i in counts.argsort(kind="stable")[::-1][:MAX_CHANGES]:
        before, after = (f"{code} ({FACE.code_names[code]})" for code in pairs[:, i])
        console.print(f"  {counts[i]:4d} x {escape(before)} -> {escape(after)}", highlight=False)


def print_blend(submissions: Mapping[str, Submission | None], blended: Submission) -> None:
    """Print how much each file differs from the blend.

    Args:
        submissions: file -> its answers; None if it does not contain all tasks.
        blended: the blend.
    """
    table = Table(title=f"blend of {len(submissions)} files, {len(blended)} answers")
    table.add_column("", overflow="fold")
    table.add_column("answers that differ from the blend", justify="right")
    for name, submission in submissions.items():
        if submission is None:
            table.add_row(escape(name), "not all tasks")
        else:
            differs = submission.in_order(blended.image_ids).codes != blended.codes
            table.add_row(escape(name), f"{differs.mean():.1%}")
    Console().print(table)
