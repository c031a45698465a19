"""Options of sharing and weighting that do not fit are refused."""

from __future__ import annotations

from functools import cache

import hydra
import pytest
from omegaconf import OmegaConf

from mask_lightning.cli.compose import config_dir
from mask_lightning.errors import ConfigError
from mask_lightning.settings.base import check
from mask_lightning.settings.train import TrainSettings


@cache
def compose(*overrides: str) -> TrainSettings:
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = hydra.compose("train", list(overrides))
    return check(TrainSettings, OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sharing=cross_stitch", "task=age"], "sharing=cross_stitch joins .*, found age alone; set sharing=hard"),
        (["sharing=cross_stitch", "member=age0"], "found age alone"),
        (
            ["weighting=uncertainty", "task=mask"],
            "weighting=uncertainty weighs .*, found mask alone; set weighting=fixed",
        ),
        (
            ["weighting=dwa", "loss.task_weights.age=2"],
            r"found loss.task_weights.age=2; set that to 1, or weighting=fi",
        ),
        (["+sharing.own=0.5"], "sharing.own is for sharing=cross_stitch, found 0.5 beside sharing=hard; remove it"),
        (["sharing=cross_stitch", "+sharing.squeeze=2"], "sharing.squeeze is for sharing=attention"),
        (["+weighting.temperature=1"], "weighting.temperature is for weighting=dwa, found 1.0 beside weighting=fixed"),
        (["sharing=cross_stitch", "sharing.own=1.5"], "sharing.own must be less than or equal to 1, got 1.5"),
        (["sharing=attention", "sharing.squeeze=0"], "sharing.squeeze must be greater than or equal to 1"),
        (["weighting=dwa", "weighting.temperature=0"], "weighting.temperature must be greater than 0"),
    ],
)
def test_what_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(*overrides)


def test_what_a_module_is_told() -> None:
    assert compose().sharing.options == {"name": "hard"}
    assert compose("sharing=cross_stitch").sharing.options == {"name": "cross_stitch", "own": 0.9}
    assert compose("sharing=attention", "task=age").sharing.options == {"name": "attention", "squeeze": 4}
    assert compose("weighting=dwa").weighting.options == {"name": "dwa", "temperature": 2.0}
