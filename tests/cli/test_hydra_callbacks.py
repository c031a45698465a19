"""Size of the checkpoints of a multirun, printed before it starts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
import timm
from omegaconf import DictConfig, OmegaConf

from mask_lightning.cli import hydra_callbacks
from mask_lightning.cli.compose import config_dir, store_defaults
from mask_lightning.cli.hydra_callbacks import DiskSpace, list_jobs, settings_bytes, size_overrides
from mask_lightning.settings.base import check
from mask_lightning.settings.train import TrainSettings


@pytest.fixture(autouse=True)
def hydra_in_conf() -> Iterator[None]:
    store_defaults(TrainSettings)
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        yield


def config(*overrides: str) -> DictConfig:
    """Compose as Hydra does for a multirun: without the overrides that differ between jobs."""
    fixed = [override for override in overrides if "," not in override]
    composed = hydra.compose("train", fixed, return_hydra_config=True)
    OmegaConf.set_readonly(composed.hydra, False)
    composed.hydra.overrides.task = list(overrides)
    return composed


def need(*overrides: str) -> hydra_callbacks.CheckpointBytes:
    values: Any = OmegaConf.to_container(hydra.compose("train", list(overrides)), resolve=True)
    return settings_bytes(check(TrainSettings, values))


WEIGHTS = 4 * sum(tensor.numel() for tensor in timm.create_model("test_resnet", num_classes=8).state_dict().values())


@pytest.mark.parametrize(
    ("overrides", "copies", "training"),
    [
        ([], 2 * 3, 0),  # weights and AdamW's two moments, in both checkpoints
        (["optim=sgd"], 2 * 2, 0),
        (["averaging=ema"], 2 * 4, 0),
        (["checkpoint.keep=best"], 1, 5),
        (["checkpoint.keep=best", "checkpoint.half=true"], 0.5, 5.5),
    ],
)
def test_the_bytes_of_a_job(overrides: list[str], copies: float, training: float) -> None:
    found = need("model.backbone=test_resnet", "model.image_size=32", *overrides)
    assert found.finished == pytest.approx(copies * WEIGHTS, rel=0.02)
    assert found.training == pytest.approx(training * WEIGHTS, rel=0.01)


@pytest.mark.parametrize(
    ("overrides", "count", "distinct"),
    [
        (["seed=0,1,2", "data.batch_size=8,16"], 6, {()}),
        (["model=lite0,lite2", "seed=0,1"], 4, {("model=lite0",), ("model=lite2",)}),
    ],
)
def test_jobs_with_the_same_size_options_share_an_estimate(
    overrides: list[str], count: int, distinct: set[Any]
) -> None:
    jobs = list_jobs(config(*overrides))
    assert (len(jobs), set(map(size_overrides, jobs))) == (count, distinct)


def test_optuna_trials_are_counted_with_the_fixed_overrides() -> None:
    typed = ("sweeper=optuna", "model=lite0", "hydra.sweeper.n_trials=7")
    composed = config(*typed)
    composed.hydra.overrides.task = ["sweeper=optuna", "model=lite0", "optim.lr=interval(1e-4,1e-2)"]
    assert list_jobs(composed) == [["sweeper=optuna", "model=lite0"]] * 7


@pytest.mark.parametrize(
    ("ensemble", "members"), [("age", 9), ("mask", 10), ("gender", 3), ("all", 22), ("folds", 5), ("seeds", 5)]
)
def test_every_member_of_an_ensemble_is_counted_and_keeps_one_checkpoint(ensemble: str, members: int) -> None:
    composed = config(f"ensemble={ensemble}")
    assert len(list_jobs(composed)) == members
    assert composed.checkpoint.keep == "best"


def test_typed_seeds_replace_those_of_an_ensemble() -> None:
    assert len(list_jobs(config("ensemble=seeds", "seed=5,6,7"))) == 3


def test_the_need_is_printed_with_a_warning_if_the_disk_is_too_small(tmp_path: Path, monkeypatch, capsys) -> None:
    composed = config("model=lite0", "ensemble=gender", f"outputs={tmp_path}/new")
    DiskSpace().on_multirun_start(composed)
    message = capsys.readouterr().err
    assert message.startswith("3 jobs: their checkpoints need up to 41.")  # lite0: 3.4 million parameters
    assert "MB in the end" in message
    assert "may not be enough" not in message
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10**7}))
    DiskSpace().on_multirun_start(composed)
    assert "10.0 MB are free\nthis may not be enough" in capsys.readouterr().err


def test_invalid_options_are_left_to_the_jobs(capsys) -> None:
    DiskSpace().on_multirun_start(config("model=lite0,lite9"))
    assert capsys.readouterr().err == ""
