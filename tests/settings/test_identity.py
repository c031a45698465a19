"""Which options make a run another run."""

from __future__ import annotations

from functools import cache

import hydra
import pytest
from omegaconf import OmegaConf

from mask_lightning.cli.compose import config_dir
from mask_lightning.settings.base import check
from mask_lightning.settings.identity import config_hash, flatten, identity
from mask_lightning.settings.train import TrainSettings


@cache
def compose(*overrides: str) -> TrainSettings:
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = hydra.compose("train", list(overrides))
    return check(TrainSettings, OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "overrides",
    [
        ["outputs=elsewhere"],
        ["data.root=photos"],
        ["data.corrections=corrections.csv"],
        ["data.num_workers=3"],
        ["data.cache=off", "data.cache_dir=elsewhere"],
        ["model.compile=true"],
        ["checkpoint.every_minutes=3"],
        ["data.device_augment=on"],
        ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.progress=false"],
        ["resume=outputs/runs/run"],
        ["skip_done=false"],
        ["optim.lr=0.002"],  # as it is
    ],
)
def test_paths_device_and_workers_make_no_other_run(overrides: list[str]) -> None:
    assert config_hash(compose(*overrides)) == config_hash(compose())


@pytest.mark.parametrize(
    "override",
    ["seed=1", "task=age", "model=lite0", "optim.lr=0.01", "finetune.epochs=3", "+schedule.pct_start=0.5"],
)
def test_other_options_do(override: str) -> None:
    assert config_hash(compose(override.replace("+schedule.pct_start", "schedule.pct_start"))) != config_hash(compose())


def test_a_hash_is_short_and_does_not_depend_on_the_process() -> None:
    assert len(config_hash(compose())) == 16
    kept = flatten(identity(compose()))
    assert {"seed", "model.backbone", "finetune.phases.0.epochs", "optim.lr", "optim.betas"} <= set(kept)
    assert not {"outputs", "data.root", "data.corrections", "trainer.devices"} & set(kept)


def test_options_become_dotted_names() -> None:
    options = {"a": {"b": 1, "c": {}}, "d": [1, 2], "phases": [{"epochs": 1}, {"epochs": 2}]}
    assert flatten(options) == {"a.b": 1, "a.c": {}, "d": [1, 2], "phases.0.epochs": 1, "phases.1.epochs": 2}
