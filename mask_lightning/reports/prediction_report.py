"""What a prediction shows on the terminal: one photo's answers, or how many photos got which."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mask_lightning.inference.predictions import Predictions


def print_photo(predictions: Predictions) -> None:
    """The answers for one photo: each task's class, and what every class was given."""
    table = Table(title=escape(predictions.photos["photo"][0]))
    for heading in ("", "answer", "probability of each class"):
        table.add_column(heading)
    for task in predictions.space.tasks:
        probs = predictions.probs[task.name][0]
        order = probs.argsort()[::-1]
        each = "  ".join(f"{task.classes[i]} {probs[i]:.2f}" for i in order)
        table.add_row(task.name, f"[bold]{escape(task.classes[order[0]])}[/bold]", escape(each))
    if len(predictions.space.tasks) > 1:
        table.add_row("class", str(predictions.codes[0]), f"of 0 to {predictions.space.num_codes - 1}")
    Console().print(table)


def print_summary(predictions: Predictions) -> None:
    """How many photos got which class of each task, and how sure the network was."""
    table = Table(title=f"{len(predictions)} photos")
    table.add_column("")
    for heading in ("photos", "share", "mean probability"):
        table.add_column(heading, justify="right")
    for task in predictions.space.tasks:
        probs, preds = predictions.probs[task.name], predictions.preds[task.name]
        for i, name in enumerate(task.classes):
            chosen = preds == i
            sure = f"{probs[chosen, i].mean():.2f}" if chosen.any() else ""
            table.add_row(escape(f"{task.name} {name}"), str(chosen.sum()), f"{chosen.mean():.1%}", sure)
        table.add_section()
    Console().print(table)


def print_probabilities(predictions: Predictions) -> None:
    """What the probabilities are: of which views, and by which temperatures."""
    temperatures = {task: value for source in predictions.sources for task, value in source.temperatures.items()}
    honest = ", ".join(f"{task} by temperature {value:.2f}" for task, value in temperatures.items())
    views = predictions.sources[0].tta
    console = Console(stderr=True)
    console.print(
        f"probabilities: {f'calibrated ({honest})' if honest else 'as the network says them, not calibrated'}"
    )
    if views != "none":
        console.print(f"               averaged over several views of each photo (tta={views})")


def print_files(folder: Path, following: str | None) -> None:
    """What lies in the folder, and the next command."""
    console = Console(stderr=True)
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".csv", ".parquet"))
    console.print(f"look at: {escape(str(folder))}/ {', '.join(names)}", highlight=False, soft_wrap=True)
    if following:
        console.print(f"next:    {escape(following)}", highlight=False, soft_wrap=True)
