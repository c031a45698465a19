"""Runs that start from the weights of another run: what they take over, record and refuse."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_runs import ONE_EPOCH, TINY_RUN, interrupt, without_figures

from mask_lightning.errors import SplitError, WeightsError
from mask_lightning.pipelines.prepare import choose_transform
from mask_lightning.pipelines.train import resume_run, train_run
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.identity import config_hash
from mask_lightning.settings.train import TrainSettings

Compose = Callable[..., TrainSettings]
MEAN = (0.1, 0.2, 0.3)


@pytest.fixture
def compose(settings: Compose, competition: Path, tmp_path: Path) -> Compose:
    fixed = (*TINY_RUN, "data.clean_train_photos=28", f"outputs={tmp_path}", f"data.root={competition}")
    return lambda *overrides: settings(*fixed, *overrides)


@pytest.fixture
def first(compose: Compose, tmp_path: Path) -> Path:
    """Run whose photos were normalised otherwise than timm's weights expect."""
    with without_figures():
        train_run(compose("finetune=probe"), tmp_path / "first")
    path = tmp_path / "first" / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["transform"]["mean"] = list(MEAN)
    torch.save(content, path)
    return tmp_path / "first"


def test_weights_normalisation_and_lineage_are_taken_over(compose: Compose, first: Path, tmp_path: Path) -> None:
    settings = compose(*ONE_EPOCH, f"model.pretrained={first}")
    with without_figures(), pytest.MonkeyPatch.context() as patch:
        interrupt(patch, 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            train_run(settings, tmp_path / "second")
    record = RunFolder(tmp_path / "second").read_result()
    assert record.weights == f"from scratch -> {first}"
    assert record.config_hash == config_hash(settings)
    known = record.pretrained
    assert (known["run"], known["weights"], known["heads"]) == (str(first), "from scratch", ["mask", "gender", "age"])
    assert known["mean"] == list(MEAN)
    assert known["data"]["fingerprint"] == RunFolder(first).read_result().data["fingerprint"]
    assert choose_transform(settings).mean == MEAN
    shutil.rmtree(first)
    with without_figures():
        assert resume_run(tmp_path / "second").status == "finished"
    hyper = torch.load(RunFolder(tmp_path / "second").best, weights_only=True)["hyper_parameters"]
    assert hyper["transform"]["mean"] == list(MEAN)
    third = compose(f"model.pretrained={tmp_path / 'second'}", "finetune=probe")
    with without_figures():
        result = train_run(third, tmp_path / "third")
    assert result.pretrained["pretrained"]["run"] == str(first)
    assert result.weights == f"from scratch -> {first} -> {tmp_path / 'second'}"


def test_a_run_that_knows_held_out_people_is_refused(compose: Compose, first: Path, tmp_path: Path) -> None:
    other = ("finetune=probe", f"model.pretrained={first}", "data.split_seed=5")
    with pytest.raises(SplitError, match=r"first was trained on \d+ people whom this run holds out .*allow_leak=true"):
        train_run(compose(*other), tmp_path / "second")
    assert not (tmp_path / "second").exists()
    with without_figures():
        result = train_run(compose(*other, "allow_leak=true"), tmp_path / "second")
    assert result.pretrained["leaked_photos"] > 0
    after = ("finetune=probe", f"model.pretrained={tmp_path / 'second'}", "data.split_seed=5")
    with pytest.raises(SplitError, match="first was trained on"):
        train_run(compose(*after), tmp_path / "third")


def test_another_architecture_is_refused_before_photos_are_read(compose: Compose, first: Path) -> None:
    with pytest.raises(WeightsError, match="of another model, test_resnet, expected those of test_efficientnet; set"):
        choose_transform(compose(f"model.pretrained={first}", "model.backbone=test_efficientnet"))
