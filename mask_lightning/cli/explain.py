"""Explain errors of Hydra, OmegaConf and this package in one line each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from mask_lightning.errors import MaskLightningError, did_you_mean, one_line

PLUGINS = {  # choice -> extra of this package that installs it
    ("hydra/launcher", "joblib"): "joblib",
    ("hydra/launcher", "submitit_slurm"): "slurm",
}


def explain(error: Exception, option_values: Callable[[], Mapping[str, Any]]) -> str:
    """Describe an error in one line that says what to do.

    Args:
        error: this package's errors keep their message, others are shortened.
        option_values: returns all options by dotted name; called only to suggest similar ones.
    """
    if isinstance(error, MaskLightningError):
        return str(error)
    if isinstance(error, OverrideParseException):
        reason, typed = one_line(str(error).splitlines()[0]), one_line(error.override)
        return f"cannot read {typed} ({reason}); write key=value, and key='\"value\"' around special characters"
    if isinstance(error, MissingConfigException) and error.options:
        return one_line(_unknown_choice(error))
    if not isinstance(error, (HydraException, OmegaConfBaseException)):
        return one_line(f"{type(error).__name__}: {error}")
    text = str(error)
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        key = one_line(unknown[1].split("@")[0])
        return f"there is no option {key}; {_suggest_option(key, option_values())}"
    return one_line("\n".join(text.splitlines()[:2]))


def _suggest_option(key: str, options: Mapping[str, Any]) -> str:
    """Return the most similar options; the value of the first one, and what to type to change it."""
    text = did_you_mean(key, options)
    nearest = re.match(r"did you mean (\S+?)(?:\?| or )", text)
    value = options.get(nearest[1]) if nearest else None
    if nearest is None or value is None:
        return text
    return f"{text} {nearest[1]} is {value} now; type {nearest[1]}=VALUE to change it"


def first_line(error: Exception) -> str:
    """Return the error's type and the first line of its message that is not a ruler."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -")]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _unknown_choice(error: MissingConfigException) -> str:
    group, _, choice = str(error.missing_cfg_file or "").rpartition("/")
    if (group, choice) in PLUGINS:
        return f"{group}={choice} needs a plugin; pip install 'mask_lightning[{PLUGINS[group, choice]}]'"
    choices = [option for option in error.options or () if not option.startswith("_")]
    text = f"{group}={choice} is not one of the choices; {did_you_mean(choice, choices)}"
    return (
        f"{text} For another backbone of timm: model.backbone={choice} model.image_size=null"
        if group == "model"
        else text
    )
