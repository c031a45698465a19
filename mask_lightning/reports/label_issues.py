"""Output of `suspects`: label issues as a CSV of corrections, as JSON, as an HTML page and on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mask_lightning.data.images import open_photo
from mask_lightning.errors import PhotoError
from mask_lightning.metrics.label_issues import LabelIssue, LabelIssues, correction, propose_corrections
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.reports.html_page import Picture, photo_picture, render
from mask_lightning.utils.files import write_atomically, write_json

CSV_NAME, JSON_NAME, PAGE_NAME = "suspects.csv", "suspects.json", "suspects.html"
LOW_AGREEMENT = 0.8  # with few per cent of wrong labels, most issues below this are mistakes of the models
MAX_PAIRS = 3  # (label, suggestion) pairs in the terminal table
PHOTO_SIDE = 190  # pixels of the longer side on the page
PHOTOS_PER_PERSON = 3


@dataclass(frozen=True)
class Card:
    """One label issue on the page.

    Attributes:
        issue: the label issue.
        line: its correction: person_id, field, value.
        pictures: its photos; None for a photo that cannot be opened.
    """

    issue: LabelIssue
    line: tuple[str, str, str]
    pictures: tuple[Picture | None, ...]


def save(folder: Path, found: Sequence[LabelIssues], predictions: Predictions, *, shown: int) -> None:
    """Write suspects.csv, suspects.json and suspects.html.

    Args:
        folder: created if missing.
        found: label issues of each task.
        predictions: out-of-fold predictions that the issues were found with.
        shown: maximum number of issues per task on the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = propose_corrections(found).to_csv(index=False, lineterminator="\n")
    write_atomically(folder / CSV_NAME, lines.encode())
    sources = [asdict(source) for source in predictions.sources]
    write_json(folder / JSON_NAME, {"tasks": {each.task.name: _to_plain(each) for each in found}, "sources": sources})
    write_atomically(folder / PAGE_NAME, _render_page(found, predictions, shown).encode())


def print_label_issues(found: Sequence[LabelIssues]) -> None:
    """Print how many labels of each task were examined, doubted and listed, and the most frequent issues."""
    table = Table(title="labels that are likely wrong")
    for heading in ("task", "labels", "agree", "doubted", "listed", "most frequent"):
        is_text = heading in ("task", "most frequent")
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=not is_text)
    for each in found:
        most = "\n".join(f"{given} -> {other}: {count}" for given, other, count in _count_pairs(each)[:MAX_PAIRS])
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
        print(f"{', '.join(low)}: the models agree with few labels, so most issues are probably mistakes of the models")


def print_next(folder: Path, corrections: str | None) -> None:
    """Print the written files and how to apply the corrections.

    Args:
        folder: folder with the results.
        corrections: file of corrections that the labels already contain; None if unknown.
    """
    console = Console(stderr=True)
    names = ", ".join(sorted(path.name for path in folder.iterdir() if path.suffix != ".log"))
    also = f", add the lines of {corrections}" if corrections else ""
    for text in (
        f"look at: {folder}/ {names}",
        f"next:    set agreed_by to 1 in {CSV_NAME} where you agree{also}, then",
        f"         python -m mask_lightning.train data.corrections={folder / CSV_NAME} ...",
    ):
        console.print(escape(text), highlight=False, soft_wrap=True)


def _to_plain(issues: LabelIssues) -> dict[str, Any]:
    return {
        "labels_of": "people" if issues.of_people else "photos",
        "labels": issues.labels,
        "agreement": round(issues.agreement, 4),
        "doubted": issues.doubted,
        "suspects": [asdict(issue) for issue in issues.listed],
    }


def _count_pairs(issues: LabelIssues) -> list[tuple[str, str, int]]:
    """Return label, suggestion and number of issues, the most frequent pair first."""
    counts = Counter((issue.given, issue.suggested) for issue in issues.listed)
    return [(given, suggested, count) for (given, suggested), count in counts.most_common()]


def _render_page(found: Sequence[LabelIssues], predictions: Predictions, shown: int) -> str:
    return render(
        "suspects.html",
        found=found,
        cards={each.task.name: _make_cards(each, shown) for each in found},
        pairs={each.task.name: _count_pairs(each) for each in found},
        photos=len(predictions),
        people=predictions.photos["person_id"].nunique(),
        models=len(predictions.sources),
        csv_name=CSV_NAME,
        low_agreement=LOW_AGREEMENT,
    )


def _make_cards(issues: LabelIssues, shown: int) -> list[Card]:
    return [
        Card(issue, correction(issues.task, issue), tuple(_open_picture(path) for path in _choose_photos(issue.paths)))
        for issue in issues.listed[:shown]
    ]


def _choose_photos(paths: Sequence[str]) -> list[str]:
    """Choose a few photos, the last one first: in the competition's folders it shows the face without a mask."""
    chosen = np.linspace(len(paths) - 1, 0, min(PHOTOS_PER_PERSON, len(paths))).round().astype(int)
    return [paths[i] for i in chosen]


def _open_picture(path: str) -> Picture | None:
    try:
        photo = open_photo(path)
    except PhotoError:
        return None
    photo.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    return photo_picture(photo, Path(path).name)
