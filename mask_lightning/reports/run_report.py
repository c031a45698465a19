"""What a run shows of itself: figures in its folder, a table at the end, the next command to type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from mask_lightning.data.batching import mix_batch
from mask_lightning.data.datamodule import FaceDataModule
from mask_lightning.data.dataset import Sample, collate
from mask_lightning.engine.epoch_scores import JOINT, MAX_JOINT, number_errors
from mask_lightning.engine.modules import SIDES, MultiTaskModule
from mask_lightning.labels import UNLABELLED, LabelSpace
from mask_lightning.optim.schedules import PhasedLR
from mask_lightning.reports.confusion import plot_confusion
from mask_lightning.reports.curves import plot_curves
from mask_lightning.reports.figures import save_figure
from mask_lightning.reports.numbers import plot_numbers
from mask_lightning.reports.photos import plot_photos
from mask_lightning.reports.schedule import plot_schedule
from mask_lightning.runs.folder import RunFolder, RunResult

NUMBERS = "numbers"  # in the evidence, beside the sides
SHOWN, COLUMNS = 32, 8  # photos in augmented.png, and in a row of it


def take_evidence(module: pl.LightningModule) -> dict[str, Any]:
    """What the validation that just ended leaves for figures, as nested lists.

    Side -> task -> confusion matrix; and under NUMBERS the same of `Scores.numbers_of`, for tasks that predict one.
    """
    assert isinstance(module, MultiTaskModule)
    sides: dict[str, Any] = {}
    numbers: dict[str, Any] = {}
    for side in SIDES:
        scores = module.side_scores(side)
        if not scores.is_empty:
            sides[side] = {name: matrix.tolist() for name, matrix in scores.confusion_matrices().items()}
            numbers[side] = {task: scores.numbers_of(task).tolist() for task in scores.tops}
    return {**sides, NUMBERS: numbers}


def save_augmented(folder: Path, data: FaceDataModule, space: LabelSpace) -> None:
    """augmented.png: see `plot_augmented`."""
    save_figure(plot_augmented(data, space), folder / "augmented.png")


def plot_augmented(data: FaceDataModule, space: LabelSpace) -> Figure:
    """Training photos as the network sees them (before normalisation), with their labels.

    Where batches are mixed, every row is a batch of its own; a batch that would be left as it is is mixed, too.
    """
    dataset = data.train_dataset()
    rows = [int(row) for row in np.linspace(0, len(dataset) - 1, min(SHOWN, len(dataset)))]
    samples = [dataset[data.seed + row, row] for row in rows]
    photos: list[npt.NDArray[np.uint8]] = []
    captions: list[str] = []
    for i in range(0, len(samples), COLUMNS):
        batch = data.changed(collate(samples[i : i + COLUMNS]))
        batch["image"] = batch["image"].float()
        batch = mix_batch(batch, replace(data.mix, probability=1.0), np.random.default_rng((data.seed, i)))
        photos += list(batch["image"].round().byte().permute(0, 2, 3, 1).numpy())
        captions += _captions(batch, space)
    title = "training photos, augmented"
    if data.mix.name != "none":
        title += f", {data.mix.probability:.0%} of the batches mixed (mix={data.mix.name})"
    return plot_photos(photos, captions, title=title, columns=COLUMNS)


def _captions(batch: Sample, space: LabelSpace) -> list[str]:
    """The classes of each photo; of a mixed one also its partner's, and how much there is of each."""
    columns = zip(*(batch["target"][task].tolist() for task in space.names), strict=True)
    own = [" ".join(name_classes(space, dict(zip(space.names, targets, strict=True)))) for targets in columns]
    if "mix" not in batch:
        return own
    partner, share = batch["mix"]
    return [
        f"{share:.0%} {mine}\n{1 - share:.0%} {own[other]}" for mine, other in zip(own, partner.tolist(), strict=True)
    ]


def name_classes(space: LabelSpace, target: Mapping[str, Any]) -> list[str]:
    """Targets of one photo -> class names, `?` where it is not labelled."""
    targets = ((task, int(target[task.name])) for task in space.tasks)
    return ["?" if i == UNLABELLED else task.classes[i] for task, i in targets]


def save_schedule(folder: Path, trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """schedule.png, of a fit that is about to start; rank 0 draws it."""
    if not trainer.is_global_zero:
        return
    scheduler = trainer.lr_scheduler_configs[0].scheduler
    assert isinstance(scheduler, PhasedLR)
    assert isinstance(module, MultiTaskModule)
    save_figure(plot_schedule(scheduler, module.phases), folder / "schedule.png")


def save_figures(folder: Path, history: pd.DataFrame, module: MultiTaskModule, evidence: dict[str, Any]) -> None:
    """curves.png; of the best checkpoint confusion.png per task and combined, <task>_scatter.png of a number."""
    space = module.space
    save_figure(plot_curves(history, module.phases, space.names), folder / "curves.png")
    side = "val" if "val" in evidence else "clean_train"
    where = "held-out people" if side == "val" else "training photos (nobody was held out)"
    for name, matrix in evidence.get(side, {}).items():
        joint = name == JOINT
        if joint and len(space.tasks) == 1:
            continue
        classes = space.code_names if joint else space[name].classes
        title = f"{' x '.join(space.names) if joint else name}, {where}"
        stem = "confusion" if joint else f"confusion_{name}"
        save_figure(plot_confusion(np.array(matrix), classes, title), folder / f"{stem}.png")
    for task, rows in evidence.get(NUMBERS, {}).get(side, {}).items():
        top, numbers = module.side_scores(side).tops[task], torch.tensor(rows).reshape(-1, 3)
        errors = number_errors(numbers, space[task], top=top)
        title = f"{task}, {where}; beside each class the mean of predicted - true"
        figure = plot_numbers(numbers.numpy(), space[task].classes, top=top, errors=errors, title=title)
        save_figure(figure, folder / f"{task}_scatter.png")


def print_portraits_banner(root: Path) -> None:
    """Say that scores on drawn portraits mean nothing about photos."""
    text = (
        f"These are [bold]drawn portraits[/bold] ({root}), not photos: they show that everything works, "
        "and their scores say nothing about real faces.\n"
        "For your own photos: data.root=FOLDER with train/images/<id>_<male|female>_<race>_<age>/"
        "{mask1..mask5,incorrect_mask,normal}.jpg"
    )
    _console().print(Panel(text, border_style="yellow", expand=False))


def print_result(folder: RunFolder, result: RunResult, space: LabelSpace) -> None:
    """The table of scores, what to look at, and the next command."""
    table = Table(title=f"{escape(str(folder.path))}  (best.ckpt: epoch {result.best_epoch}, by {result.monitor})")
    table.add_column("")
    sides = [side for side in ("val", "clean_train") if f"{side}/f1" in result.best]
    for side in sides:
        table.add_column(f"{side} macro F1", justify="right")
        table.add_column(f"{side} accuracy", justify="right")
    together = " x ".join(space.names) if space.num_codes <= MAX_JOINT else "mean of the tasks"
    names = {"": together} | ({f"{task}/": task for task in space.names} if len(space.tasks) > 1 else {})
    for prefix, name in names.items():
        cells = [f"{result.best[f'{side}/{prefix}{metric}']:.3f}" for side in sides for metric in ("f1", "accuracy")]
        table.add_row(name, *cells)
    console = _console()
    console.print(table)
    for line in describe_numbers(result.best, space):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    last = result.last.get(result.monitor)
    console.print(
        f"last epoch: {result.monitor} {last:.3f}; {result.photos_per_second:.1f} photos/s, {result.seconds:.0f} s; "
        f"weights: {result.weights}",
        markup=False,
    )
    console.print(
        f"look at: {folder.path}/curves.png, confusion*.png, augmented.png, schedule.png, metrics.csv", markup=False
    )
    command = f"python -m mask_lightning.predict ckpt={folder.path} data.root=PHOTOS"
    console.print(f"next:    {command}", markup=False, highlight=False, soft_wrap=True)
    if (folder.path / "tensorboard").is_dir():
        console.print(
            f"         tensorboard --logdir {folder.path.parent}", markup=False, highlight=False, soft_wrap=True
        )


def describe_numbers(scores: Mapping[str, float], space: LabelSpace) -> list[str]:
    """A line per task and side whose scores have a mean absolute error: that, and the bias per class."""
    lines = []
    for side, task in ((side, task) for side in SIDES for task in space.tasks):
        if f"{side}/{task.name}/mae" in scores:
            keys = {name: f"{side}/{task.name}/bias/{name}" for name in task.classes}
            biases = ", ".join(f"{name} {scores[key]:+.1f}" for name, key in keys.items() if key in scores)
            error = scores[f"{side}/{task.name}/mae"]
            lines.append(f"{side} {task.name}: off by {error:.1f} on average; predicted - true: {biases}")
    return lines


def print_interrupted(folder: RunFolder) -> None:
    """Name the last checkpoint and the command that goes on from it."""
    console = _console()
    if folder.last.is_file():
        console.print(f"the last checkpoint is {folder.last}; go on with:", markup=False, soft_wrap=True)
        console.print(
            f"  python -m mask_lightning.train resume={folder.path}", markup=False, highlight=False, soft_wrap=True
        )
    else:
        console.print("nothing was trained yet; start the run again")


def _console() -> Console:
    return Console(stderr=True)
