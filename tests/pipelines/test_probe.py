"""Linear probes: the run that one leaves, and fine-tuning that starts with one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_runs import TINY_RUN, prepared, without_figures

from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.errors import ConfigError, SplitError
from mask_lightning.inference.predict import predict
from mask_lightning.inference.trained import load_trained
from mask_lightning.pipelines.find_lr import find_lr
from mask_lightning.pipelines.photos import find_photos
from mask_lightning.pipelines.probe import fit_probe
from mask_lightning.pipelines.train import train_run
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.train import TrainSettings

Compose = Callable[..., TrainSettings]


@pytest.fixture
def compose(settings: Compose, competition: Path, tmp_path: Path) -> Compose:
    fixed = (*TINY_RUN, "data.clean_train_photos=28", f"outputs={tmp_path}", f"data.root={competition}")
    return lambda *overrides: settings(*fixed, *overrides)


def test_a_probe_leaves_a_run_that_predicts_as_it_was_scored(compose: Compose, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    options = compose("finetune=probe", "loss.logit_adjustment=0.5", "checkpoint.keep=best")
    with without_figures():
        result = train_run(options, folder.path)
    assert (result.status, result.best_epoch) == ("finished", 1)
    assert set(result.probe["strengths"]) == {"mask", "gender", "age"}
    assert 0 <= result.probe["scores"]["f1"] <= 1
    assert pd.read_csv(folder.metrics)["val/f1"].tolist() == [pytest.approx(result.score)]
    assert not folder.last.exists()
    val = find_photos(options).split.val
    trained = load_trained(folder.path, torch.device("cpu"))
    found = predict(trained, val, num_workers=0)
    for task in ("mask", "gender", "age"):
        accuracy = (found.probs[task].argmax(axis=1) == val[task].to_numpy()).mean()
        assert result.best[f"val/{task}/accuracy"] == pytest.approx(accuracy, abs=1.5 / len(val))


def heads_after(options: TrainSettings) -> MultiTaskModule:
    run = prepared(options)
    module = run.build_pretrained_module()
    fit_probe(run, module)
    return module


def test_logit_adjustment_moves_the_biases_by_the_log_frequencies(compose: Compose) -> None:
    plain, adjusted = (heads_after(compose("finetune=probe", *more)) for more in ([], ["loss.logit_adjustment=0.5"]))
    for task, counts in plain.hparams["class_counts"].items():
        first, second = (module.network.head(task).linear for module in (plain, adjusted))
        assert torch.equal(first.weight, second.weight)
        want = -0.5 * np.log(np.array(counts) / np.sum(counts))
        np.testing.assert_allclose((second.bias - first.bias).detach(), want, atol=1e-5)


def test_networks_with_a_backbone_per_task_are_probed(compose: Compose) -> None:
    module = heads_after(compose("finetune=probe", "sharing=none", "task.tasks=[mask,gender]"))
    assert all(module.network.head(task).linear.weight.isfinite().all() for task in ("mask", "gender"))


def test_a_task_of_one_class_is_refused(compose: Compose) -> None:
    run = prepared(compose("finetune=probe"))
    train = run.photos.split.train.assign(gender=1)
    photos = replace(run.photos, split=replace(run.photos.split, train=train), targets=train)
    run = replace(run, photos=photos)
    with pytest.raises(SplitError, match="training people of two classes of gender, found female only; leave the task"):
        fit_probe(run, run.build_module())


def test_find_lr_needs_a_phase(compose: Compose, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found finetune=probe, which has none"):
        find_lr(compose("finetune=probe"), tmp_path)


def test_fine_tuning_starts_from_the_probe(compose: Compose, tmp_path: Path) -> None:
    """With a tiny lr the heads stay where the probe has put them."""
    tuned = compose("finetune=lp_ft", "finetune.epochs=1", "optim.lr=1e-9", "augment=none")
    with without_figures():
        result = train_run(tuned, tmp_path / "run")
    assert result.probe["strengths"]
    module = load_trained(tmp_path / "run", torch.device("cpu")).module
    for task, head in heads_after(tuned).network.heads.items():
        torch.testing.assert_close(module.network.head(task).linear.weight, head.linear.weight, atol=1e-5, rtol=0)
    assert RunFolder(tmp_path / "run").last.is_file()
