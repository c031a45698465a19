"""Print a command's help: its examples, its choices in conf/, and its options with default and description.

`--help` shows the options that most users need, `--help=all` all of them.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from mask_lightning.cli.compose import compose_config, config_dir, to_plain
from mask_lightning.settings.base import Settings, describe_options

FLAGS = ("--help", "-h", "--help=all")
MAIN_OPTIONS = {  # of commands with many options: those that most users need
    "train": (
        "data.root data.val_fraction model.pretrained optim.lr finetune.epochs checkpoint.patience trainer.devices "
        "inspect resume seed"
    ),
    "find_lr": (
        "data.root range_test.start_lr range_test.end_lr range_test.num_steps range_test.phase range_test.suggestion "
        "model.pretrained seed"
    ),
    "audit": "data.root data.table data.corrections near_bits people_shown workers outputs",
    "evaluate": "ckpt data.root data.table against tta decision calibrate accelerator batch_size outputs",
    "export": "ckpt runs combine format precision tta calibrated licence score_photos out",
    "benchmark": "ckpt engines precisions batch_sizes seconds score_photos threads outputs",
    "serve": "ckpt host port engine workers max_batch_size max_faces max_photos timeout keep",
    "mask_faces": "data.root out landmarks crop max_yaw data.limit_people seed workers",
    "pack": "data.root data.table out image_size chunk_mb data.crop data.val_fraction data.split_seed outputs",
    "predict": "ckpt data.root faces tta decision calibrated submission shards accelerator outputs",
    "pseudo_label": "ckpt data.root share confidence balanced tta accelerator outputs",
    "push": "ckpt repo private licence tta score_photos out outputs",
    "report": "ckpt data.root data.table seed accelerator outputs",
    "suspects": "runs predictions share shown accelerator outputs",
    "vote": "runs data.root kind weights decision soup allow_missing tta submission outputs",
}
ARGUMENTS = {  # options that only some choices have: arguments of optimizers and schedules, and weights of tasks
    "loss.task_weights": "factor of this task's loss in the sum",
    "optim.alpha": "Lookahead: how far the slow weights move towards the fast ones",
    "optim.betas": "decay of the first and of the second moment; schedule=one_cycle changes the first",
    "optim.eps": "added to the root of the second moment",
    "optim.k": "Lookahead: steps between two updates of the slow weights",
    "optim.momentum": "momentum; schedule=one_cycle changes it",
    "optim.nesterov": "Nesterov momentum",
    "schedule.div": "ratio of the largest to the first lr",
    "schedule.div_final": "ratio of the largest to the last lr",
    "schedule.moms": "first, lowest and last momentum; null keeps the optimizer's",
    "schedule.pct_start": "share of the phase before the lr falls",
    "schedule.warmup_fraction": "share of the phase in which the lr rises",
}
COLUMN = 34  # characters of `option=value` before the description begins


def print_help(command: str, settings: type[Settings], arguments: Sequence[str]) -> bool:
    """Print help if the command line asks for it. Return False, printing nothing, if it does not.

    `--help` shows MAIN_OPTIONS and the options that are named beside it, `--help=all` all options.

    Overrides beside --help are composed first, so that `model=effb2 --help` shows the defaults of effb2. If they do not
    compose, Hydra reports the mistake.
    """
    if not any(argument in FLAGS for argument in arguments):
        return False
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    try:
        config = compose_config(command, overrides)
    except Exception:
        sys.argv = [argument for argument in sys.argv if argument not in FLAGS]
        return False
    width = shutil.get_terminal_size((100, 24)).columns
    print(_header(command))
    groups = list(_groups(command))
    if groups:
        print("Choices, set with group=choice:")
        for group, choices in groups:
            print(
                textwrap.fill(
                    ", ".join(choices), width, initial_indent=f"  {group + ':':<12} ", subsequent_indent=" " * 15
                )
            )
        print()
    options = dict(list_leaves(to_plain(config)))
    named = {override.partition("=")[0].lstrip("+~") for override in overrides}
    main = [name for name in MAIN_OPTIONS.get(command, "").split() if name in options]
    shown = list(options) if "--help=all" in arguments or not main else main
    shown += [name for name in options if name in named and name not in shown]
    is_part = len(shown) < len(options)
    print(f"{'Main options' if is_part else 'Options'}, set with option=value:")
    for name in shown:
        print(_option(name, options[name], describe(name, settings), width))
    if is_part:
        print(f"\nAll {len(options)} options: python -m mask_lightning.{command} --help=all")
    return True


def describe(name: str, settings: type[Settings]) -> str:
    """Return the description of an option, also of one that only some choices have; "" if there is none."""
    arguments = ARGUMENTS.get(name) or ARGUMENTS.get(name.rpartition(".")[0], "")
    return describe_options(settings).get(name) or arguments


def _header(command: str) -> str:
    """Return the text of hydra.help.header in `conf/<command>.yaml`."""
    content = yaml.safe_load((config_dir() / f"{command}.yaml").read_text())
    return str(content["hydra"]["help"]["header"])


def _groups(command: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder of conf/ that the command chooses from, with its choices."""
    for entry in yaml.safe_load((config_dir() / f"{command}.yaml").read_text())["defaults"]:
        if entry == "train":
            yield from _groups("train")
        for group in entry if isinstance(entry, dict) else ():
            folder = config_dir() / group
            choices = sorted(path.stem for path in folder.glob("[!_]*.yaml"))
            yield group, [*choices, *(f"{below.name}/..." for below in sorted(folder.glob("*/")))]


def list_leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and value of each option."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from list_leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def show_value(value: Any) -> str:
    """Return a value as it is typed, in one line of YAML.

    Example:
        >>> show_value([1, None]), show_value(True)
        ('[1, null]', 'true')
    """
    return str(yaml.safe_dump(value, default_flow_style=True, width=10_000)).removesuffix("\n...\n").strip()


def _option(name: str, value: Any, description: str, width: int) -> str:
    left = f"  {name}={show_value(value)}"
    if not description:
        return left
    start = "" if len(left) < COLUMN else f"{left}\n"
    indent = " " * COLUMN
    text = textwrap.fill(description, max(width, 60), initial_indent=indent, subsequent_indent=indent)
    return start + text if start else left.ljust(COLUMN) + text[COLUMN:]
