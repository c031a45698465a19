"""Shell completion of commands, choices, options and values, for `mask-lightning` and `python -m mask_lightning`."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from mask_lightning.cli.compose import config_dir, option_values, store_defaults
from mask_lightning.cli.help import FLAGS

SCRIPT = """
_mask_lightning() {{
    case "$COMP_LINE" in
        *mask[_-]lightning*) ;;
        *) COMPREPLY=(); return ;;
    esac
    COMPREPLY=($({python} -m mask_lightning completion "${{COMP_LINE:0:$COMP_POINT}}" 2>/dev/null))
}}
COMP_WORDBREAKS=${{COMP_WORDBREAKS//=}}
complete -o default -o nospace -F _mask_lightning mask-lightning python python3
"""


def completion_script() -> str:
    """Return the script that a shell evaluates: `eval "$(python -m mask_lightning completion)"`."""
    return SCRIPT.format(python=shlex.quote(sys.executable))


def suggest_words(line: str, commands: Iterable[str]) -> list[str]:
    """Return what the last word of a command line may become.

    Args:
        line: the command line up to the cursor.
        commands: names of all commands.

    Example:
        >>> suggest_words("python -m mask_lightning.comp", ["compare", "train"])
        ['mask_lightning.compare']
        >>> suggest_words("mask-lightning train model=l", ["train"])
        ['model=lite0', 'model=lite2']
    """
    *before, last = line.split(" ")
    known = list(commands)
    if not any(word in known or _command_of(word) in known for word in before):
        prefix = "mask_lightning." if any(word == "-m" for word in before) else ""
        return _starting(last, [f"{prefix}{name}" for name in known])
    command = next(name for word in before for name in (word, _command_of(word)) if name in known)
    key, is_value, _ = last.partition("=")
    settings = get_type_hints(importlib.import_module(f"mask_lightning.{command}").main)["settings"]
    if is_value:
        return _starting(last, [f"{key}={value}" for value in _choices(key) or _values(settings, key)])
    store_defaults(settings)
    options = option_values(command)
    groups = [path.name for path in sorted(config_dir().iterdir()) if path.is_dir() and path.name in options]
    extra = ["experiment", "ensemble", "launcher", "sweeper"] if command in ("train", "find_lr") else []
    names = dict.fromkeys(
        [*groups, *extra, *(name for name, value in options.items() if not _is_section(name, options))]
    )
    return _starting(last, [*(f"{name}=" for name in names), *FLAGS])


def _command_of(word: str) -> str:
    found = re.fullmatch(r"mask_lightning\.(\w+)", word)
    return found[1] if found else ""


def _is_section(name: str, options: dict[str, Any]) -> bool:
    return any(other.startswith(f"{name}.") for other in options)


def _starting(start: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(start)]


def _choices(group: str) -> list[str]:
    folder = config_dir() / group
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("[!_]*.yaml"))


def _values(settings: type[BaseModel], name: str) -> list[str]:
    """Return the values of an option that has a fixed list of them."""
    *sections, last = name.split(".")
    for section in sections:
        field = settings.model_fields.get(section)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return []
        settings = field.annotation
    return _literals(settings.model_fields[last].annotation) if last in settings.model_fields else []


def _literals(annotation: Any) -> list[str]:
    if annotation is bool:
        return ["true", "false"]
    if annotation is type(None):
        return ["null"]
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    return [value for each in get_args(annotation) for value in _literals(each)]
