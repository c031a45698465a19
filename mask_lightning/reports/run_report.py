"""What a run shows of itself: figures in its folder, a table at the end, the next command to type."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from mask_lightning.data.datamodule import FaceDataModule
from mask_lightning.labels import UNLABELLED, LabelSpace
from mask_lightning.reports.confusion import plot_confusion
from mask_lightning.reports.curves import plot_curves
from mask_lightning.reports.figures import save_figure
from mask_lightning.reports.photos import plot_photos
from mask_lightning.run_folder import RunFolder, RunResult
from mask_lightning.training.metrics import JOINT, MAX_JOINT
from mask_lightning.training.modules import SIDES, MultiTaskModule

SHOWN = 32  # photos in augmented.png


def take_confusion(module: pl.LightningModule) -> dict[str, Any]:
    """Side -> task -> confusion matrix as nested lists, of the validation that just ended."""
    assert isinstance(module, MultiTaskModule)
    sides: dict[str, Any] = {}
    for side in SIDES:
        scores = module.side_scores(side)
        if not scores.is_empty:
            sides[side] = {name: matrix.tolist() for name, matrix in scores.confusion_matrices().items()}
    return sides


def save_augmented(folder: Path, data: FaceDataModule, space: LabelSpace) -> None:
    """augmented.png: training photos as the network sees them (before normalisation)."""
    dataset = data.train_dataset()
    rows = [int(row) for row in np.linspace(0, len(dataset) - 1, min(SHOWN, len(dataset)))]
    samples = [dataset[data.seed + row, row] for row in rows]
    photos = [sample["image"].permute(1, 2, 0).numpy() for sample in samples]
    captions = [" ".join(name_classes(space, sample["target"])) for sample in samples]
    save_figure(plot_photos(photos, captions, title="training photos, augmented"), folder / "augmented.png")


def name_classes(space: LabelSpace, target: Mapping[str, Any]) -> list[str]:
    """Targets of one photo -> class names, `?` where it is not labelled."""
    targets = ((task, int(target[task.name])) for task in space.tasks)
    return ["?" if i == UNLABELLED else task.classes[i] for task, i in targets]


def save_figures(folder: Path, history: pd.DataFrame, module: MultiTaskModule, evidence: dict[str, Any]) -> None:
    """curves.png, and confusion.png per task and for the combined class, of the best checkpoint."""
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
    table = Table(title=f"{folder.path}  (best.ckpt: epoch {result.best_epoch}, by {result.monitor})")
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
    last = result.last.get(result.monitor)
    console.print(
        f"last epoch: {result.monitor} {last:.3f}; {result.photos_per_second:.1f} photos/s, {result.seconds:.0f} s; "
        f"weights: {result.weights}"
    )
    console.print(f"look at: {folder.path}/curves.png, confusion*.png, augmented.png, metrics.csv")
    command = f"python -m mask_lightning.predict ckpt={folder.path} data.root=PHOTOS"
    console.print(f"next:    {command}", highlight=False, soft_wrap=True)
    if (folder.path / "tensorboard").is_dir():
        console.print(f"         tensorboard --logdir {folder.path.parent}", highlight=False, soft_wrap=True)


def print_interrupted(folder: RunFolder) -> None:
    """Name the last checkpoint and the command that goes on from it."""
    console = _console()
    if folder.last.is_file():
        console.print(f"the last checkpoint is {folder.last}; go on with:", soft_wrap=True)
        console.print(f"  python -m mask_lightning.train resume={folder.path}", highlight=False, soft_wrap=True)
    else:
        console.print("nothing was trained yet; start the run again")


def _console() -> Console:
    return Console(stderr=True)
