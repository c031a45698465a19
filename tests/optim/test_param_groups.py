from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mask_lightning.errors import ConfigError
from mask_lightning.optim.param_groups import (
    build_param_groups,
    discriminative_lrs,
    expand_lrs,
    layer_decay_lrs,
)

REFERENCE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "fastai_reference.json").read_text())
WEIGHT, BIAS, TOKEN, OUT = (nn.Parameter(torch.zeros(s)) for s in ((2, 3), (2,), (1, 1, 3), (4, 2)))
LAYERS = {
    "stem": {"stem.weight": WEIGHT, "stem.bias": BIAS, "stem.token": TOKEN},
    "act": {},
    "head": {"w": OUT},
}


def summary(groups: list[dict[str, Any]]) -> list[tuple[str, list[int], float]]:
    return [(group["name"], [id(p) for p in group["params"]], group["weight_decay"]) for group in groups]


def test_groups_keep_their_order_and_biases_are_not_decayed() -> None:
    groups = build_param_groups(LAYERS, weight_decay=0.1, no_decay={"stem.token", "not there"})
    assert summary(groups) == [
        ("stem", [id(WEIGHT)], 0.1),
        ("stem.no_decay", [id(BIAS), id(TOKEN)], 0.0),
        ("head", [id(OUT)], 0.1),
    ]


def test_only_one_dimensional_parameters_are_not_decayed_by_default() -> None:
    groups = build_param_groups(LAYERS, weight_decay=0.1)
    assert [len(group["params"]) for group in groups] == [2, 1, 1]


def test_torch_accepts_the_groups() -> None:
    optimizer = torch.optim.AdamW(build_param_groups(LAYERS, weight_decay=0.1), lr=1.0)
    assert [group["name"] for group in optimizer.param_groups] == ["stem", "stem.no_decay", "head"]


@pytest.mark.parametrize(
    ("layers", "weight_decay", "message"),
    [
        ({"a": {"w": WEIGHT}, "b": {"v": WEIGHT}}, 0.1, "'v' is in both 'a' and 'b'"),
        ({"a": {"w": WEIGHT, "tied": WEIGHT}}, 0.1, "'tied' is in both 'a' and 'a'"),
        ({"a": {}}, 0.1, "found none"),
        (LAYERS, -1.0, "weight_decay must be in"),
    ],
)
def test_impossible_groups_are_refused(layers: Any, weight_decay: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_param_groups(layers, weight_decay=weight_decay)


def test_discriminative_lrs_equal_fastais() -> None:
    case = REFERENCE["fine_tune_group_max_lrs"]
    high = case["base_lr"] / 2
    lrs = discriminative_lrs(["a", "b", "c"], low=high / case["lr_mult"], high=high)
    assert list(lrs.values()) == pytest.approx(case["unfrozen_phase"], rel=1e-6)
    assert list(lrs) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("names", "low", "high", "want"),
    [
        (["a"], 0.1, 1.0, [1.0]),
        (["a", "b"], 0.1, 1.0, [0.1, 1.0]),
        (["a", "b"], 1.0, 1.0, [1.0, 1.0]),
    ],
)
def test_discriminative_lrs(names: list[str], low: float, high: float, want: list[float]) -> None:
    assert list(discriminative_lrs(names, low=low, high=high).values()) == pytest.approx(want)


def test_layer_decay_lrs() -> None:
    assert layer_decay_lrs(["a", "b", "c"], high=1.0, decay=0.5) == {"a": 0.25, "b": 0.5, "c": 1.0}


@pytest.mark.parametrize(
    ("names", "low", "high"), [(["a"], 2.0, 1.0), (["a"], 0.0, 1.0), (["a"], 0.0, 0.0), ([], 0.1, 1.0)]
)
def test_impossible_slice_is_refused(names: list[str], low: float, high: float) -> None:
    with pytest.raises(ConfigError):
        discriminative_lrs(names, low=low, high=high)


@pytest.mark.parametrize(
    ("names", "high", "decay"),
    [(["a", "a"], 1.0, 0.5), (["a"], 0.0, 0.5), (["a"], 1.0, 0.0), (["a"], 1.0, 1.1)],
)
def test_impossible_layer_decay_is_refused(names: list[str], high: float, decay: float) -> None:
    with pytest.raises(ConfigError):
        layer_decay_lrs(names, high=high, decay=decay)


def test_expand_lrs_includes_groups_without_decay() -> None:
    groups = build_param_groups(LAYERS, weight_decay=0.1)
    assert expand_lrs(groups, {"stem": 0.1}) == {"stem": 0.1, "stem.no_decay": 0.1}


def test_expand_lrs_refuses_an_unknown_name() -> None:
    groups = build_param_groups(LAYERS, weight_decay=0.1)
    with pytest.raises(ConfigError, match="no layer group is called 'heads'; did you mean head"):
        expand_lrs(groups, {"heads": 0.1})
