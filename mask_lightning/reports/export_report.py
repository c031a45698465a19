"""Terminal report of an export."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from mask_lightning.metrics.scores import MAIN_METRIC
from mask_lightning.reports.evaluation_report import show_interval
from mask_lightning.reports.model_card import ModelCard


def print_export(folder: Path, card: ModelCard) -> None:
    """Print the comparison with PyTorch, the score, the files and the next command."""
    console, check = Console(), card.exported.check
    console.print(
        f"compared with PyTorch on {check['photos']:,} {check['of']}: probabilities differ by at most "
        f"{check['largest_difference']:.1e}",
        highlight=False,
    )
    if card.evaluation is not None:
        score = card.evaluation.intervals[card.evaluation.headline][MAIN_METRIC]
        console.print(f"macro F1 on held-out people: {show_interval(score)}", highlight=False)
    if card.quantisation is not None:
        style = "bold red" if card.quantisation.is_large else ""
        console.print(escape(card.quantisation.describe()), style=style, highlight=False)
    for note in card.notes:
        console.print(f"[yellow]note:[/yellow] {escape(note)}", highlight=False)
    files = Console(stderr=True)
    for path in sorted(folder.iterdir()):
        files.print(f"{escape(str(path))}  {path.stat().st_size / 1e6:.2f} MB", highlight=False, soft_wrap=True)
    files.print(f"next: python {escape(str(folder / 'example.py'))} PHOTO", highlight=False, soft_wrap=True)
    command = f"python -m mask_lightning.predict ckpt={folder} data.root=PHOTOS"
    files.print(f"or: {escape(command)}", highlight=False, soft_wrap=True)
