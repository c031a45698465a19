"""What fastai suggests on its own curves, and what is said of curves that suggest nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mask_lightning.callbacks.lr_range_test import (
    RangeTestResult,
    minimum,
    slide,
    steep,
    suggest,
    usable,
    valley,
)
from mask_lightning.callbacks.lr_suggestions import is_past_lowest
from mask_lightning.errors import NoSuggestionError

REFERENCE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "fastai_reference.json").read_text())[
    "lr_suggestions"
]
CURVES = REFERENCE["curves"]
RULES = {"valley": valley, "steep": steep, "slide": slide, "minimum": minimum}


def result_of(losses: Any, *, num_steps: int = 100, stopped: Any = "diverged") -> RangeTestResult:
    """The curve of a sweep like those of the reference; raw losses are those whose debiased average it is."""
    steps = np.arange(len(losses))
    lrs = REFERENCE["start_lr"] * (REFERENCE["end_lr"] / REFERENCE["start_lr"]) ** (steps / REFERENCE["num_it"])
    averages = np.asarray(losses, dtype=float) * (1 - 0.98 ** (steps + 1))
    raw = np.diff(averages, prepend=0) / 0.02 + np.concatenate([[0.0], averages])[:-1]
    values = (tuple(np.asarray(each, dtype=float).tolist()) for each in (lrs, losses, raw))
    return RangeTestResult(*values, num_steps, stopped, 0)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("curve", CURVES, ids=[f"{i}-{curve['kind']}" for i, curve in enumerate(CURVES)])
def test_a_rule_gives_what_fastai_gives(curve: dict[str, Any], rule: str) -> None:
    result = result_of(curve["losses"])
    points = usable(result.lrs, result.losses, num_steps=100)
    assert RULES[rule](*points) == pytest.approx(curve["suggestions"][rule], rel=1e-6)


@pytest.mark.parametrize("curve", CURVES, ids=[f"{i}-{curve['kind']}" for i, curve in enumerate(CURVES)])
def test_all_four_are_suggested_but_of_a_flat_curve(curve: dict[str, Any]) -> None:
    result = result_of(curve["losses"])
    if curve["kind"] == "flat":
        with pytest.raises(NoSuggestionError, match=r"flat: .* set the lr by hand"):
            suggest(result)
    else:
        found = suggest(result)
        assert {rule: getattr(found, rule) for rule in RULES} == pytest.approx(curve["suggestions"], rel=1e-6)


def test_usable_points_are_those_that_fastai_takes() -> None:
    lrs, losses = usable(range(40), range(40, 80), num_steps=100)
    assert lrs.tolist() == list(range(10, 35))
    assert losses.tolist() == list(range(50, 75))


STEPS = np.linspace(0, 1, 100)
NOISE = np.random.default_rng(0).normal(0, 0.01, 100)


@pytest.mark.parametrize(
    ("losses", "reason", "remedy"),
    [
        (np.full(100, 1.7), "flat", "set the lr by hand"),
        (1.7 + NOISE, "flat", "set the lr by hand"),
        (1.7 + NOISE + 5 * (STEPS > 0.9), "flat", "set the lr by hand"),
        (1.7 + STEPS, "rising", "lower start_lr"),
        (1.7 + STEPS + NOISE, "rising", "lower start_lr"),
        (np.exp(3 * STEPS), "rising", "lower start_lr"),
        (1.7 - STEPS[:18], "too short", "found 3; lower start_lr, or raise num_steps"),
        ([1.7], "too short", "found 0"),
        ([math.nan], "NaN", "the loss is nan at step 1; check photos"),
        ([2.0, math.inf], "NaN", "the loss is inf at step 2"),
        (np.where(STEPS > 0.5, math.nan, 1.7), "NaN", "at step 51"),
    ],
)
def test_what_carries_no_suggestion_is_told(losses: Any, reason: str, remedy: str) -> None:
    with pytest.raises(NoSuggestionError, match=f"no learning rate suggestion, {reason}: .*{remedy}") as caught:
        suggest(result_of(losses))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "losses",
    [
        1.7 - 0.05 * np.clip(STEPS - 0.5, 0, 0.3),  # little, but clearly
        1.7 - np.clip(STEPS - 0.5, 0, 0.3) + NOISE,
        -1.7 - np.clip(STEPS - 0.5, 0, 0.3),
        [*(1.7 - STEPS[:80]), math.nan],  # the last points are not used
        np.linspace(2, 1, 19),
    ],
)
def test_what_falls_carries_one(losses: Any) -> None:
    result = result_of(losses, num_steps=len(losses))
    found = suggest(result)
    assert all(result.lrs[0] / 10 < getattr(found, rule) <= result.lrs[-1] for rule in RULES)


def smoothed(raw: Any) -> list[float]:
    """The debiased moving average, by its definition."""
    weights = 0.98 ** np.arange(len(raw))
    return [float(np.average(raw[: i + 1], weights=weights[: i + 1][::-1])) for i in range(len(raw))]


@pytest.mark.parametrize("seed", range(5))
def test_heads_alone_on_noisy_batches_carry_one(seed: int) -> None:
    """The smoothed loss falls by 5 % only, the raw one by twice its noise."""
    raw = 1.05 - 0.16 * ((STEPS > 0.4) & (STEPS < 0.6)) + 4 * (STEPS > 0.9)
    suggest(result_of(smoothed(raw + np.random.default_rng(seed).normal(0, 0.08, 100))))


@pytest.mark.parametrize("seed", range(5))
def test_chance_alone_suggests_nothing(seed: int) -> None:
    """A smoothed walk of batches that teach nothing."""
    raw = 2.5 + np.random.default_rng(seed).normal(0, 0.1, 100)
    with pytest.raises(NoSuggestionError):
        suggest(result_of(smoothed(raw), stopped="completed"))


def test_what_a_divergence_offers_is_known() -> None:
    """The loss is lowest at step 50, and falls fastest in the noise after it."""
    losses = np.concatenate([np.linspace(2, 1, 51), 3 + 1.5 * (np.arange(40) % 2)])
    result = result_of(losses)
    found = suggest(result)
    assert is_past_lowest(result, found.steep)
    assert not is_past_lowest(result, found.valley)
