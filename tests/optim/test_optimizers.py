from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import nn

from mask_lightning.errors import ConfigError
from mask_lightning.optim.optimizers import OPTIMIZERS, check_optimizer, count_state_tensors, make_optimizer
from mask_lightning.optim.ranger import Ranger
from mask_lightning.settings.base import check
from mask_lightning.settings.optim import OptimSettings


def groups() -> list[dict[str, Any]]:
    return [
        {"name": "low", "params": [nn.Parameter(torch.ones(2))], "weight_decay": 0.1},
        {"name": "high", "params": [nn.Parameter(torch.ones(3))], "weight_decay": 0.0},
    ]


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("adamw", {"betas": [0.8, 0.9]}, torch.optim.AdamW),
        ("sgd", {"momentum": 0.8, "nesterov": True}, torch.optim.SGD),
        ("ranger", {"betas": [0.8, 0.9], "k": 5, "alpha": 0.4}, Ranger),
    ],
)
def test_options_reach_the_optimizer_except_weight_decay_of_groups(
    name: str, options: dict[str, Any], kind: type
) -> None:
    optimizer = make_optimizer(groups(), OptimSettings(name=name, lr=0.25, weight_decay=0.05, **options))
    assert type(optimizer) is kind
    assert [(group["name"], group["weight_decay"]) for group in optimizer.param_groups] == [("low", 0.1), ("high", 0.0)]
    for option, value in options.items():
        found = optimizer.param_groups[1].get(option)
        assert (list(found) if isinstance(found, tuple) else found) == value
    assert optimizer.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_descends_with_the_options_that_all_have(name: str) -> None:
    check_optimizer(OptimSettings(name=name, lr=0.1, weight_decay=0.01))
    param = nn.Parameter(torch.tensor([2.0, -3.0]))
    optimizer = make_optimizer([{"params": [param]}], OptimSettings(name=name, lr=0.01, weight_decay=0.0))
    for _ in range(20):
        optimizer.zero_grad()
        (param**2).sum().backward()
        optimizer.step()
    assert (param**2).sum() < 13


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "adam"}, "name must be 'adamw', 'ranger' or 'sgd', got 'adam'"),
        ({"name": "lamb"}, "name must be 'adamw', 'ranger' or 'sgd', got 'lamb'"),
        ({"name": "adamw", "momentum": 0.9}, "optim=adamw takes no option momentum; "),
        ({"name": "sgd", "momentun": 0.9}, r"optim=sgd takes no option momentun; did you mean momentum\?"),
        ({"name": "sgd", "params": []}, "optim=sgd takes no option params"),
        ({"name": "sgd", "nesterov": True}, r"optim=sgd refuses its options \(Nesterov"),
        ({"name": "adamw", "betas": [0.9, 1.5]}, r"each of optim\.betas must be in \[0, 1\), got 1\.5"),
        ({"name": "adamw", "betas": 0.9}, "optim=adamw refuses its options"),
        ({"name": "adamw", "eps": "small"}, "optim=adamw refuses its options"),
        ({"name": "ranger", "betas": [0.9, 2.0]}, r"each of optim\.betas must be in \[0, 1\), got 2\.0"),
        ({"name": "ranger", "alpha": 1.5}, r"optim=ranger refuses its options \(.*1\.5"),
        ({"name": "ranger", "k": 0}, r"optim=ranger refuses its options \(.*0"),
    ],
)
def test_unknown_options_and_values_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_optimizer(check(OptimSettings, {"lr": 0.1, "weight_decay": 0.0, **options}))


def test_every_choice_of_the_settings_has_an_optimizer() -> None:
    assert set(OPTIMIZERS) == set(get_args(OptimSettings.model_fields["name"].annotation))


@pytest.mark.parametrize(
    ("name", "options", "want"),
    [("adamw", {}, 2), ("ranger", {}, 3), ("sgd", {"momentum": 0.9}, 1), ("sgd", {}, 0)],
)
def test_state_tensors_per_parameter(name: str, options: dict[str, Any], want: int) -> None:
    assert count_state_tensors(OptimSettings(name=name, lr="auto", weight_decay=0.0, **options)) == want
