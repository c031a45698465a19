"""Every file below conf/ composes into settings that hold, and that the code behind them takes."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import pytest
import timm
import torch
import yaml
from omegaconf import OmegaConf

from mask_lightning.cli.compose import config_dir
from mask_lightning.models.network import MultiTaskNetwork
from mask_lightning.optim.optimizers import check_optimizer
from mask_lightning.optim.phases import group_lrs, phase_schedule, trainable_groups
from mask_lightning.optim.schedules import one_cycle
from mask_lightning.settings.base import check
from mask_lightning.settings.ensembles import ENSEMBLES
from mask_lightning.settings.optim import RangeTestSettings
from mask_lightning.settings.train import TrainSettings

CONF = config_dir()
TRAIN: dict[str, Any] = yaml.safe_load((CONF / "train.yaml").read_text())
GROUPS = [group for entry in TRAIN["defaults"] if isinstance(entry, dict) for group in entry]
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
CHOICES = [
    f"{group}={path.stem}"
    for group in GROUPS
    for path in sorted((CONF / group).glob("*.yaml"))
    if group != "experiment" and not path.stem.startswith("_")
]

EVERY_MEMBER = tuple(member for ensemble in ENSEMBLES.values() for member in ensemble.members)  # 22

NEEDS = {  # choices that make no sense alone
    "data=competition": "data.root=photos",
    "data=folder": "data.root=photos",
    "data=utkface": "data.root=photos",
    "data=fairface": "data.root=photos",
    "data=packed": "data.root=packed",
    "data=table": "data.table=photos.csv",
    "ensemble=folds": "data.fold=0",
    "experiment=from_faces": "model.pretrained=RUN",
}


@pytest.fixture(scope="module", autouse=True)
def hydra_in_conf() -> Iterator[None]:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def compose(*overrides: str) -> dict[str, Any]:
    """Compose overrides into plain values, with the options that they need."""
    return copy.deepcopy(composed((*overrides, *(NEEDS[override] for override in overrides if override in NEEDS))))


@cache
def composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    config = OmegaConf.to_container(hydra.compose("train", list(overrides)), resolve=True)
    assert isinstance(config, dict)
    return config  # type: ignore[return-value]


def settle(config: dict[str, Any]) -> TrainSettings:
    """Validate a config, also with the optimizer and the schedule that it names."""
    settings = check(TrainSettings, config)
    check_optimizer(settings.optim)
    for phase in settings.finetune.phases:
        phase_schedule(phase, settings.schedule)
    assert timm.is_model(settings.model.backbone)
    return settings


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    elif not (isinstance(node, (str, list)) and "${" in str(node)):
        yield path, node


def test_the_lists_of_files_are_not_empty() -> None:
    assert "quick" in EXPERIMENTS
    assert {"model=resnet34", "model=effb2", "task=age", "data=competition", "optim=ranger"} <= set(CHOICES)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_composes_and_its_values_win(experiment: str) -> None:
    config = compose(f"experiment={experiment}")
    settle(config)
    written = yaml.safe_load((CONF / "experiment" / f"{experiment}.yaml").read_text())
    written.pop("defaults", None)
    written.pop("hydra", None)
    for path, value in leaves(written):
        found: Any = config
        for key in path:
            found = found[key]
        assert found == value or found == float(value), f"{'.'.join(path)} of the experiment is overridden"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_command_line_wins_over_an_experiment(experiment: str) -> None:
    config = compose(f"experiment={experiment}", "model=effb2", "data.val_fraction=0.31", "optim.lr=0.0123")
    assert config["model"]["backbone"] == "efficientnet_b2"
    assert (config["data"]["val_fraction"], config["optim"]["lr"]) == (0.31, 0.0123)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_says_no_more_than_there_is(choice: str) -> None:
    config = compose(choice)
    settle(config)
    for path, value in leaves(config):
        # YAML 1.1 reads 1e-6 as text; an optimizer would fail with it in its first step.
        number = isinstance(value, str) and re.fullmatch(r"-?[\d.]+(e-?\d+)?", value)
        assert not number, f"{'.'.join(path)} is the text {value!r}"


@pytest.mark.parametrize(
    ("ensemble", "members"),
    [*((name, ensemble.members) for name, ensemble in ENSEMBLES.items()), ("all", EVERY_MEMBER)],
)
def test_an_ensemble_sweeps_all_its_members_once(ensemble: str, members: tuple[str, ...]) -> None:
    params = yaml.safe_load((CONF / "ensemble" / f"{ensemble}.yaml").read_text())["hydra"]["sweeper"]["params"]
    assert [member.strip() for member in params["member"].split(",")] == list(members)
    for member in members:
        settled = settle(compose(f"member={member}"))
        assert settled.task.tasks == [member.rstrip("0123456789")]


def test_the_members_of_the_ensemble_of_seeds_hold_out_the_same_people() -> None:
    members = [settle(compose("ensemble=seeds", f"seed={seed}")) for seed in (0, 4)]
    assert [member.seed for member in members] == [0, 4]
    assert {member.data.split_seed for member in members} == {0}


@cache
def layer_groups(backbone: str) -> list[str]:
    with torch.device("meta"):
        return list(MultiTaskNetwork(backbone, {"mask": 3}).layer_groups())


@pytest.mark.parametrize("model", [choice for choice in CHOICES if choice.startswith("model=")])
@pytest.mark.parametrize("finetune", [choice for choice in CHOICES if choice.startswith("finetune=")])
def test_every_model_has_the_layer_groups_that_phases_open(model: str, finetune: str) -> None:
    settings = settle(compose(model, finetune))
    names = layer_groups(settings.model.backbone)
    for phase in settings.finetune.phases:
        assert "heads" in trainable_groups(phase, names)


@pytest.mark.parametrize(
    ("overrides", "want"),
    [
        (
            [],
            {
                "model.backbone": "resnet34",
                "model.image_size": 224,
                "task.tasks": None,
                "data.name": "auto",
                "data.root": None,
                "data.portraits": 60,
                "data.crop_height": 380,
                "data.crop_width": 256,
                "augment.num_ops": 3,
                "augment.magnitude": 6,
                "finetune.phases.0.unfreeze": {"last": 6},
                "finetune.phases.1.unfreeze": "all",
            },
        ),
        (
            ["model=effb2", "task=age"],
            {
                "model.backbone": "efficientnet_b2",
                "model.image_size": 260,
                "optim.name": "ranger",
                "task.tasks": ["age"],
            },
        ),
        (["model=lite0"], {"model.backbone": "tf_efficientnet_lite0", "model.image_size": 224}),
        (["model=lite2"], {"model.backbone": "tf_efficientnet_lite2", "model.image_size": 260}),
        (["model=effb2", "optim=adamw"], {"optim.name": "adamw"}),
        (["seed=7"], {"seed": 7, "data.split_seed": 7}),
        (["seed=7", "data.split_seed=1"], {"data.split_seed": 1}),
    ],
)
def test_the_recipes_are_those_of_the_original_entry(overrides: list[str], want: dict[str, Any]) -> None:
    config = compose(*overrides)
    for path, value in want.items():
        found: Any = config
        for key in path.split("."):
            found = found[int(key)] if isinstance(found, list) else found[key]
        assert found == value, path


FASTAI: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "fastai_reference.json").read_text())


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "flat_cosine", "constant"])
def test_finetune_fastai_is_fastais_fine_tune(schedule: str) -> None:
    """Whatever the run's schedule: fine_tune always runs one-cycles, of these two shapes."""
    case = FASTAI["fine_tune_group_max_lrs"]
    options = [f"optim.lr={case['base_lr']}", f"finetune.lr_ratio={case['lr_mult']}"]
    settings = settle(compose("finetune=fastai", f"schedule={schedule}", *options))
    assert settings.finetune.lr_ratio == compose("finetune=fastai")["finetune"]["lr_ratio"]
    frozen, whole = settings.finetune.phases
    names = ["body", "neck", "heads"]
    assert group_lrs(frozen, names, settings.optim.lr) == {"heads": case["frozen_phase"][-1]}
    assert list(group_lrs(whole, names, settings.optim.lr).values()) == pytest.approx(case["unfrozen_phase"], rel=1e-6)
    shapes = [phase_schedule(phase, settings.schedule) for phase in (frozen, whole)]
    assert shapes == [one_cycle(pct_start=0.99), one_cycle(pct_start=0.3, div=5.0)]


def test_find_lr_takes_every_option_of_train() -> None:
    overrides = ["experiment=quick", "model=effb2", "optim.lr=auto"]
    configs = [
        OmegaConf.to_container(hydra.compose(command, overrides), resolve=True) for command in ("train", "find_lr")
    ]
    assert configs[0] == configs[1]


def test_the_range_tests_options_are_those_of_the_code() -> None:
    assert settle(compose()).range_test == RangeTestSettings()
