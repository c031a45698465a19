"""What is said about submissions on the terminal: validity, distribution, and how two differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mask_lightning.inference.submission import Submission, class_shares, disagreement, total_variation
from mask_lightning.labels import FACE

CHANGES = 5  # the most frequent differences that are shown

Codes = npt.NDArray[np.int64]


def print_problems(path: Path, count: int, problems: Sequence[str], *, official: bool) -> None:
    """Every problem, or what was found in order."""
    console = Console()
    console.print(f"{escape(str(path))}: {count} answers", highlight=False, soft_wrap=True)
    for problem in problems:
        console.print(f"  [red]wrong:[/red] {escape(problem)}", highlight=False, soft_wrap=True)
    if not problems:
        checked = "columns, ImageIDs and range" + (", names and order as in info.csv" if official else "")
        console.print(f"  in order: {checked}", highlight=False)
    if not official:
        console.print("  not checked: names and order; set data.root to the folder that holds eval/", highlight=False)


def print_distribution(codes: Codes, truth: Codes | None) -> None:
    """Share of each class among the answers, beside its share among the training photos if they are known."""
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
        console.print(f"{distance:.1%} of the answers had to change to be distributed like the training photos")
    never = [str(code) for code in range(FACE.num_codes) if not shares[code]]
    if never:
        console.print(f"[yellow]no answer is of class {', '.join(never)}[/yellow]; each lowers the macro F1")


def print_difference(path: Path, codes: Codes, others: Codes) -> None:
    """How many answers differ, by task, and the most frequent changes."""
    console, differs = Console(), disagreement(codes, others)
    console.print(f"against {escape(str(path))}:", highlight=False, soft_wrap=True)
    table = Table()
    for heading in ("", "answers that differ", "share"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, rows in differs.items():
        table.add_row("all tasks" if name == "joint" else name, str(rows.sum()), f"{rows.mean():.1%}")
    console.print(table)
    pairs, counts = np.unique(np.stack([others, codes])[:, differs["joint"]], axis=1, return_counts=True)
    for i in counts.argsort(kind="stable")[::-1][:CHANGES]:
        before, after = (f"{code} ({FACE.code_names[code]})" for code in pairs[:, i])
        console.print(f"  {counts[i]:4d} x {escape(before)} there, {escape(after)} here", highlight=False)


def print_blend(ballots: Mapping[str, Submission | None], blended: Submission) -> None:
    """How far each of the blended files is from the blend; None: it does not answer all tasks."""
    table = Table(title=f"blend of {len(ballots)}, {len(blended)} answers")
    table.add_column("", overflow="fold")
    table.add_column("answers that differ from the blend", justify="right")
    for name, ballot in ballots.items():
        if ballot is None:
            table.add_row(escape(name), "not all tasks")
        else:
            differs = ballot.in_order(blended.image_ids).codes != blended.codes
            table.add_row(escape(name), f"{differs.mean():.1%}")
    Console().print(table)
