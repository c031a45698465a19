"""Training batches are mixed as seed, epoch and number say, whoever loads them and wherever the run began."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from mask_lightning.callbacks.batch_mixing import BatchMixing
from mask_lightning.data.batching import MixSpec, mix_batch
from mask_lightning.data.datamodule import FaceDataModule
from mask_lightning.data.index import read_index
from mask_lightning.data.splits import Split, split_people
from mask_lightning.data.transforms import AugmentSpec, TransformSpec
from mask_lightning.labels import FACE

CUTMIX = MixSpec("cutmix", alpha=1.0, probability=0.7)


class Watcher(pl.LightningModule):
    """Learns next to nothing and notes the batches that its steps are given."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.seen: dict[tuple[int, int], Any] = {}

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.seen[self.current_epoch, batch_idx] = batch
        return (self.scale * batch["image"].mean()) ** 2

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        assert "mix" not in batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


@pytest.fixture(scope="module")
def split(competition: Path) -> Split:
    whole = split_people(read_index(competition), val_fraction=0.25, seed=0)
    return Split(whole.train.iloc[:21], whole.val.iloc[:4])


def fit(split: Split, epochs: int, *, mix: MixSpec | None = CUTMIX, seed: int = 4, workers: int = 0,
        resume: Path | None = None, save: Path | None = None) -> dict[tuple[int, int], Any]:  # fmt: skip
    """(epoch, number) -> batch as the training step saw it: batches of 6, 6, 6 and 3 photos."""
    data = FaceDataModule(
        split,
        tasks=FACE.names,
        spec=TransformSpec(128, 96, 32),
        augment=AugmentSpec(),
        batch_size=6,
        seed=4,
        clean_train_photos=5,
        num_workers=workers,
    )
    watcher = Watcher()
    trainer = pl.Trainer(
        max_epochs=epochs,
        callbacks=[BatchMixing(mix, seed=seed)] if mix else [],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(watcher, data, ckpt_path=resume, weights_only=True)
    if save:
        trainer.save_checkpoint(save)
    return watcher.seen


@pytest.fixture(scope="module")
def whole(split: Split) -> dict[tuple[int, int], Any]:
    return fit(split, 3)


def same(one: Any, other: Any) -> bool:
    """Whether two batches have the same pixels, partners and shares."""
    if not torch.equal(one["image"], other["image"]) or ("mix" in one) != ("mix" in other):
        return False
    if "mix" not in one:
        return True
    mixes = one["mix"], other["mix"]
    return torch.equal(mixes[0].partner, mixes[1].partner) and mixes[0].share == mixes[1].share


def test_a_step_sees_what_mix_batch_makes_of_its_batch(split: Split, whole: dict[tuple[int, int], Any]) -> None:
    assert 0 < sum("mix" in batch for batch in whole.values()) < len(whole) == 12
    for (epoch, number), batch in fit(split, 2, mix=None).items():
        assert "mix" not in batch
        assert same(mix_batch(batch, CUTMIX, np.random.default_rng((4, epoch, number))), whole[epoch, number])
    shares = [batch["mix"].share for batch in whole.values() if "mix" in batch]
    assert len(set(shares)) == len(shares)


def test_a_resumed_run_mixes_as_the_whole_one(split: Split, whole: dict[tuple[int, int], Any], tmp_path: Path) -> None:
    fit(split, 1, save=tmp_path / "first.ckpt")
    resumed = fit(split, 3, resume=tmp_path / "first.ckpt")
    assert {epoch for epoch, _ in resumed} == {1, 2}
    assert all(same(batch, whole[key]) for key, batch in resumed.items())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*Consider setting `persistent_workers")
def test_workers_do_not_change_the_mix(split: Split, whole: dict[tuple[int, int], Any]) -> None:
    assert all(same(batch, whole[key]) for key, batch in fit(split, 1, workers=1).items())


def test_another_seed_mixes_otherwise(split: Split, whole: dict[tuple[int, int], Any]) -> None:
    assert not all(same(batch, whole[key]) for key, batch in fit(split, 1, seed=5).items())
