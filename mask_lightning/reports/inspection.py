"""`inspect=true`: what a run would be, as tables."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mask_lightning.data.splits import Split
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.labels import UNLABELLED
from mask_lightning.models.backbones import count_flops, count_parameters
from mask_lightning.models.network import MultiTaskNetwork
from mask_lightning.optim.schedules import make_schedule

POSITIONS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def print_inspection(module: MultiTaskModule, split: Split, spec: TransformSpec, steps_per_epoch: int) -> None:
    """Print the split, the layer groups with what learns in each phase, and the schedule."""
    console = Console()
    console.print(split_table(module, split))
    console.print(layer_table(module))
    console.print(schedule_table(module, steps_per_epoch))
    optimizer = module.hparams["optim"]
    auto = module.hparams["config"]["optim"]["lr"] == "auto"
    lr = "auto: found before training; the lrs above are multiples of it" if auto else f"{optimizer['lr']:g}"
    console.print(
        f"{module.hparams['backbone']} at {spec.size} x {spec.size}: {describe_cost(module, spec.size)}; "
        f"{optimizer['name']}, lr {lr}"
    )


def describe_cost(module: MultiTaskModule, size: int) -> str:
    """Parameters and operations per photo of `size` pixels; beside those of hard sharing, where there is another."""
    parameters, flops = count_parameters(module.network), count_flops(module.network, size)
    text = f"{parameters / 1e6:.2f} M parameters, {flops / 1e9:.2f} GFLOPs per photo"
    options = module.hparams["network"]
    name = (options.get("sharing") or {}).get("name", "hard")
    if name == "hard":
        return text
    num_classes = {task.name: task.num_classes for task in module.space.tasks}
    with torch.device("meta"):  # shapes are enough
        hard = MultiTaskNetwork(module.hparams["backbone"], num_classes, **{**options, "sharing": None})
    more = (parameters / count_parameters(hard), flops / count_flops(hard, size))
    return f"{text} (sharing={name}: {more[0]:.2f} and {more[1]:.2f} times those of sharing=hard)"


def split_table(module: MultiTaskModule, split: Split) -> Table:
    """People and photos per side and class."""
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
            table.add_row(f"{task.name} not labelled", "", unlabelled[0], "", unlabelled[1])
    return table


def layer_table(module: MultiTaskModule) -> Table:
    """Layer groups from the image up: parameters, and the maximum lr in each phase ("frozen" where none)."""
    groups = module.layer_groups()
    names, lr = list(groups), module.hparams["optim"]["lr"]
    table = Table(title="layer groups, from the image up")
    table.add_column("group")
    table.add_column("parameters", justify="right")
    for i, phase in enumerate(module.phases, 1):
        table.add_column(f"phase {i} ({phase}, {phase.epochs} epochs): lr", justify="right")
    lrs = [phase.group_lrs(names, lr) for phase in module.phases]
    for name in names:
        count = sum(parameter.numel() for parameter in groups[name].values())
        cells = [f"{each[name]:.2g}" if name in each else "frozen" for each in lrs]
        table.add_row(name, f"{count:,}", *cells)
    return table


def schedule_table(module: MultiTaskModule, steps_per_epoch: int, positions: Sequence[float] = POSITIONS) -> Table:
    """The lr as a factor of the maximum at some positions of each phase."""
    table = Table(title="schedule: lr as a factor of its maximum")
    table.add_column("phase")
    table.add_column("steps", justify="right")
    for position in positions:
        table.add_column(f"{position:.0%}", justify="right")
    for i, phase in enumerate(module.phases, 1):
        curve = make_schedule(**{**module.hparams["schedule"], **phase.schedule}).lr
        table.add_row(str(i), str(phase.epochs * steps_per_epoch), *[f"{curve(pos):.3g}" for pos in positions])
    return table
