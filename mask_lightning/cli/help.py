"""Print a command's help: its examples, its choices in conf/, and every option with its default and description."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from mask_lightning.cli.compose import compose_config, config_dir, to_plain
from mask_lightning.settings.base import Settings, describe_options

FLAGS = ("--help", "-h")
COLUMN = 34  # characters of `option=value` before the description begins


def print_help(command: str, settings: type[Settings], arguments: Sequence[str]) -> bool:
    """Print help if the command line asks for it. Return False, printing nothing, if it does not.

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
    print("Options, set with option=value:")
    descriptions = describe_options(settings)
    for name, value in _leaves(to_plain(config)):
        print(_option(name, value, descriptions.get(name, ""), width))
    return True


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


def _leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and value of each option."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _option(name: str, value: Any, description: str, width: int) -> str:
    shown = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
    left = f"  {name}={shown}"
    if not description:
        return left
    start = "" if len(left) < COLUMN else f"{left}\n"
    indent = " " * COLUMN
    text = textwrap.fill(description, max(width, 60), initial_indent=indent, subsequent_indent=indent)
    return start + text if start else left.ljust(COLUMN) + text[COLUMN:]
