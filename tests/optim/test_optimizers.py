from __future__ import annotations

from io import BytesIO
from typing import Any, get_args

import pytest
import torch
from torch import nn

from mask_lightning.errors import ConfigError
from mask_lightning.optim.optimizers import (
    OPTIMIZERS,
    check_optimizer,
    count_state_tensors,
    make_optimizer,
    timm_optimizers,
)
from mask_lightning.optim.ranger import Ranger
from mask_lightning.settings.base import check
from mask_lightning.settings.optim import OptimSettings, OwnOptimizer

TIMM = {"library": "timm"}


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
        ({**TIMM, "name": "lamd"}, r"timm .* has no optimizer 'lamd' .*; did you mean .*lamb"),
        ({**TIMM, "name": "fusedadam"}, "has no optimizer 'fusedadam' that can be used here"),
        ({**TIMM, "name": "lookahead_adam"}, "has no optimizer 'lookahead_adam'"),
        (
            {**TIMM, "name": "lamb", "betass": [0.9, 0.9]},
            r"optim\.name=lamb takes no option betass; did you mean betas",
        ),
        ({**TIMM, "name": "lion", "betas": [0.9, 2.0]}, r"each of optim\.betas must be in \[0, 1\), got 2\.0"),
        ({"name": "ranger", "k": 0}, r"optim=ranger refuses its options \(.*0"),
    ],
)
def test_unknown_options_and_values_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_optimizer(check(OptimSettings, {"lr": 0.1, "weight_decay": 0.0, **options}))


def test_every_choice_of_the_settings_has_an_optimizer() -> None:
    assert set(OPTIMIZERS) == set(get_args(OwnOptimizer))


@pytest.mark.parametrize(
    ("name", "options", "want"),
    [("adamw", {}, 2), ("ranger", {}, 3), ("sgd", {"momentum": 0.9}, 1), ("sgd", {}, 0)],
)
def test_state_tensors_per_parameter(name: str, options: dict[str, Any], want: int) -> None:
    assert count_state_tensors(OptimSettings(name=name, lr="auto", weight_decay=0.0, **options)) == want


def run_steps(name: str, *, start: int, stop: int, state: bytes | None = None) -> tuple[list[torch.Tensor], bytes]:
    """Take steps with one of timm's optimizers; the first group gets no gradient before step 2, as a frozen one."""
    torch.manual_seed(0)
    weights = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(4))
    param_groups = [{"name": str(i), "params": [each], "weight_decay": 0.1 * i} for i, each in enumerate(weights)]
    optimizer = make_optimizer(param_groups, OptimSettings(library="timm", name=name, lr=0.01, weight_decay=0.0))
    if state is not None:
        saved = torch.load(BytesIO(state), weights_only=True)
        optimizer.load_state_dict(saved["optimizer"])
        for weight, value in zip(weights, saved["weights"], strict=True):
            weight.data.copy_(value)
    for step in range(start, stop):
        inputs = torch.randn(2, 3, generator=torch.Generator().manual_seed(step))

        def closure(inputs: torch.Tensor = inputs, step: int = step) -> torch.Tensor:
            optimizer.zero_grad()
            loss = (inputs @ (weights[0].detach() if step < 2 else weights[0]) + weights[1]).square().mean()
            loss.backward()
            return loss

        assert optimizer.step(closure) is not None, "Lightning needs the loss"
    buffer = BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "weights": [each.detach() for each in weights]}, buffer)
    return [each.detach() for each in weights], buffer.getvalue()


@pytest.mark.parametrize("name", timm_optimizers())
def test_every_optimizer_of_timm_resumes_exactly_and_keeps_the_groups_weight_decay(name: str) -> None:
    whole, _ = run_steps(name, start=0, stop=6)
    _, state = run_steps(name, start=0, stop=3)
    resumed, _ = run_steps(name, start=3, stop=6, state=state)
    assert all(map(torch.equal, whole, resumed))
    saved = torch.load(BytesIO(state), weights_only=True)["optimizer"]["param_groups"]
    assert [(group["name"], group["weight_decay"]) for group in saved] == [("0", 0.0), ("1", 0.1)]


def test_a_schedule_of_momentum_needs_an_optimizer_with_one() -> None:
    settings = OptimSettings(library="timm", name="adafactor", lr=0.1, weight_decay=0.0)
    check_optimizer(settings)
    with pytest.raises(ConfigError, match="the schedule moves momentum, but Adafactor has none; set sched"):
        check_optimizer(settings, moves_momentum=True)
