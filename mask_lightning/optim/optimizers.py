"""Optimizers that can be chosen by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import timm.optim
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

NOT_FROM_TIMM = ["adahessian", "bnb*", "fused*", "kron*"]
"""Left out: adahessian needs second derivatives, kron compiles itself, the others need CUDA and further packages."""


def timm_optimizers() -> list[str]:
    """Return the names of timm's optimizers that can be chosen.

    timm's `lookahead_` prefix is none of them: the wrapper cannot be resumed exactly; `optim=ranger` has Lookahead.

    Example:
        >>> {"lamb", "lion"} <= set(timm_optimizers()), "fusedlamb" in timm_optimizers()
        (True, False)
    """
    return [str(name) for name in timm.optim.list_optimizers(exclude_filters=NOT_FROM_TIMM)]  # type: ignore[attr-defined]


def make_optimizer(param_groups: Sequence[dict[str, Any]], settings: OptimSettings) -> Optimizer:
    """Build an optimizer of `OPTIMIZERS`, or of timm's factory, by name.

    Args:
        param_groups: see `optim.param_groups.build_param_groups`; a group's own weight_decay has precedence.
        settings: `library`, `name`, a numeric `lr`, `weight_decay`, and arguments of that optimizer.

    Raises:
        ConfigError: timm has no such optimizer, or the optimizer has no such option, or refuses a value.

    Example:
        >>> group = {"name": "heads", "params": [torch.nn.Parameter(torch.zeros(2))]}
        >>> settings = OptimSettings(name="sgd", lr=0.1, weight_decay=0.0, momentum=0.9)
        >>> make_optimizer([group], settings).param_groups[0]["momentum"]
        0.9
    """
    build, kind = _find(settings)
    options, title = settings.options, f"optim{'.name' if settings.library == 'timm' else ''}={settings.name}"
    known = set(inspect.signature(kind).parameters) - {"params"}
    for option in options:
        if option not in known:
            raise ConfigError(f"{title} takes no option {option}; {did_you_mean(option, known)}")
    try:
        for beta in options.get("betas", ()):
            check_range("each of optim.betas", beta, "[0, 1)")  # pytorch_ranger does not check them
        return build(list(param_groups), lr=settings.lr, weight_decay=settings.weight_decay, **options)
    except (ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"{title} refuses its options ({error}); correct them") from error


def _find(settings: OptimSettings) -> tuple[Callable[..., Optimizer], Callable[..., Optimizer]]:
    """Return the function that builds the optimizer, and its class, whose arguments are the options."""
    if settings.library == "own":
        kind = OPTIMIZERS[settings.name]
        return kind, kind
    known = timm_optimizers()
    if settings.name not in known:
        raise ConfigError(
            f"timm {timm.__version__} has no optimizer {settings.name!r} that can be used here; "
            f"{did_you_mean(settings.name, known)}"
        )
    kind = timm.optim.get_optimizer_class(settings.name, bind_defaults=False)  # type: ignore[attr-defined]
    return partial(timm.optim.create_optimizer_v2, opt=settings.name), kind  # type: ignore[attr-defined]


def check_optimizer(settings: OptimSettings, *, moves_momentum: bool = False) -> None:
    """Raise ConfigError if `make_optimizer` would refuse the settings, or a schedule moves a momentum that it lacks."""
    lr = 1.0 if settings.lr == "auto" else settings.lr
    optimizer = make_optimizer([{"params": [torch.zeros(1)]}], settings.model_copy(update={"lr": lr}))
    if moves_momentum and not {"betas", "momentum"} & set(optimizer.param_groups[0]):
        raise ConfigError(
            f"the schedule moves momentum, but {type(optimizer).__name__} has none; set schedule.moms=null"
        )


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
