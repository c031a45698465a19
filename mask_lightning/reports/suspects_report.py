"""Suspects as a CSV of corrections to review, as JSON, and on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mask_lightning.inference.predictions import Predictions
from mask_lightning.metrics.label_issues import Suspects, propose_corrections
from mask_lightning.utils.files import write_atomically, write_json

CSV_NAME, JSON_NAME = "suspects.csv", "suspects.json"
LOW_AGREEMENT = 0.8  # below, at a few per cent of wrong labels, most suspects are mistakes of the network
PAIRS = 3  # kinds of mistake named on the terminal


def save(folder: Path, found: Sequence[Suspects], predictions: Predictions) -> None:
    """Write suspects.csv and suspects.json into `folder`, making it."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = propose_corrections(found).to_csv(index=False, lineterminator="\n")
    write_atomically(folder / CSV_NAME, lines.encode())
    sources = [asdict(source) for source in predictions.sources]
    write_json(folder / JSON_NAME, {"tasks": {each.task.name: _plain(each) for each in found}, "sources": sources})


def _plain(suspects: Suspects) -> dict[str, Any]:
    return {
        "labels_of": "people" if suspects.of_people else "photos",
        "labels": suspects.labels,
        "agreement": round(suspects.agreement, 4),
        "doubted": suspects.doubted,
        "suspects": [asdict(suspect) for suspect in suspects.listed],
    }


def pairs(suspects: Suspects) -> list[tuple[str, str, int]]:
    """Label, suggestion, and how many suspects have both; the most frequent first."""
    counts = Counter((suspect.given, suspect.suggested) for suspect in suspects.listed)
    return [(given, suggested, count) for (given, suggested), count in counts.most_common()]


def print_suspects(found: Sequence[Suspects]) -> None:
    """How many labels of each task were judged, doubted and listed, and which mistakes they would be."""
    table = Table(title="labels that are likely wrong")
    for heading in ("task", "labels", "agree", "doubted", "listed", "listed most"):
        words = heading in ("task", "listed most")
        table.add_column(heading, justify="left" if words else "right", no_wrap=not words)
    for each in found:
        most = "\n".join(f"{given}, rather {other}: {count}" for given, other, count in pairs(each)[:PAIRS])
        unit = "people" if each.of_people else "photos"
        style = "yellow" if each.agreement < LOW_AGREEMENT else None
        table.add_row(
            escape(each.task.name),
            f"{each.labels:,} {unit}",
            f"[{style}]{each.agreement:.1%}[/]" if style else f"{each.agreement:.1%}",
            f"{each.doubted:,}",
            f"{len(each):,}",
            escape(most),
        )
    Console().print(table)
    low = [each.task.name for each in found if each.agreement < LOW_AGREEMENT]
    if low:
        print(f"{', '.join(low)}: where the networks agree with few labels, most suspects are their own mistakes")


def print_next(folder: Path, corrections: str | None) -> None:
    """What lies in the folder, and what a person does with it; `corrections`: what the labels have applied already."""
    console = Console(stderr=True)
    names = ", ".join(sorted(path.name for path in folder.iterdir() if path.suffix != ".log"))
    also = f", add the lines of {corrections}" if corrections else ""
    for text in (
        f"look at: {folder}/ {names}",
        f"next:    set agreed_by to 1 in {CSV_NAME} where you agree{also}, then",
        f"         python -m mask_lightning.train data.corrections={folder / CSV_NAME} ...",
    ):
        console.print(escape(text), highlight=False, soft_wrap=True)
