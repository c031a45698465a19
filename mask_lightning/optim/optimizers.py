"""Optimizers that can be chosen by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from mask_lightning.errors import ConfigError, did_you_mean
from mask_lightning.optim.ranger import Ranger
from mask_lightning.settings.base import check_range
from mask_lightning.settings.optim import OptimSettings

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": torch.optim.AdamW,  # Loshchilov and Hutter 2019, "Decoupled weight decay regularization", arXiv:1711.05101
    "ranger": Ranger,
    "sgd": torch.optim.SGD,
}
"""Name in `optim=` -> optimizer; its arguments are the options that a config may set."""


def make_optimizer(param_groups: Sequence[dict[str, Any]], settings: OptimSettings) -> Optimizer:
    """Build an optimizer of `OPTIMIZERS` by name.

    Args:
        param_groups: see `optim.param_groups.build_param_groups`; a group's own weight_decay has precedence.
        settings: `name`, a numeric `lr`, `weight_decay`, and arguments of that optimizer.

    Raises:
        ConfigError: the optimizer has no such option, or refuses a value.

    Example:
        >>> group = {"name": "heads", "params": [torch.nn.Parameter(torch.zeros(2))]}
        >>> settings = OptimSettings(name="sgd", lr=0.1, weight_decay=0.0, momentum=0.9)
        >>> make_optimizer([group], settings).param_groups[0]["momentum"]
        0.9
    """
    build, options = OPTIMIZERS[settings.name], settings.options
    known = set(inspect.signature(build).parameters) - {"params"}
    for option in options:
        if option not in known:
            raise ConfigError(f"optim={settings.name} takes no option {option}; {did_you_mean(option, known)}")
    try:
        for beta in options.get("betas", ()):
            check_range("each of optim.betas", beta, "[0, 1)")  # pytorch_ranger does not check them
        return build(list(param_groups), lr=settings.lr, weight_decay=settings.weight_decay, **options)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"optim={settings.name} refuses its options ({error}); correct them") from error


def check_optimizer(settings: OptimSettings) -> None:
    """Raise ConfigError if `make_optimizer` would refuse the settings."""
    make_optimizer([{"params": [torch.zeros(1)]}], settings)


def count_state_tensors(settings: OptimSettings) -> int:
    """Return how many tensors of a parameter's shape the optimizer keeps per parameter, to estimate checkpoint sizes.

    Example:
        >>> count_state_tensors(OptimSettings(name="adamw", lr="auto", weight_decay=0.01))
        2
    """
    param = torch.nn.Parameter(torch.zeros(2))
    param.grad = torch.ones(2)
    optimizer = make_optimizer([{"params": [param]}], settings.model_copy(update={"lr": 1.0}))
    optimizer.step()
    state = optimizer.state[param].values()
    return sum(isinstance(value, torch.Tensor) and value.shape == param.shape for value in state)
