"""Write the arguments of a command as Hydra reads them: flags in order, and paths in quotes.

Hydra does not read `a=b`, `faces(1)`, `2024` or `얼굴` as text, and refuses `-m` between overrides.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Quote, QuotedString
from hydra.errors import HydraException
from pydantic import BaseModel

from mask_lightning.errors import ConfigError

OF_HYDRA = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
KEPT = ("", "null", "???")  # values that are no paths
FLAGS_MULTIRUN = ("--multirun", "-m")
FLAGS = (
    "--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--package", "-p", "--run", "-r",
    *FLAGS_MULTIRUN, "--shell-completion", "-sc", "--config-path", "-cp", "--config-name", "-cn",
    "--config-dir", "-cd", "--experimental-rerun", "--info", "-i",
)  # fmt: skip


def order_flags(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with `-m` in front, because argparse refuses it between overrides.

    Raises:
        ConfigError: a flag that Hydra does not have, such as `--lr`.

    Example:
        >>> order_flags(["model=lite0", "-m", "seed=1,2"])
        ['-m', 'model=lite0', 'seed=1,2']
    """
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name.startswith("-") and name not in FLAGS:
            option = name.lstrip("-").replace("-", "_")
            raise ConfigError(
                f"expected options as option=value without dashes, found {argument}; write {option}={value or 'VALUE'}"
            )
    return sorted(arguments, key=lambda argument: argument not in FLAGS_MULTIRUN)


def quote_paths(arguments: Sequence[str], settings: type[BaseModel], *, multirun: bool = False) -> list[str]:
    """Return the arguments of a command with quotes around paths that Hydra would not read as text.

    Interpolations (`${outputs}/a`), quoted values and `null` stay as they are. In a multirun commas separate values.

    Args:
        arguments: overrides and other arguments, as typed.
        settings: class that declares the options.
        multirun: True if Hydra will run several jobs.

    Raises:
        ConfigError: in a multirun, a value with a comma is the name of an existing file; the message says what to type.

    Example:
        >>> from mask_lightning.settings.train import TrainSettings
        >>> quote_paths(["data.root=a=b", "outputs=runs", "seed=1,2"], TrainSettings)
        ["data.root='a=b'", 'outputs=runs', 'seed=1,2']
    """
    options = {**dict.fromkeys(OF_HYDRA, (Path,)), **dict(path_options(settings))}
    return [_quote_argument(argument, options, multirun) for argument in arguments]


def path_options(settings: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the dotted name of every option that may be a path, and the types that it may have."""
    for name, field in settings.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from path_options(field.annotation, f"{prefix}{name}.")
        elif Path in kinds or list[Path] in kinds:
            yield f"{prefix}{name}", kinds


def _quote_argument(argument: str, options: dict[str, tuple[Any, ...]], multirun: bool) -> str:
    match = re.fullmatch(r"(\+{0,2}([\w.]+)=)(.*)", argument, re.DOTALL)
    if match is None or match[2] not in options:
        return argument
    key, value = match[1], match[3]
    kinds = options[match[2]]
    if bool in kinds and value.lower() in ("true", "false"):
        return argument
    if list[Path] in kinds and value.startswith("[") and value.endswith("]") and not os.path.lexists(value):
        return f"{key}[{_quote_each(value[1:-1])}]"
    if multirun and "," in value:
        return key + _quote_values(key, value)
    return key + quote_path(value)


def _quote_values(key: str, value: str) -> str:
    """Quote the values of a multirun. Raises ConfigError if they may be one path."""
    if _is_quoted(value):
        return value
    if os.path.lexists(value):
        one, several = (shlex.quote(key + text) for text in (_quote(value), ",".join(map(_quote, value.split(",")))))
        raise ConfigError(
            f"{key}{value} is one path or several values of a multirun; for the path type {one}, for several values "
            f"{several}"
        )
    return value if _is_function(value) else _quote_each(value)


def _quote_each(values: str) -> str:
    """Quote the values between commas, unless Hydra reads all of them as text."""
    read = _read(f"[{values}]")
    if isinstance(read, list) and all(isinstance(each, (str, QuotedString)) for each in read):
        return values
    return ",".join(quote_path(value) for value in values.split(","))


def quote_path(value: str) -> str:
    """Return the value with quotes unless Hydra reads it as this text, or it is quoted or an interpolation.

    Example:
        >>> [quote_path(value) for value in ("faces", "a=b", "2024", "${outputs}/a")]
        ['faces', "'a=b'", "'2024'", '${outputs}/a']
    """
    if value.lower() in KEPT or "${" in value or _is_quoted(value):
        return value
    read, exists = _read(value), os.path.lexists(value)
    is_text = isinstance(read, str) and (read == value or not exists)
    return value if is_text or (_is_function(value) and not exists) else _quote(value)


def _quote(value: str) -> str:
    return QuotedString(value, Quote.single).with_quotes()


_parser = cache(OverridesParser.create)


def _read(value: str) -> Any:
    """Return what Hydra reads; None if it cannot read the value."""
    try:
        return _parser().parse_override(f"key={value}").value()
    except HydraException:
        return None


def _is_quoted(value: str) -> bool:
    return value[:1] in ("'", '"') and value[-1:] == value[:1] and _read(value) is not None


def _is_function(value: str) -> bool:
    """Return True for Hydra's functions, such as `choice(a,b)` and `glob(*)`; `faces(1)` is none."""
    read = _read(value) if re.match(r"\w+\(", value) else None
    return read is not None and not (isinstance(read, ChoiceSweep) and read.simple_form)
