"""From options to a checkpoint that is used: every kind of sharing, weights of the tasks that move, a transformer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_runs import ONE_EPOCH, TINY_RUN, prepared, settings_for

from mask_lightning.callbacks.checkpoints import LastCheckpoint
from mask_lightning.callbacks.progress import EpochHistory
from mask_lightning.data.index import read_index
from mask_lightning.engine import trainer as trainers
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.ensemble.soups import SoupMember, uniform_soup
from mask_lightning.errors import ConfigError
from mask_lightning.inference.heat_maps import heat_maps
from mask_lightning.inference.predict import predict
from mask_lightning.inference.trained import Trained, load_trained
from mask_lightning.labels import FACE
from mask_lightning.pipelines import train as runs
from mask_lightning.settings.train import TrainSettings

TINY = (
    *TINY_RUN,
    *ONE_EPOCH,
    "model.image_size=64",
    "data.batch_size=16",
    "data.clean_train_photos=14",
    "trainer.max_batches=2",
)


@pytest.fixture
def compose(competition: Path, tmp_path: Path) -> Callable[..., TrainSettings]:
    fixed = (*TINY, f"data.root={competition}", f"outputs={tmp_path}")
    return partial(settings_for, "train", TrainSettings, *fixed)


def train(settings: TrainSettings, folder: Path) -> Trained:
    """Train as a run does, without figures, and load the network as another process does."""
    run = prepared(settings)
    module, data = run.build_pretrained_module(), run.build_data()
    learning = [*trainers.learning_callbacks(data, module), *trainers.selection_callbacks(settings, module)]
    keeping = [EpochHistory(folder / "metrics.csv"), LastCheckpoint(folder / "last.ckpt")]
    with trainers.without_advice():
        trainers.make_trainer(settings, folder, [*learning, *keeping]).fit(module, data)
    return load_trained(folder / "last.ckpt", torch.device("cpu"))


def check_uses(trained: Trained, competition: Path) -> None:
    """Predict, explain, average with itself, and compare with the module that Lightning loads."""
    rows = read_index(competition).iloc[:4].reset_index(drop=True)
    predictions = predict(trained, rows, num_workers=0)
    assert {task: probs.shape for task, probs in predictions.probs.items()} == {
        task.name: (4, task.num_classes) for task in FACE.tasks
    }
    maps = heat_maps(trained, rows, {task: np.zeros(4, np.int64) for task in FACE.names})
    assert {maps[task].ndim for task in FACE.names} == {3}
    assert all(each.min() >= 0 and each.max() <= 1 for each in maps.values())
    soup = uniform_soup([SoupMember(name, trained, 0.5) for name in "ab"], rows).network.module
    for name, parameter in soup.named_parameters():
        torch.testing.assert_close(parameter, trained.module.get_parameter(name))
    path = trained.source.checkpoint
    again = MultiTaskModule.load_from_checkpoint(path, weights_only=True, map_location="cpu").eval()
    images = torch.zeros(1, 3, trained.spec.size, trained.spec.size)
    with torch.no_grad():
        for task, outputs in again(images).items():
            torch.testing.assert_close(outputs, trained.module(images)[task])


@pytest.mark.parametrize(
    ("sharing", "weighting"),
    [("cross_stitch", "fixed"), ("attention", "fixed"), ("none", "fixed"), ("hard", "uncertainty"), ("hard", "dwa")],
)
def test_a_network_is_trained_kept_and_used(
    compose, competition: Path, tmp_path: Path, sharing: str, weighting: str
) -> None:
    trained = train(compose(f"sharing={sharing}", f"weighting={weighting}", "averaging=ema"), tmp_path)
    check_uses(trained, competition)
    assert trained.module.hparams["network"]["sharing"]["name"] == sharing
    weights = {f"train/{task}/weight" for task in FACE.names}
    assert weights & set(pd.read_csv(tmp_path / "metrics.csv")) == (set() if weighting == "fixed" else weights)


def test_weights_that_are_learned_have_the_heads_lr_and_no_decay(compose, tmp_path: Path) -> None:
    trained = train(compose("weighting=uncertainty", "finetune.phases.0.unfreeze=heads"), tmp_path)
    log_variances = trained.module.weighting.log_variances
    assert log_variances.any()
    optimizer = torch.load(tmp_path / "last.ckpt", weights_only=True)["optimizer_states"][0]
    groups = {group["name"]: group for group in optimizer["param_groups"]}
    assert groups["heads.no_decay"]["weight_decay"] == 0
    assert len(groups["heads.no_decay"]["params"]) == 3 + 1  # the heads' biases, and the log variances


def test_units_are_frozen_with_their_block(compose, tmp_path: Path) -> None:
    """Below the last block they have, for each channel alike, the shares of the start."""
    trained = train(compose("sharing=cross_stitch", "finetune.phases.0.unfreeze={last: 1}"), tmp_path)
    shares = {name: value for name, value in trained.module.state_dict().items() if name.endswith("shares")}
    assert {name.split("units.")[1][0] for name, value in shares.items() if len(value.unique()) > 2} == {"3"}


def test_a_transformer_at_another_size(compose, competition: Path, tmp_path: Path) -> None:
    settings = compose("model.backbone=test_vit", "model.image_size=128", "data.batch_size=4", "optim.lr=1e-4")
    trained = train(settings, tmp_path)
    assert trained.spec.size == 128
    check_uses(trained, competition)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.image_size=128", "+finetune.phases.0.image_size=64"],
            r"image_size 64, found .*=test_vit, .* one size",
        ),
        (["sharing=attention"], r"expected a backbone of stages .*found VisionTransformer"),
    ],
)
def test_what_a_transformer_cannot_do_is_told_before_training(compose, tmp_path: Path, overrides, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        runs.train_run(compose("model.backbone=test_vit", *overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()
