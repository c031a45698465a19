"""Loaders of the datamodule, alone and under a Trainer."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from mask_lightning.data import datamodule
from mask_lightning.data.datamodule import FaceDataModule
from mask_lightning.data.index import read_index
from mask_lightning.data.samplers import EpochSampler
from mask_lightning.data.splits import Split, split_people
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.errors import SplitError
from mask_lightning.labels import FACE
from mask_lightning.settings.augment import AugmentSettings

SPEC = TransformSpec(128, 96, 32, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))


@pytest.fixture(scope="module")
def table(competition: Path) -> pd.DataFrame:
    return read_index(competition)


@pytest.fixture(scope="module")
def split(table: pd.DataFrame) -> Split:
    return split_people(table, val_fraction=0.25, seed=0)


def build(split: Split, **options: Any) -> FaceDataModule:
    defaults: dict[str, Any] = {
        "tasks": FACE.names,
        "spec": SPEC,
        "augment": AugmentSettings(),
        "num_workers": 0,
        "batch_size": 10,
        "clean_train_photos": 30,
    }
    return FaceDataModule(split, **{**defaults, **options})


def indices(loader: Any) -> list[int]:
    return [int(index) for batch in loader for index in batch["index"]]


def test_an_epoch_has_every_training_row_once(split: Split) -> None:
    batches = list(build(split).train_dataloader())
    photos = len(split.train)
    assert photos % 10 != 1
    assert [len(batch["index"]) for batch in batches] == [10] * (photos // 10) + [photos % 10] * (photos % 10 > 0)
    seen = torch.cat([batch["index"] for batch in batches]).tolist()
    assert sorted(seen) == list(range(photos))
    assert seen != sorted(seen)


def test_weights_affect_training_but_not_evaluation(split: Split) -> None:
    weights = np.zeros(len(split.train))
    weights[[3, 5]] = 1.0
    data = build(split, sample_weights=weights)
    seen = indices(data.train_dataloader())
    assert (set(seen), len(seen)) == ({3, 5}, len(split.train))
    assert data.clean_rows.equals(build(split).clean_rows)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_epoch_continues_with_its_remaining_batches(split: Split, workers: int) -> None:
    """Workers draw the first keys before Lightning sets the epoch."""
    whole = build(split).train_dataloader()
    whole.batch_sampler.sampler.set_epoch(3)
    wanted = list(whole)[2:]
    resumed = build(split, num_workers=workers)
    resumed.load_state_dict({"epoch": 3, "batches": 2})
    found = list(resumed.train_dataloader())
    assert len(found) == len(wanted)
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(found, wanted, strict=True))
    fresh = indices(resumed.train_dataloader())  # in the next fit
    assert fresh == indices(build(split).train_dataloader())


def test_loaders_do_not_use_the_global_generator(split: Split) -> None:
    data = build(split)
    before = torch.get_rng_state()
    for loader in (data.train_dataloader(), *data.val_dataloader()):
        next(iter(loader))
    assert torch.equal(torch.get_rng_state(), before)


def test_validation_has_both_sides_unaugmented_and_in_order(split: Split) -> None:
    data = build(split)
    held_out, clean = data.val_dataloader()
    assert indices(held_out) == list(range(len(split.val)))
    assert next(len(batch["index"]) for batch in held_out) == 20
    assert indices(clean) == list(range(30))
    for loader, rows in ((held_out, split.val), (clean, data.clean_rows)):
        batch, again = next(iter(loader)), next(iter(loader))
        assert torch.equal(batch["image"], again["image"])
        assert batch["target"]["age"].tolist() == rows["age"][: len(batch["index"])].tolist()


def test_the_clean_sample_is_a_stratified_part_of_the_training_photos(split: Split) -> None:
    rows = build(split).clean_rows
    assert len(rows) == 30
    assert set(rows["path"]) <= set(split.train["path"])
    for task in FACE.tasks:
        assert set(rows[task.name]) == set(range(task.num_classes))
    shares = rows["mask"].value_counts(normalize=True).sort_index().to_numpy()
    np.testing.assert_allclose(shares, [5 / 7, 1 / 7, 1 / 7], atol=0.2)


def test_a_small_clean_sample_has_every_combined_class(table: pd.DataFrame) -> None:
    rows = build(split_people(table, val_fraction=0, seed=0), clean_train_photos=18).clean_rows
    codes = rows["mask"] * 6 + rows["gender"] * 3 + rows["age"]
    assert sorted(codes) == list(range(18))


@pytest.mark.parametrize(("photos", "want"), [(30, 30), (10**6, None)])
def test_the_clean_sample_is_no_larger_than_there_are_photos(split: Split, photos: int, want: int | None) -> None:
    assert len(build(split, clean_train_photos=photos).clean_rows) == (want or len(split.train))


def test_without_held_out_people_only_the_clean_sample_is_validated(table: pd.DataFrame) -> None:
    data = build(split_people(table, val_fraction=0, seed=0))
    (clean,) = data.val_dataloader()
    assert indices(clean) == list(range(30))
    assert sorted(indices(data.train_dataloader())) == list(range(len(table)))


def test_without_a_clean_sample_only_held_out_people_are_validated(split: Split) -> None:
    (held_out,) = build(split, clean_train_photos=0).val_dataloader()
    assert len(indices(held_out)) == len(split.val)


def test_batches_are_normalised_after_the_transfer(split: Split) -> None:
    data = build(split)
    batch = next(iter(data.val_dataloader()[0]))
    moved = data.on_after_batch_transfer(batch, 0)
    want = (batch["image"].numpy() / 255 - np.reshape(SPEC.mean, (3, 1, 1))) / np.reshape(SPEC.std, (3, 1, 1))
    np.testing.assert_allclose(moved["image"].numpy(), want, rtol=1e-4, atol=1e-4)
    assert batch["image"].dtype == torch.uint8
    assert torch.equal(moved["index"], batch["index"])


def test_only_training_photos_are_augmented_on_the_device(split: Split) -> None:
    """The operations are equal, and pixels differ by rounding only; after three operations a few differ by more."""
    changed = {}
    for there in (True, False):
        data = build(split, device_augment=there)
        changed[there] = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
        (held_out, _) = data.val_dataloader()
        assert "operations" not in next(iter(held_out))
    assert changed[True].keys() == changed[False].keys() == {"image", "target", "index"}
    assert torch.equal(changed[True]["index"], changed[False]["index"])
    off = (changed[True]["image"] - changed[False]["image"]).abs() * torch.tensor(SPEC.std).view(3, 1, 1) * 255
    assert (off < 1.5).float().mean() > 0.97
    untouched = build(split, augment=AugmentSettings(num_ops=0)).train_dataloader()
    plain = build(split).on_after_batch_transfer(next(iter(untouched)), 0)["image"]
    assert (plain - changed[True]["image"]).abs().mean() > 0.1


@pytest.mark.parametrize(
    ("cores", "cuda", "want"),
    [(1, False, 0), (2, False, 0), (3, False, 1), (16, False, 1), (1, True, 0), (4, True, 3), (64, True, 8)],
)
def test_the_default_number_of_workers_depends_on_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, cuda: bool, want: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert datamodule.default_workers() == want


@pytest.mark.parametrize(("on_gpu", "want"), [(False, 1), (True, 7)])
def test_the_default_number_of_workers_depends_on_the_device_and_not_on_the_machine(
    monkeypatch: pytest.MonkeyPatch, on_gpu: bool, want: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for is_available in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=is_available: found)
        assert datamodule.default_workers(on_gpu=on_gpu) == want


@pytest.mark.parametrize(
    ("device", "workers", "pinned"), [(None, 1, False), ("cpu", 1, False), ("mps", 1, False), ("cuda:0", 7, True)]
)
def test_the_loaders_of_a_cuda_machine_fit_the_trainers_device(
    split: Split, monkeypatch: pytest.MonkeyPatch, device: str | None, workers: int, pinned: bool
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    data = build(split, num_workers=None)
    if device is not None:
        strategy = SimpleNamespace(root_device=torch.device(device))
        data.trainer = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1, num_devices=1)  # type: ignore[assignment]
    for loader in (data.train_dataloader(), *data.val_dataloader()):
        assert (loader.num_workers, loader.pin_memory) == (workers, pinned)


@pytest.mark.parametrize(("photos", "want"), [(21, [10, 11]), (22, [10, 10, 2]), (11, [11]), (1, [1])])
def test_the_last_batch_never_has_one_photo_if_there_are_more(split: Split, photos: int, want: list[int]) -> None:
    few = Split(split.train.iloc[:photos], split.val)
    loader = build(few, clean_train_photos=1).train_dataloader()
    batches = [batch["index"].tolist() for batch in loader]
    assert [len(rows) for rows in batches] == want
    assert len(loader) == len(want)
    sampler = EpochSampler(photos, seed=0)  # the order of version 0.1.0
    assert [row for rows in batches for row in rows] == [row for _, row in sampler]


class Watcher(pl.LightningModule):
    """A minimal module that records the rows of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.seen: dict[int, list[int]] = {}
        self.images: dict[int, torch.Tensor] = {}

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.seen.setdefault(self.current_epoch, []).extend(batch["index"].tolist())
        self.images.setdefault(self.current_epoch, batch["image"])
        return (self.scale * batch["image"].mean()) ** 2

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        assert batch["image"].dtype == torch.float32

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*smaller than the logging interval")
def test_lightning_sets_the_samplers_epoch_also_after_a_resume(split: Split, tmp_path: Path) -> None:
    small = Split(split.train.iloc[:21], split.val.iloc[:4])
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "accelerator": "cpu",
        "use_distributed_sampler": False,
        "default_root_dir": tmp_path,
    }

    def fit(epochs: int, checkpoint: Path | None = None) -> tuple[Watcher, pl.Trainer]:
        watcher, data = Watcher(), build(small, seed=4, clean_train_photos=5)
        trainer = pl.Trainer(max_epochs=epochs, **quiet)
        trainer.fit(watcher, data, ckpt_path=checkpoint, weights_only=True)
        return watcher, trainer

    whole, _ = fit(3)
    assert sorted(whole.seen) == [0, 1, 2]
    assert all(sorted(rows) == list(range(21)) for rows in whole.seen.values())
    assert len({tuple(rows) for rows in whole.seen.values()}) == 3
    first, trainer = fit(1)
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    second, _ = fit(3, tmp_path / "first.ckpt")
    assert {**first.seen, **second.seen} == whole.seen
    assert sorted(second.seen) == [1, 2]
    assert torch.equal(second.images[2], whole.images[2])


def test_pairs_of_a_person_are_in_one_batch_with_their_number(split: Split) -> None:
    batch = next(iter(build(split, in_pairs=True).train_dataloader()))
    rows = split.train["person_id"].to_numpy()[batch["index"].numpy()]
    same = batch["person"][:, None] == batch["person"][None, :]
    assert np.array_equal(same.numpy(), rows[:, None] == rows[None, :])
    assert sum(batch["person"][0::2] == batch["person"][1::2]) >= 4
    assert "person" not in next(iter(build(split).train_dataloader()))


def test_pairs_need_two_photos_of_someone(split: Split) -> None:
    one_each = split.train.drop_duplicates("person_id")
    with pytest.raises(SplitError, match="needs people with two training photos, found one photo per person"):
        build(Split(one_each, split.val), in_pairs=True)
