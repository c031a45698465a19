"""Named parameter groups from a model's layer groups, each with its own weight decay and learning rate."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn

from mask_lightning.errors import ConfigError, did_you_mean
from mask_lightning.optim.curves import check_range

NO_DECAY = ".no_decay"
"""Ends the name of the param group with a layer group's undecayed half."""


def build_param_groups(
    layer_groups: Mapping[str, Mapping[str, nn.Parameter]],
    *,
    weight_decay: float,
    no_decay: Collection[str] = (),
) -> list[dict[str, Any]]:
    """An optimizer's param groups, two per layer group: "block3" and, undecayed, "block3.no_decay".

    Args:
        layer_groups: layer group -> param name -> param, ordered from the image up.
        weight_decay: of all params but biases, norms (at most one dimension) and those in `no_decay`.
        no_decay: full param names; those that no group holds are ignored, since timm lists some in vain.

    Returns:
        dicts with "name", "params" and "weight_decay", in the order given, empty ones left out.

    Raises:
        ConfigError: two groups share a param, or there is none at all.
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
    """fastai's `slice(low, high)`: lrs in equal factors from the first layer group to the last.

    A single layer group gets `high`. Raises ConfigError unless 0 < low <= high and the names are distinct.
    """
    _check_names(names)
    check_range("high", high, "(0, inf)")
    check_range("low", low, f"(0, {high}]", "give the lr of the first layer group, at most that of the last")
    ratio, last = low / high, max(len(names) - 1, 1)
    return {name: high * ratio ** (above / last) for name, above in _from_the_top(names)}


def layer_decay_lrs(names: Sequence[str], *, high: float, decay: float) -> dict[str, float]:
    """`high` for the last layer group, and `decay` (in (0, 1]) times that for each group further down.

    Raises ConfigError for a value out of range or a name given twice.
    """
    _check_names(names)
    check_range("high", high, "(0, inf)")
    check_range("decay", decay, "(0, 1]")
    return {name: high * decay**above for name, above in _from_the_top(names)}


def expand_lrs(param_groups: Sequence[Mapping[str, Any]], layer_lrs: Mapping[str, float]) -> dict[str, float]:
    """Lrs of param groups from those of layer groups: "block3.no_decay" follows "block3".

    A param group whose layer group has no lr is left out. Raises ConfigError for an unknown layer group.
    """
    layers = {group["name"]: str(group["name"]).removesuffix(NO_DECAY) for group in param_groups}
    known = list(dict.fromkeys(layers.values()))
    for name in layer_lrs:
        if name not in known:
            raise ConfigError(f"no layer group is called {name!r}; {did_you_mean(name, known)}")
    return {name: layer_lrs[layer] for name, layer in layers.items() if layer in layer_lrs}


def _from_the_top(names: Sequence[str]) -> list[tuple[str, int]]:
    return [(name, len(names) - 1 - index) for index, name in enumerate(names)]


def _check_names(names: Sequence[str]) -> None:
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"expected layer groups with distinct names, got {list(names)}; name each once")


def _check_disjoint(layer_groups: Mapping[str, Mapping[str, nn.Parameter]]) -> None:
    owners: dict[int, str] = {}
    for name, params in layer_groups.items():
        for key, param in params.items():
            if id(param) in owners:
                raise ConfigError(f"param {key!r} is in both {owners[id(param)]!r} and {name!r}; keep it in one")
            owners[id(param)] = name
