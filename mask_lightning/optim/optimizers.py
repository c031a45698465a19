"""The optimizers that can be chosen by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from mask_lightning.errors import ConfigError, did_you_mean
from mask_lightning.optim.curves import check_range
from mask_lightning.optim.ranger import Ranger

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": torch.optim.AdamW,  # Loshchilov & Hutter 2019
    "ranger": Ranger,
    "sgd": torch.optim.SGD,
}


def check_optimizer(*, name: str, lr: float, weight_decay: float, **options: Any) -> None:
    """Raises ConfigError for an unknown name, an option that the optimizer does not take, or a value it refuses."""
    make_optimizer([{"params": [torch.zeros(1)]}], name=name, lr=lr, weight_decay=weight_decay, **options)


def make_optimizer(param_groups: Sequence[dict[str, Any]], *, name: str, lr: float, **options: Any) -> Optimizer:
    """The optimizer `name` of OPTIMIZERS over named param groups.

    Raises:
        ConfigError: unknown name, an option that this optimizer does not take, or a value that it refuses.
    """
    if name not in OPTIMIZERS:
        raise ConfigError(f"no optimizer {name!r}; {did_you_mean(name, OPTIMIZERS)}")
    known = set(inspect.signature(OPTIMIZERS[name]).parameters) - {"params"}
    for option in options:
        if option not in known:
            raise ConfigError(f"optim={name} takes no option {option}; {did_you_mean(option, known)}")
    try:
        for beta in options.get("betas", ()):
            check_range("each of optim.betas", beta, "[0, 1)")  # pytorch_ranger does not look
        return OPTIMIZERS[name](list(param_groups), lr=lr, **options)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"optim={name} refuses its options ({error}); correct them") from error
