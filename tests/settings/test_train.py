"""Every mistake in the options becomes one line: what was expected, what was found, what to set."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from mask_lightning.cli.compose import config_dir
from mask_lightning.errors import ConfigError
from mask_lightning.labels import LabelSpace
from mask_lightning.settings.base import check
from mask_lightning.settings.train import TrainSettings

Options = dict[str, Any]


@pytest.fixture(scope="module")
def composed() -> Options:
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        return OmegaConf.to_container(hydra.compose("train"), resolve=True)  # type: ignore[return-value]


def changed(composed: Options, changes: Options) -> Options:
    """A copy with dotted options set."""
    options = copy.deepcopy(composed)
    for path, value in changes.items():
        *sections, name = path.split(".")
        node = options
        for section in sections:
            node = node[section]
        node[name] = value
    return options


PHASE = {"epochs": 1}
PROBE = {"finetune.probe": True, "finetune.phases": []}
PAIRS = {"data.two_per_person": True}

# option, a value that is wrong, and what else the message must hold beside both
WRONG = [
    ("seed", -1, "greater than or equal to 0"),
    ("seed", 2**32, "less than 4294967296"),
    ("seed", "abc", "a valid integer"),
    ("seed", 1.5, "a valid integer"),
    ("outputs", None, "must be a path, got None"),
    ("inspect", "maybe", "true or false"),
    ("data.name", "folders", "'auto', 'competition', "),
    ("data.root", 3, "must be a path, got 3"),
    ("data.portraits", 0, "greater than or equal to 1"),
    ("data.agreed_by", 0, "greater than or equal to 1"),
    ("data.val_fraction", 1.5, "less than 1"),
    ("data.val_fraction", 1.0, "less than 1"),
    ("data.val_fraction", -0.1, "greater than or equal to 0"),
    ("data.val_fraction", math.nan, "less than 1"),
    ("data.split_seed", -3, "greater than or equal to 0"),
    ("data.limit_people", 0, "greater than or equal to 1"),
    ("data.crop_height", 4, "greater than or equal to 8"),
    ("data.crop_width", 7, "greater than or equal to 8"),
    ("data.batch_size", None, "a valid integer"),
    ("data.balanced_by", [], "a list with at least 1 item"),
    ("data.balanced_by", "age", "a valid list"),
    ("data.clean_train_photos", 0, "greater than or equal to 1"),
    ("data.num_workers", -1, "greater than or equal to 0"),
    ("task.tasks", "mask", "a valid list"),
    ("task.tasks.1", 3, "a valid string"),
    ("model.backbone", None, "a valid string"),
    ("model.image_size", 8, "greater than or equal to 32"),
    ("model.image_size", 2000, "less than or equal to 1024"),
    ("model.drop_rate", 1, "less than 1"),
    ("loss.label_smoothing", 1, "less than 1"),
    ("loss.logit_adjustment", -1, "greater than or equal to 0"),
    ("loss.class_weights", "inverse", "'none' or 'balanced'"),
    ("loss.task_weights.mask", -1, "greater than or equal to 0"),
    ("loss.task_weights", None, "a valid dictionary"),
    ("augment.num_ops", 15, "less than or equal to 14"),
    ("augment.magnitude", 31, "less than or equal to 30"),
    ("augment.flip", 1.1, "less than or equal to 1"),
    ("augment.min_area", 0, "greater than 0"),
    ("augment.min_area", 1.5, "less than or equal to 1"),
    ("mix.name", "cutout", "'none', 'mixup', 'cutmix' or 'half_cutmix'"),
    ("mix.alpha", 0, "greater than 0"),
    ("mix.alpha", 101, "less than or equal to 100"),
    ("mix.probability", 0, "greater than 0"),
    ("mix.probability", 1.1, "less than or equal to 1"),
    ("optim.name", "adam", "'adamw', 'ranger' or 'sgd'"),
    ("optim.lr", 0, "greater than 0"),
    ("optim.lr", math.nan, "less than or equal to 100"),
    ("optim.lr", math.inf, "less than or equal to 100"),
    ("optim.lr", "fast", "a valid number or 'auto'"),
    ("range_test.start_lr", 0, "greater than 0"),
    ("range_test.end_lr", 101, "less than or equal to 100"),
    ("range_test.num_steps", 9, "greater than or equal to 10"),
    ("range_test.phase", 0, "greater than or equal to 1"),
    ("range_test.suggestion", "best", "'valley', 'steep', 'slide' or 'minimum'"),
    ("optim.weight_decay", -0.1, "greater than or equal to 0"),
    ("schedule.name", "step", "'one_cycle', 'flat_cosine', 'cosine' or 'constant'"),
    ("finetune.phases", 3, "a valid list"),
    ("finetune.lr_ratio", 0.5, "greater than or equal to 1"),
    ("trainer.accelerator", "tpu", "'auto', 'cpu', 'gpu' or 'mps'"),
    ("trainer.devices", 0, "greater than or equal to 1 or 'auto'"),
    ("trainer.devices", "many", "or 'auto', got 'many'"),
    ("trainer.precision", "fp16", "'auto', '32-true', '16-mixed' or 'bf16-mixed'"),
    ("trainer.validate_every", 0, "greater than or equal to 1 or 'end'"),
    ("trainer.max_batches", 0, "greater than or equal to 1"),
    ("trainer.accumulate", 0, "greater than or equal to 1"),
    ("trainer.clip_norm", 0, "greater than 0"),
    ("averaging.decay", 1, "less than 1"),
    ("averaging.decay", 0, "greater than 0"),
    ("checkpoint.patience", 0, "greater than or equal to 1"),
    ("finetune.layer_decay", 1.5, "less than or equal to 1"),
    ("logger.name", "tb", "'tensorboard', 'csv', 'wandb', 'mlflow', 'trackio' or 'none'"),
]


def message_of(options: Options) -> str:
    with pytest.raises(ConfigError) as caught:
        check(TrainSettings, options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("option", "value", "expected"), WRONG)
def test_a_wrong_value_is_told_with_its_option_and_range(
    composed: Options, option: str, value: Any, expected: str
) -> None:
    section, _, index = option.rpartition(".")
    changes = {section: ["mask", value]} if index == "1" else {option: value}
    message = message_of(changed(composed, changes))
    assert message.startswith(f"{option} must be ")
    assert f"got {value!r}; set {option}" in message
    assert expected in message


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        (
            [{"epochs": 0}, {"epochs": 1, "lr_scale": -1}],
            "finetune.phases.0.epochs must be greater than or equal to 1, got 0; set finetune.phases.0.epochs",
        ),
        (
            [PHASE, {"epochs": 1, "lr_scale": 0}],
            "finetune.phases.1.lr_scale must be greater than 0, got 0; set finetune.phases.1.lr_scale",
        ),
        (
            [{"epochs": 1, "image_size": 16}],
            "finetune.phases.0.image_size must be greater than or equal to 32, got 16; "
            "set finetune.phases.0.image_size",
        ),
        (
            [{"epochs": 1, "unfreeze": {"last": 0}}],
            "finetune.phases.0.unfreeze.last must be greater than or equal to 1, got 0; "
            "set finetune.phases.0.unfreeze.last",
        ),
        (
            [{"epochs": 1, "unfreeze": 3}],
            "finetune.phases.0.unfreeze must be {last: n} or a valid string or a valid list, got 3; "
            "set finetune.phases.0.unfreeze",
        ),
        ([{"unfreeze": "all"}], "option finetune.phases.0.epochs is missing; set it"),
        ([{"epochs": 1, "lr": 1e-3}], "there is no option finetune.phases.0.lr; remove it"),
    ],
)
def test_a_wrong_phase_is_told_by_its_place(composed: Options, phases: list[Options], message: str) -> None:
    assert message_of(changed(composed, {"finetune.phases": phases})) == message


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"colour": 1}, ["there is no option colour", "remove it"]),
        ({"data.colour": 1}, ["there is no option data.colour", "remove it"]),
        ({"data.name": "competition"}, ["needs data.root", "found null", "the folder that holds train/"]),
        ({"data.name": "fairface", "data.root": "faces", "task.tasks": ["mask"]}, ["names 'mask'", "mask_faces draws"]),
        ({"labels": {"name": "face", "tasks": {"smile": ["no", "yes"]}}}, ["labels.tasks are for data=table"]),
        ({"task.tasks": ["mask", "ages"]}, ["task.tasks names 'ages'", "did you mean age?"]),
        ({"range_test.start_lr": 1.0, "range_test.end_lr": 0.1}, ["greater than range_test.start_lr", "got 0.1 and 1"]),
        ({"range_test.phase": 3}, ["one of the 2 of finetune.phases", "got 3", "lower it"]),
        ({"data.crop_height": None}, ["data.crop_height", "got None and 256", "set both"]),
        ({"data.name": "table"}, ["needs data.table", "found null"]),
        ({"data.table": "photos.csv"}, ["beside data=auto", "add data=table"]),
        ({"data.balanced_by": ["ages"]}, ["data.balanced_by names 'ages'", "did you mean age?"]),
        ({"data.balanced_by": ["age"], "task.tasks": ["mask"]}, ["names 'age', no task of this run", "mask"]),
        (
            {"loss.class_weights": "balanced", "loss.logit_adjustment": 0.75},
            ["found balanced and 0.75", "twice", "set loss.logit_adjustment=0, or loss.class_weights=none"],
        ),
        ({"mix.name": "cutmix"}, ["mix=cutmix needs mix.alpha", "found null"]),
        ({"mix.name": "half_cutmix", "mix.alpha": 0.4}, ["for mixup and cutmix", "found 0.4 beside mix=half_cutmix"]),
        ({"mix.alpha": 0.4}, ["for mixup and cutmix", "beside mix=none", "remove it"]),
        ({"loss.task_weights": {"masks": 1.0}}, ["names 'masks'", "did you mean mask?"]),
        (
            {"loss.task_weights": {"mask": 0.0, "gender": 0.0, "age": 0.0}},
            ["0 for every task", "raise one"],
        ),
        (
            {"task.tasks": ["age"], "loss.task_weights": {"mask": 1.0, "age": 0.0}},
            ["0 for every task", "raise one"],
        ),
        ({"member": "age9"}, ["no member 'age9'", "age8"]),
        (
            {"member": "age0", "task.tasks": ["gender"]},
            ["member=age0 learns age", "found task=gender", "leave task out"],
        ),
        ({"member": "balanced0"}, ["balances one task", "found all"]),
        ({"trainer.validate_every": 11}, ["at most the 10 epochs", "got 11", "use `end`"]),
        ({"checkpoint.patience": 2, "data.val_fraction": 0}, ["needs held-out people", "hold some out"]),
        ({"checkpoint.patience": 2, "trainer.validate_every": "end"}, ["trainer.validate_every=end", "to 1"]),
        ({"trainer.devices": 3, "data.batch_size": 5}, ["at least 2 for each of 3 devices, got 5", "lower"]),
        ({"checkpoint.half": True}, ["found checkpoint.keep=both", "set checkpoint.keep=best"]),
        ({"checkpoint.monitor": "val/f2"}, ["got 'val/f2'", "did you mean", "val/f1"]),
        ({"checkpoint.monitor": "val/mask/f1", "task.tasks": ["age"]}, ["got 'val/mask/f1'", "val/age/f1"]),
        ({"checkpoint.monitor": "val/f1", "data.val_fraction": 0}, ["got 'val/f1'", "clean_train/f1"]),
        ({"model.keep_heads": "on"}, ["found model.pretrained=auto", "set model.pretrained=RUN"]),
        ({"allow_leak": True}, ["found none of them", "leave it out"]),
        ({"finetune.phases": []}, ["finetune.phases must have at least one phase", "set finetune=probe"]),
        ({"finetune.probe": True, "head.name": "ordinal"}, ["logit per class, found head=ordinal", "set head=classes"]),
        ({"finetune.probe": True, "head.name": "regression"}, ["found head=regression"]),
        *(
            ({**PROBE, name: value}, ["makes no gradient step", f"found {name}={value}", "set finetune=lp_ft"])
            for name, value in (
                ("loss.focal_gamma", 2.0),
                ("loss.soft_f1", 1.0),
                ("loss.label_smoothing", 0.1),
                ("averaging.decay", 0.99),
                ("checkpoint.patience", 2),
                ("optim.lr", "auto"),
            )
        ),
        ({**PROBE, "weighting": {"name": "uncertainty"}}, ["found weighting=uncertainty"]),
        ({**PROBE, "mix.name": "half_cutmix"}, ["found mix=half_cutmix"]),
        ({**PROBE, "data.extra": "extra.csv"}, ["found data.extra=extra.csv"]),
        ({**PROBE, "distill": ["runs"]}, ["found distill="]),
        ({"augment.trivial": True}, ["found augment.num_ops=3", "augment=trivialaugment"]),
        (
            {"augment.erase": 0.5, "data.device_augment": "on"},
            ["found augment.erase", "set data.device_augment=auto"],
        ),
        ({"data.two_per_person": True, "data.batch_size": 31}, ["even data.batch_size, got 31", "set it to 32"]),
        ({**PAIRS, "data.balanced_by": ["age"]}, ["found data.balanced_by=['age']", "loss=balanced"]),
        ({"loss.consistency": 1.0}, ["found data.two_per_person=false", "set that to true"]),
        ({"loss.consistency_tasks": ["age"]}, ["is for loss.consistency, found 0"]),
        ({**PAIRS, "loss.consistency": 1.0, "mix.name": "half_cutmix"}, ["found mix=half_cutmix", "set mix=none"]),
        ({**PAIRS, "loss.consistency": 1.0, "task.tasks": ["mask"]}, ["found mask", "loss.consistency_tasks"]),
        (
            {**PAIRS, "loss.consistency": 1.0, "loss.consistency_tasks": ["ages"]},
            ["names 'ages', no task of this run", "did you mean age?"],
        ),
    ],
)
def test_what_is_impossible_together_is_told(composed: Options, changes: Options, parts: list[str]) -> None:
    message = message_of(changed(composed, changes))
    for part in parts:
        assert part in message


def test_a_missing_option_is_told(composed: Options) -> None:
    options = copy.deepcopy(composed)
    del options["finetune"]["phases"]
    assert message_of(options) == "option finetune.phases is missing; set it"


@pytest.mark.parametrize(
    ("changes", "option", "want"),
    [
        ({"model.pretrained": True}, "model.pretrained", True),
        ({"model.pretrained": False}, "model.pretrained", False),
        ({"model.pretrained": "weights.pth"}, "model.pretrained", Path("weights.pth")),
        ({"model.pretrained": "run", "model.keep_heads": True}, "model.keep_heads", "on"),
        ({"finetune.probe": True, "finetune.phases": []}, "epochs", 0),
        ({"augment.num_ops": 0, "augment.trivial": True}, "augment.cpu_only", "augment.trivial"),
        ({"optim.library": "timm", "optim.name": "lamb"}, "optim.name", "lamb"),
        ({**PAIRS, "loss.consistency": 0.5}, "loss.consistency_tasks", None),
        ({"member": "mask9"}, "task.tasks", ["mask"]),
        ({"member": "balanced3", "task.tasks": ["gender"]}, "task.tasks", ["gender"]),
        ({"data.root": "~/photos"}, "data.root", Path("~/photos")),
        ({"data.val_fraction": 0}, "data.val_fraction", 0.0),
        ({"optim.betas": [0.8, 0.9]}, "optim.betas", [0.8, 0.9]),
        ({"optim.lr": "auto"}, "optim.lr", "auto"),
        ({"data.balanced_by": ["age", "mask"]}, "data.balanced_by", ["age", "mask"]),
        ({"mix.name": "mixup", "mix.alpha": 0.2}, "mix.alpha", 0.2),
        ({"mix.name": "half_cutmix", "mix.probability": 1}, "mix.probability", 1.0),
        ({"loss.class_weights": "balanced"}, "loss.class_weights", "balanced"),
        ({"trainer.devices": "auto"}, "trainer.devices", "auto"),
        ({"trainer.devices": 2}, "trainer.devices", 2),
        ({"seed": 2**32 - 1}, "seed", 2**32 - 1),
        ({"checkpoint.monitor": "clean_train/age/loss"}, "monitor", "clean_train/age/loss"),
        ({}, "monitor", "val/f1"),
        ({"data.val_fraction": 0}, "monitor", "clean_train/f1"),
        ({"finetune.phases": [PHASE, {"epochs": 4}]}, "epochs", 5),
    ],
)
def test_what_is_right_comes_through(composed: Options, changes: Options, option: str, want: Any) -> None:
    found: Any = check(TrainSettings, changed(composed, changes))
    for name in option.split("."):
        found = getattr(found, name)
    assert found == want
    assert type(found) is type(want)


@pytest.mark.parametrize("unfreeze", ["all", "heads", "block16", ["block1", "heads"], {"last": 6}])
def test_phases_come_back_as_they_were_written(composed: Options, unfreeze: Any) -> None:
    settings = check(TrainSettings, changed(composed, {"finetune.phases": [{"epochs": 2, "unfreeze": unfreeze}]}))
    plain = settings.model_dump(mode="json")
    assert plain["finetune"]["phases"][0]["unfreeze"] == unfreeze
    assert check(TrainSettings, plain) == settings


def test_settings_cannot_be_changed(composed: Options) -> None:
    with pytest.raises(Exception, match="frozen"):
        check(TrainSettings, composed).data.batch_size = 1  # type: ignore[misc]


def test_every_range_of_the_table_is_closed_where_it_says(composed: Options) -> None:
    """The neighbours of the wrong values are right: the table tells the ranges' ends."""
    ends = {"data.crop_height": 8, "model.image_size": 32, "augment.magnitude": 30, "augment.flip": 1.0}
    settings = check(TrainSettings, changed(composed, ends))
    assert (settings.data.crop_height, settings.model.image_size) == (8, 32)
    assert re.fullmatch("30 1.0", f"{settings.augment.magnitude} {settings.augment.flip}")


TABLE = {"data.name": "table", "data.table": "faces.csv"}
SMILE = {"tasks": {"smile": ["no", "yes"], "age": ["young", "old"]}}


def test_what_only_the_table_can_tell_is_checked_when_it_is_read(composed: Options) -> None:
    changes = {**TABLE, "task.tasks": ["smlie"], "checkpoint.monitor": "val/smile/f1"}
    settings = check(TrainSettings, changed(composed, changes))
    assert settings.known_space is None
    space = LabelSpace.from_plain(SMILE["tasks"])
    with pytest.raises(ConfigError, match=r"names 'smlie'.*did you mean smile"):
        settings.choose(space)
    with pytest.raises(ConfigError, match="got 'val/smile/f1'"):
        check(TrainSettings, changed(composed, {**changes, "task.tasks": ["age"]})).choose(space)
    assert check(TrainSettings, changed(composed, {**changes, "task.tasks": None})).choose(space) == space


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task.tasks": ["smlie"]}, "did you mean smile"),
        ({"checkpoint.monitor": "val/mask/f1"}, "got 'val/mask/f1'"),
        ({"loss.task_weights": {"smlie": 2.0}}, "loss.task_weights names 'smlie'; did you mean smile"),
        ({"loss.task_weights": {"smile": 0.0, "age": 0.0, "mask": 1.0}}, "0 for every task"),
    ],
)
def test_a_label_space_of_ones_own_is_checked_at_once(composed: Options, changes: Options, message: str) -> None:
    assert message in message_of(changed(composed, {**TABLE, "labels": SMILE, **changes}))
