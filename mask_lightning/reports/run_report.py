"""Output of a training run: figures in its folder, and tables on the terminal before and after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from mask_lightning.data.dataset import collate
from mask_lightning.data.samples import Sample
from mask_lightning.data.splits import Split
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.engine.epoch_scores import number_errors
from mask_lightning.engine.modules import NUMBERS, SIDES, MultiTaskModule
from mask_lightning.labels import UNLABELLED, LabelSpace
from mask_lightning.metrics.scores import JOINT, MAIN_METRIC, MEAN, METRICS
from mask_lightning.models.backbones import count_flops, count_parameters
from mask_lightning.models.network import MultiTaskNetwork
from mask_lightning.optim.phases import PhasedLR, group_lrs, phase_schedule
from mask_lightning.reports.figures import save_figure
from mask_lightning.reports.photo_grids import plot_photos
from mask_lightning.reports.plots import plot_confusion, plot_numbers
from mask_lightning.reports.training_curves import plot_curves, plot_schedule
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.settings.optim import ScheduleSettings

SHOWN, COLUMNS = 32, 8  # photos in augmented.png, and in one of its rows
POSITIONS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)  # of a phase, in the schedule table


def save_augmented(folder: Path, data: FaceDataModule, space: LabelSpace) -> None:
    """Write augmented.png, see `plot_augmented`."""
    save_figure(plot_augmented(data, space), folder / "augmented.png")


def plot_augmented(data: FaceDataModule, space: LabelSpace) -> Figure:
    """Plot augmented training photos as the network sees them (before normalisation), with their classes.

    If batches are mixed (mixup, CutMix), every row is one batch and is always mixed, whatever the probability.
    """
    dataset = data.train_dataset()
    rows = [int(row) for row in np.linspace(0, len(dataset) - 1, min(SHOWN, len(dataset)))]
    samples = [dataset[data.seed + row, row] for row in rows]
    photos: list[npt.NDArray[np.uint8]] = []
    captions: list[str] = []
    for i in range(0, len(samples), COLUMNS):
        batch = data.augment_on_device(collate(samples[i : i + COLUMNS]))
        batch["image"] = batch["image"].float()
        batch = mix_batch(
            batch, data.mix.model_copy(update={"probability": 1.0}), np.random.default_rng((data.seed, i))
        )
        photos += list(batch["image"].round().byte().permute(0, 2, 3, 1).numpy())
        captions += _captions(batch, space)
    title = "training photos, augmented"
    if data.mix.name != "none":
        title += f", {data.mix.probability:.0%} of the batches mixed (mix={data.mix.name})"
    return plot_photos(photos, captions, title=title, columns=COLUMNS)


def _captions(batch: Sample, space: LabelSpace) -> list[str]:
    """Return the classes of each photo; for a mixed photo, the shares and the classes of both parts."""
    columns = zip(*(batch["target"][task].tolist() for task in space.names), strict=True)
    own = [" ".join(name_classes(space, dict(zip(space.names, targets, strict=True)))) for targets in columns]
    if "mix" not in batch:
        return own
    partner, share = batch["mix"]
    return [
        f"{share:.0%} {mine}\n{1 - share:.0%} {own[other]}" for mine, other in zip(own, partner.tolist(), strict=True)
    ]


def name_classes(space: LabelSpace, target: Mapping[str, Any]) -> list[str]:
    """Return the class names of one photo, `?` for a missing label."""
    targets = ((task, int(target[task.name])) for task in space.tasks)
    return ["?" if i == UNLABELLED else task.classes[i] for task, i in targets]


def save_schedule(folder: Path, trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Write schedule.png at the start of a fit."""
    if not trainer.is_global_zero:
        return
    scheduler = trainer.lr_scheduler_configs[0].scheduler
    assert isinstance(scheduler, PhasedLR)
    assert isinstance(module, MultiTaskModule)
    save_figure(plot_schedule(scheduler, module.phases), folder / "schedule.png")


def save_figures(folder: Path, history: pd.DataFrame, module: MultiTaskModule, evidence: dict[str, Any]) -> None:
    """Write curves.png, confusion*.png and, for tasks that predict a number, <task>_scatter.png.

    Args:
        folder: folder of the run.
        history: content of metrics.csv.
        module: trained module.
        evidence: data of the best checkpoint, see `MultiTaskModule.figure_data`.
    """
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
        title = f"{task}, {where}; at each class: mean of predicted - true"
        figure = plot_numbers(numbers.numpy(), space[task].classes, top=top, errors=errors, title=title)
        save_figure(figure, folder / f"{task}_scatter.png")


def print_portraits_banner(root: Path) -> None:
    """Print a warning that scores on drawn portraits mean nothing for real photos."""
    text = (
        f"These are [bold]drawn portraits[/bold] ({escape(str(root))}), not photos: they show that everything works, "
        "but their scores mean nothing for real faces.\n"
        "To train on your own photos: data.root=FOLDER with a folder per person, "
        "data=folder data.root=FOLDER with a folder per class, or data=table data.table=FILE.csv"
    )
    Console(stderr=True).print(Panel(text, border_style="yellow", expand=False))


def print_result(folder: RunFolder, result: RunResult, space: LabelSpace) -> None:
    """Print the scores of a finished run, its files and the next command."""
    table = Table(title=f"best.ckpt: epoch {result.best_epoch}, by {result.monitor}", title_justify="left")
    table.add_column("", no_wrap=True)
    sides = [side for side in ("val", "clean_train") if f"{side}/{MAIN_METRIC}" in result.best]
    for side in sides:
        for metric in METRICS.values():
            table.add_column(f"{side}\n{metric.title}", justify="right")  # two lines fit 80 columns
    together = MEAN if result.score_of == MEAN else " x ".join(space.names)
    names = {"": together} | ({f"{task}/": task for task in space.names} if len(space.tasks) > 1 else {})
    for prefix, name in names.items():
        cells = [f"{result.best[f'{side}/{prefix}{metric}']:.3f}" for side in sides for metric in METRICS]
        table.add_row(escape(name), *cells)
    console = Console(stderr=True)
    console.print(table)
    for line in describe_numbers(result.best, space):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    last = result.last.get(result.monitor)
    speed = f"{result.photos_per_second:.1f} photos/s, " if result.photos_per_second else ""  # a probe trains on none
    console.print(
        f"last epoch: {result.monitor} {last:.3f}; {speed}{result.seconds:.0f} s; weights: {result.weights}",
        markup=False,
    )
    drawn = [name for name in ("augmented.png", "schedule.png") if (folder.path / name).is_file()]  # a probe has none
    files = ", ".join(["curves.png", "confusion*.png", *drawn, "metrics.csv"])
    console.print(f"look at: {folder.path}/{files}", markup=False, soft_wrap=True)
    for head, command in (("next:    ", "report"), ("         ", "predict")):
        photos = " data.root=PHOTOS" if command == "predict" else ""
        line = f"{head}python -m mask_lightning.{command} ckpt={folder.path}{photos}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if (folder.path / "tensorboard").is_dir():
        console.print(
            f"         tensorboard --logdir {folder.path.parent}", markup=False, highlight=False, soft_wrap=True
        )


def describe_numbers(scores: Mapping[str, float], space: LabelSpace) -> list[str]:
    """Return a line with mean absolute error and bias per class for every side and task that predicts a number."""
    lines = []
    for side, task in ((side, task) for side in SIDES for task in space.tasks):
        if f"{side}/{task.name}/mae" in scores:
            keys = {name: f"{side}/{task.name}/bias/{name}" for name in task.classes}
            biases = ", ".join(f"{name} {scores[key]:+.1f}" for name, key in keys.items() if key in scores)
            error = scores[f"{side}/{task.name}/mae"]
            lines.append(f"{side} {task.name}: mean absolute error {error:.1f}; predicted - true: {biases}")
    return lines


def print_interrupted(folder: RunFolder) -> None:
    """Print the last checkpoint and the command that resumes from it."""
    console = Console(stderr=True)
    if folder.last.is_file():
        console.print(f"the last checkpoint is {folder.last}; resume with:", markup=False, soft_wrap=True)
        console.print(
            f"  python -m mask_lightning.train resume={folder.path}", markup=False, highlight=False, soft_wrap=True
        )
    else:
        console.print("there is no checkpoint yet; start the run again")


def print_inspection(module: MultiTaskModule, split: Split, spec: TransformSpec, steps_per_epoch: int) -> None:
    """Print split, layer groups, schedule and cost of a run (`inspect=true`)."""
    console = Console()
    console.print(split_table(module, split))
    console.print(layer_table(module))
    console.print(schedule_table(module, steps_per_epoch))
    optimizer = module.hparams["optim"]
    auto = module.hparams["config"]["optim"]["lr"] == "auto"
    lr = "auto (LR range test before training; the lrs above are multiples of it)" if auto else f"{optimizer['lr']:g}"
    console.print(
        f"{module.hparams['backbone']} at {spec.size} x {spec.size}: {describe_cost(module, spec.size)}; "
        f"{optimizer['name']}, lr {lr}"
    )


def describe_cost(module: MultiTaskModule, size: int) -> str:
    """Return parameters and FLOPs per photo of `size` pixels, compared with hard sharing if the sharing differs."""
    parameters, flops = count_parameters(module.network), count_flops(module.network, size)
    text = f"{parameters / 1e6:.2f} M parameters, {flops / 1e9:.2f} GFLOPs per photo"
    options = module.hparams["network"]
    name = (options.get("sharing") or {}).get("name", "hard")
    if name == "hard":
        return text
    num_classes = {task.name: task.num_classes for task in module.space.tasks}
    with torch.device("meta"):  # no memory: only the shapes are needed
        hard = MultiTaskNetwork(module.hparams["backbone"], num_classes, **{**options, "sharing": None})
    more = (parameters / count_parameters(hard), flops / count_flops(hard, size))
    return f"{text} (sharing={name}: {more[0]:.2f} and {more[1]:.2f} times those of sharing=hard)"


def split_table(module: MultiTaskModule, split: Split) -> Table:
    """Build the table of people and photos per side and class."""
    table = Table(title="split")
    for heading in ("", "train people", "train photos", "val people", "val photos"):
        table.add_column(heading, justify="right" if heading else "left")
    sides = (split.train, split.val)
    table.add_row("all", *[str(n) for rows in sides for n in (rows["person_id"].nunique(), len(rows))])
    for task in module.space.tasks:
        for target, name in enumerate(task.classes):
            chosen = [rows[rows[task.name] == target] for rows in sides]
            counts = [str(n) for rows in chosen for n in (rows["person_id"].nunique(), len(rows))]
            table.add_row(escape(f"{task.name} {name}"), *counts)
        unlabelled = [str(int((rows[task.name] == UNLABELLED).sum())) for rows in sides]
        if any(count != "0" for count in unlabelled):
            table.add_row(escape(f"{task.name} not labelled"), "", unlabelled[0], "", unlabelled[1])
    return table


def layer_table(module: MultiTaskModule) -> Table:
    """Build the table of layer groups, input first: parameters, and the maximum lr in each phase or "frozen"."""
    groups = module.layer_groups()
    names, lr = list(groups), module.hparams["optim"]["lr"]
    table = Table(title="layer groups, input first")
    table.add_column("group")
    table.add_column("parameters", justify="right")
    for i, phase in enumerate(module.phases, 1):
        table.add_column(f"phase {i} ({phase}, {phase.epochs} epochs): lr", justify="right")
    lrs = [group_lrs(phase, names, lr) for phase in module.phases]
    for name in names:
        count = sum(parameter.numel() for parameter in groups[name].values())
        cells = [f"{each[name]:.2g}" if name in each else "frozen" for each in lrs]
        table.add_row(name, f"{count:,}", *cells)
    return table


def schedule_table(module: MultiTaskModule, steps_per_epoch: int, positions: Sequence[float] = POSITIONS) -> Table:
    """Build the table of the lr, as a factor of its maximum, at some positions of each phase."""
    table = Table(title="schedule: lr as a factor of its maximum")
    table.add_column("phase")
    table.add_column("steps", justify="right")
    for position in positions:
        table.add_column(f"{position:.0%}", justify="right")
    schedule = ScheduleSettings(**module.hparams["schedule"])
    schedule = ScheduleSettings(**module.hparams["schedule"])
    for i, phase in enumerate(module.phases, 1):
        curve = phase_schedule(phase, schedule).lr
        table.add_row(str(i), str(phase.epochs * steps_per_epoch), *[f"{curve(pos):.3g}" for pos in positions])
    return table
