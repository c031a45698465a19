"""Training batches are resized and mixed on the device; validation is not affected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from mask_lightning.callbacks.batch_transforms import BatchMixing, ProgressiveResizing
from mask_lightning.data.batching import mix_batch, resize
from mask_lightning.data.datamodule import FaceDataModule
from mask_lightning.data.index import read_index
from mask_lightning.data.splits import Split, split_people
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.labels import FACE
from mask_lightning.settings.augment import AugmentSettings, MixSettings
from mask_lightning.settings.optim import PhaseSettings


def phase(epochs: int, image_size: int | None = None) -> PhaseSettings:
    """Return a phase without validation: the photos here have 32 pixels, the smallest size that options allow."""
    return PhaseSettings.model_construct(epochs=epochs, image_size=image_size)


PHASES = [phase(1, 16), phase(2, 24), phase(1)]


class Sizes(pl.Callback):
    """Notes the first training image of every epoch, and the sizes that validation sees."""

    def __init__(self) -> None:
        self.images: dict[int, torch.Tensor] = {}
        self.validated: set[int] = set()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.images[trainer.current_epoch] = batch["image"][0]

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.validated.add(batch["image"].shape[-1])


def test_every_phase_trains_at_its_size(fit, network) -> None:
    sizes = Sizes()
    fit(network, ProgressiveResizing(PHASES), sizes, epochs=4)
    assert [tuple(image.shape) for image in sizes.images.values()] == [(3, s, s) for s in (16, 24, 24, 32)]
    assert sizes.validated == {32}
    full = sizes.images[3]
    for epoch, size in enumerate((16, 24, 24)):
        assert torch.equal(sizes.images[epoch], resize(full[None], size)[0])


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_resumed_run_has_the_size_of_its_phase(fit, network, tmp_path: Path, epochs: int) -> None:
    short: dict[str, Any] = {"limit_train_batches": 1, "limit_val_batches": 0}
    fit(network, ProgressiveResizing(PHASES), epochs=epochs, **short).save_checkpoint(tmp_path / "last.ckpt")
    sizes = Sizes()
    fit(type(network)(), ProgressiveResizing(PHASES), sizes, epochs=4, resume=tmp_path / "last.ckpt", **short)
    assert [image.shape[-1] for image in sizes.images.values()] == [16, 24, 24, 32][epochs:]


def test_the_step_itself_sees_the_small_photos(fit, network) -> None:
    seen: set[int] = set()
    network.network.register_forward_pre_hook(
        lambda module, inputs: seen.add(inputs[0].shape[-1]) if module.training else None
    )
    fit(network, ProgressiveResizing([phase(1, 16)]), epochs=1)
    assert seen == {16}


CUTMIX = MixSettings(name="cutmix", alpha=1.0, probability=0.7)


class Watcher(pl.LightningModule):
    """Records the batches of its training steps."""

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


def fit(split: Split, epochs: int, *, mix: MixSettings | None = CUTMIX, seed: int = 4, workers: int = 0,
        resume: Path | None = None, save: Path | None = None) -> dict[tuple[int, int], Any]:  # fmt: skip
    """Return (epoch, number) -> batch in the training step: batches of 6, 6, 6 and 3 photos."""
    data = FaceDataModule(
        split,
        tasks=FACE.names,
        spec=TransformSpec(128, 96, 32),
        augment=AugmentSettings(),
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
    """True if two batches have the same pixels, partners and shares."""
    if not torch.equal(one["image"], other["image"]) or ("mix" in one) != ("mix" in other):
        return False
    if "mix" not in one:
        return True
    mixes = one["mix"], other["mix"]
    return torch.equal(mixes[0].partner, mixes[1].partner) and mixes[0].share == mixes[1].share


def test_a_step_gets_the_result_of_mix_batch(split: Split, whole: dict[tuple[int, int], Any]) -> None:
    assert 0 < sum("mix" in batch for batch in whole.values()) < len(whole) == 12
    for (epoch, number), batch in fit(split, 2, mix=None).items():
        assert "mix" not in batch
        assert same(mix_batch(batch, CUTMIX, np.random.default_rng((4, epoch, number))), whole[epoch, number])
    shares = [batch["mix"].share for batch in whole.values() if "mix" in batch]
    assert len(set(shares)) == len(shares)


def test_a_resumed_run_mixes_like_an_uninterrupted_one(
    split: Split, whole: dict[tuple[int, int], Any], tmp_path: Path
) -> None:
    fit(split, 1, save=tmp_path / "first.ckpt")
    resumed = fit(split, 3, resume=tmp_path / "first.ckpt")
    assert {epoch for epoch, _ in resumed} == {1, 2}
    assert all(same(batch, whole[key]) for key, batch in resumed.items())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*Consider setting `persistent_workers")
def test_workers_do_not_change_the_mix(split: Split, whole: dict[tuple[int, int], Any]) -> None:
    assert all(same(batch, whole[key]) for key, batch in fit(split, 1, workers=1).items())


def test_another_seed_mixes_differently(split: Split, whole: dict[tuple[int, int], Any]) -> None:
    assert not all(same(batch, whole[key]) for key, batch in fit(split, 1, seed=5).items())
