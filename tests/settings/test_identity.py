"""Which options make a run another run."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf

from mask_lightning.cli.compose import config_dir
from mask_lightning.settings.base import check
from mask_lightning.settings.identity import ADDED, config_hash, flatten, identity
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
        ["data.crop=centre", "data.margin=0.25", "data.keep_aspect=false"],  # as they are
        [
            "augment.erase=0",
            "loss.consistency=0",
            "model.keep_heads=auto",
            "model.pretrained=auto",
            "+optim.library=own",
        ],
    ],
)
def test_paths_device_and_workers_make_no_other_run(overrides: list[str]) -> None:
    assert config_hash(compose(*overrides)) == config_hash(compose())


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "task=age",
        "model=lite0",
        "optim.lr=0.01",
        "finetune.epochs=3",
        "schedule.pct_start=0.5",
        "data.crop=face",
        "data.extra=nowhere.csv",
        "distill=nowhere",
        "model.pretrained=nowhere",
        "model.pretrained=false",
        "finetune.probe=true",
    ],
)
def test_other_options_do(override: str) -> None:
    assert config_hash(compose(override)) != config_hash(compose())


def test_a_hash_is_short_and_does_not_depend_on_the_process() -> None:
    assert len(config_hash(compose())) == 16
    kept = flatten(identity(compose()))
    assert {"seed", "model.backbone", "finetune.phases.0.epochs", "optim.lr", "optim.betas"} <= set(kept)
    assert not {"outputs", "data.root", "data.corrections", "trainer.devices"} & set(kept)


def test_an_added_option_counts_only_where_it_changes_something() -> None:
    assert not ADDED & set(flatten(identity(compose())))
    changed = flatten(identity(compose("data.crop=face", "data.margin=0.5")))
    assert ADDED & set(changed) == {"data.crop", "data.margin"}
    assert set(flatten(compose().model_dump())) >= ADDED, "all exist"


def test_options_become_dotted_names() -> None:
    options = {"a": {"b": 1, "c": {}}, "d": [1, 2], "phases": [{"epochs": 1}, {"epochs": 2}]}
    assert flatten(options) == {"a.b": 1, "a.c": {}, "d": [1, 2], "phases.0.epochs": 1, "phases.1.epochs": 2}


def test_teachers_and_further_photos_count_by_content(tmp_path: Path) -> None:
    """No fingerprint represents them, and a path may lead to other files tomorrow."""
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "checkpoints" / "best.ckpt").write_bytes(content)
        (tmp_path / f"{name}.csv").write_bytes(content)
    for option in ("distill", "model.pretrained"):
        hashes = [config_hash(compose(f"{option}={tmp_path}/{name}")) for name in "abc"]
        assert hashes[0] == hashes[1] != hashes[2]
    hashes = [config_hash(compose(f"distill={tmp_path}/{name}")) for name in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]
    assert config_hash(compose(f"distill=[{tmp_path}/a,{tmp_path}/c]")) == config_hash(compose(f"distill={tmp_path}"))
    hashes = [config_hash(compose(f"data.extra={tmp_path}/{name}.csv")) for name in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]
    more = f"data.extra={tmp_path}/a.csv", "data.extra_weight=0.5"
    assert config_hash(compose(*more)) != hashes[0]
