"""Ages as training targets, from options to the batch; held-out people keep their own labels."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import TINY_RUN, prepared, settings_for

from mask_lightning.data.batching import normalise
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.errors import MaskLightningError
from mask_lightning.labels import age_band
from mask_lightning.pipelines.photos import Photos, find_photos
from mask_lightning.settings.train import TrainSettings

TINY = (*TINY_RUN, "finetune=none", "data.clean_train_photos=60")


@pytest.fixture
def compose(competition: Path, tmp_path: Path):
    fixed = (*TINY, f"data.root={competition}", f"outputs={tmp_path}")
    return partial(settings_for, "train", TrainSettings, *fixed)


def build(settings: TrainSettings) -> tuple[Photos, Any, MultiTaskModule]:
    run = prepared(settings)
    return run.photos, run.build_data(), run.build_module()


def taught(data: Any) -> tuple[np.ndarray, np.ndarray]:
    """Years and targets of the training samples."""
    dataset = data.train_dataset()
    return data.split.train["years"].to_numpy(), dataset.targets["age"].numpy()


def test_moved_cuts_are_taught_and_everyone_is_scored_on_the_true_ones(compose) -> None:
    plain, _, _ = build(compose())
    photos, data, module = build(compose("labels.age.train_cuts=[29,57]"))
    years, targets = taught(data)
    assert targets.tolist() == np.digitize(years, (29, 57)).tolist()
    assert (targets != age_band(years)).any()
    for rows in (photos.split.val, data.clean_rows):
        np.testing.assert_array_equal(rows["age"], age_band(rows["years"]))
    assert (data.clean_rows["years"] == 59).any(), "one whose label the cuts move is scored, too"
    assert photos.everyone.equals(plain.everyone), "the split, and with it the fingerprint, is the same"
    assert module.hparams["class_counts"]["age"] == np.bincount(targets).tolist()


def test_ages_are_left_out_of_training_alone(compose) -> None:
    photos, data, _ = build(compose("labels.age.leave_out=[[27,29],[57,59]]"))
    years, _ = taught(data)
    assert not np.isin(years, [27, 28, 29, 57, 58, 59]).any()
    assert not np.isin(data.clean_rows["years"], [28, 59]).any()
    assert np.isin(photos.everyone["years"], [28, 59]).any()
    assert photos.describe()["train"]["photos"] == len(years) < len(photos.split.train)


def test_members_and_sampling_follow_what_is_taught(compose) -> None:
    photos, _, _ = build(compose("member=age0", "labels.age.leave_out=[[28,29]]", "labels.age.train_cuts=[30,57]"))
    assert not photos.targets["years"].isin([28, 29]).any()
    settings = compose("data.balanced_by=[age]", "labels.age.train_cuts=[30,57]")
    _, _, module = build(settings)
    assert np.ptp(module.hparams["class_counts"]["age"]) < 1e-6, "balanced over the classes that are taught"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["labels.age.train_cuts=[30,90]"], ["found none of >=60", "labels.age.train_cuts=[30, 90]"]),
        (["labels.age.train_cuts=[5,60]"], ["found none of <30"]),
        (["labels.age.leave_out=[[60,120]]"], ["found none of >=60", "labels.age.leave_out=[[60, 120]]"]),
        (["task=mask", "labels.age.train_cuts=[30,58]"], ["labels.age.train_cuts is for the task age", "found mask"]),
        (["task=gender", "head=regression"], ["head=regression is for the task age", "found gender"]),
        (["task=age", "head=regression", "loss=focal"], ["loss.focal_gamma", "head=regression"]),
        (["head=regression", "head.top=50"], ["head.top", "greater than or equal to 60"]),
    ],
)
def test_what_cannot_be_taught(compose, options: list[str], words: list[str]) -> None:
    with pytest.raises(MaskLightningError) as error:
        find_photos(compose(*options))
    assert all(word in str(error.value) for word in words), error.value


@pytest.fixture
def table(competition: Path, tmp_path: Path) -> Path:
    """The photos as a CSV with age bands and no years."""
    people = sorted((competition / "train" / "images").iterdir())
    lines = ["path,person_id,gender,age"]
    for folder in (folder for folder in people if folder.is_dir()):
        person, gender, _, years = folder.name.split("_")
        band = ("<30", "30-59", ">=60")[int(age_band(int(years)))]
        lines += [
            f"{photo},{person}y{years},{gender},{band}" for photo in folder.iterdir() if not photo.name.startswith(".")
        ]
    path = tmp_path / "faces.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize(
    "option",
    [
        "head=regression",
        "head=classes_and_regression",
        "labels.age.train_cuts=[30,58]",
        "labels.age.leave_out=[[57,59]]",
    ],
)
def test_a_table_without_years(compose, table: Path, competition: Path, option: str) -> None:
    settings = compose("data=table", f"data.table={table}", f"data.root={competition / 'train' / 'images'}", option)
    with pytest.raises(MaskLightningError, match=r"needs ages in years, found none .* or into a column years"):
        find_photos(settings)


def test_an_ordinal_head_needs_no_years(compose, table: Path, competition: Path) -> None:
    options = ("data=table", f"data.table={table}", f"data.root={competition / 'train' / 'images'}", "head=ordinal")
    _, _, module = build(compose(*options))
    assert module.network.heads["age"].linear.out_features == 2
    assert module.network.heads["gender"].linear.out_features == 2


@pytest.mark.parametrize(
    ("options", "outputs"),
    [
        (["head=regression"], 1),
        (["head=regression", "head.top=70", "labels.age.bin_width=10"], 1),
        (["head=classes_and_regression", "head.sample_weights=none"], 4),
        (["head=ordinal"], 2),
        (["head=ordinal", "head.method=coral", "loss.class_weights=balanced"], 2),
        (["loss=focal"], 3),
        (["loss=soft_f1"], 3),
    ],
)
def test_every_head_of_age_trains_beside_classes_of_the_others(compose, options: list[str], outputs: int) -> None:
    """A step lowers the loss of the batch, all heads get gradients, and predictions are probabilities."""
    _, data, module = build(compose(*options, "model.image_size=32", "data.batch_size=64"))
    batch = next(iter(data.train_dataloader()))
    batch["image"] = normalise(batch["image"], data.spec.mean, data.spec.std)
    assert ("number" in batch) == ("regression" in options[0])
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        each = module._losses(module(batch["image"]), batch)
        total = sum(each.values())
        total.backward()
        losses.append(each["age"].item())
        optimizer.step()
    assert min(losses[-3:]) < losses[0]
    assert all(parameter.grad is not None for parameter in module.parameters())
    said = module.network(batch["image"])
    assert {task: values.shape[1] for task, values in said.items()} == {"mask": 3, "gender": 2, "age": outputs}
    for log_probs in module.network.log_probs(said).values():
        torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(len(log_probs)), atol=1e-5, rtol=0)


def test_a_sample_carries_the_age_that_is_asked_for(compose) -> None:
    _, data, module = build(compose("head=regression", "labels.age.bin_width=10"))
    sample = data.eval_loader(data.split.val).dataset[3]
    years = int(data.split.val["years"][3])
    assert float(sample["number"]["age"]) == years // 10 * 10 + 5
    assert module.hparams["network"]["heads"]["age"]["borders"] == [30.0, 57.5]
    counts = module.hparams["loss"]["numbers"]["age"]["counts"]
    assert sum(counts) == len(data.split.train)
    assert {i for i, count in enumerate(counts) if count} <= {15, 25, 35, 45, 55, 60}
