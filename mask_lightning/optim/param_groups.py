"""Named param groups from a model's layer groups, and a learning rate for each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn

from mask_lightning.errors import ConfigError, did_you_mean
from mask_lightning.settings.base import check_range

NO_DECAY = ".no_decay"
"""Suffix of the param group with a layer group's parameters that are not decayed."""


def build_param_groups(
    layer_groups: Mapping[str, Mapping[str, nn.Parameter]],
    *,
    weight_decay: float,
    no_decay: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Build an optimizer's param groups, two per layer group: "block3", and "block3.no_decay" without weight decay.

    Args:
        layer_groups: layer group -> parameter name -> parameter, from the image up.
        weight_decay: of all parameters except biases, norms (at most one dimension) and those in `no_decay`.
        no_decay: full parameter names. Names that no group holds are ignored, because timm lists some.

    Returns:
        dicts with "name", "params" and "weight_decay", in the order of `layer_groups`, without empty ones.

    Raises:
        ConfigError: two groups share a parameter, or there is none at all.

    Example:
        >>> groups = build_param_groups({"heads": dict(nn.Linear(4, 2).named_parameters())}, weight_decay=0.01)
        >>> [(group["name"], group["weight_decay"]) for group in groups]
        [('heads', 0.01), ('heads.no_decay', 0.0)]
    """
    check_range("weight_decay", weight_decay, "[0, inf)")
    _check_disjoint(layer_groups)
    param_groups = []
    for name, params in layer_groups.items():
        plain = {key for key, param in params.items() if param.ndim <= 1 or key in no_decay}
        decayed = [param for key, param in params.items() if key not in plain]
        undecayed = [param for key, param in params.items() if key in plain]
        param_groups += [
            {"name": name, "params": decayed, "weight_decay": weight_decay},
            {"name": name + NO_DECAY, "params": undecayed, "weight_decay": 0.0},
        ]
    filled = [group for group in param_groups if group["params"]]
    if not filled:
        raise ConfigError(f"expected params in the layer groups {list(layer_groups)}, found none; check the model")
    return filled


def discriminative_lrs(names: Sequence[str], *, low: float, high: float) -> dict[str, float]:
    """Return a learning rate per layer group, evenly spaced in log lr, as fastai's `slice(low, high)`.

    Source: Howard and Ruder 2018, "Universal language model fine-tuning for text classification", arXiv:1801.06146,
    section 3.2.

    Args:
        names: layer groups, from the image up.
        low: lr of the first group, above 0.
        high: lr of the last group, at least `low`. A single group gets this.

    Raises:
        ConfigError: a value is out of range, or the names are not distinct.

    Example:
        >>> discriminative_lrs(["stem", "block1", "heads"], low=0.25, high=1.0)
        {'stem': 0.25, 'block1': 0.5, 'heads': 1.0}
    """
    _check_names(names)
    check_range("high", high, "(0, inf)")
    check_range("low", low, f"(0, {high}]", "give the lr of the first layer group, at most that of the last")
    ratio, last = low / high, max(len(names) - 1, 1)
    return {name: high * ratio ** (above / last) for name, above in _count_above(names)}


def layer_decay_lrs(names: Sequence[str], *, high: float, decay: float) -> dict[str, float]:
    """Return a learning rate per layer group: each group has `decay` times the lr of the next one.

    Source: Clark et al. 2020, "ELECTRA: pre-training text encoders as discriminators rather than generators",
    arXiv:2003.10555.

    Args:
        names: layer groups, from the image up.
        high: lr of the last group, above 0.
        decay: in (0, 1].

    Raises:
        ConfigError: a value is out of range, or the names are not distinct.

    Example:
        >>> layer_decay_lrs(["stem", "block1", "heads"], high=1.0, decay=0.5)
        {'stem': 0.25, 'block1': 0.5, 'heads': 1.0}
    """
    _check_names(names)
    check_range("high", high, "(0, inf)")
    check_range("decay", decay, "(0, 1]")
    return {name: high * decay**above for name, above in _count_above(names)}


def expand_lrs(param_groups: Sequence[Mapping[str, Any]], layer_lrs: Mapping[str, float]) -> dict[str, float]:
    """Return a learning rate per param group from learning rates per layer group.

    Args:
        param_groups: see `build_param_groups`; "block3.no_decay" gets the lr of "block3".
        layer_lrs: layer group -> lr. Param groups of other layer groups are left out of the result.

    Raises:
        ConfigError: `layer_lrs` names an unknown layer group.

    Example:
        >>> expand_lrs([{"name": "stem"}, {"name": "heads"}, {"name": "heads.no_decay"}], {"heads": 0.1})
        {'heads': 0.1, 'heads.no_decay': 0.1}
    """
    layers = {group["name"]: str(group["name"]).removesuffix(NO_DECAY) for group in param_groups}
    known = list(dict.fromkeys(layers.values()))
    for name in layer_lrs:
        if name not in known:
            raise ConfigError(f"no layer group is called {name!r}; {did_you_mean(name, known)}")
    return {name: layer_lrs[layer] for name, layer in layers.items() if layer in layer_lrs}


def _count_above(names: Sequence[str]) -> list[tuple[str, int]]:
    """Return each name with the number of layer groups that follow it."""
    return [(name, len(names) - 1 - index) for index, name in enumerate(names)]


def _check_names(names: Sequence[str]) -> None:
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"expected layer groups with distinct names, got {list(names)}; name each once")


def _check_disjoint(layer_groups: Mapping[str, Mapping[str, nn.Parameter]]) -> None:
    group_of: dict[int, str] = {}
    for name, params in layer_groups.items():
        for key, param in params.items():
            if id(param) in group_of:
                raise ConfigError(f"param {key!r} is in both {group_of[id(param)]!r} and {name!r}; keep it in one")
            group_of[id(param)] = name
