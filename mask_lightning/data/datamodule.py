"""The only Lightning file in data/: a split and its transforms -> dataloaders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from mask_lightning.data.batching import MixSpec, normalise
from mask_lightning.data.cache_file import PhotoCache
from mask_lightning.data.dataset import EpochSampler, FaceDataset, Sample, collate
from mask_lightning.data.loading import LeanLoader, leave_signals_to_the_trainer
from mask_lightning.data.randaugment import change_batch
from mask_lightning.data.sharding import ShardedBatches, check_shares
from mask_lightning.data.splits import Split, draw_stratified
from mask_lightning.data.transforms import AugmentSpec, Pipeline, TransformSpec, eval_pipeline, train_pipeline
from mask_lightning.utils.system import share_of_cores

NumbersOf = Callable[[pd.DataFrame], dict[str, npt.NDArray[np.float64]]]  # rows -> task -> numbers (N,)


class FaceDataModule(pl.LightningDataModule):
    """Augmented training photos, and unaugmented ones to score on: held-out people, and a training sample.

    RandAugment makes train/loss look bad; `clean_train/*`, on a stratified sample of the training photos as they
    are, is what compares with `val/*`.

    Under a trainer of several processes each gets its share of every batch, and of the photos to score on each once.

    Args:
        split: the rows to train on and to validate on.
        tasks: which targets a sample carries.
        spec: what becomes of a photo.
        augment: what becomes of a training photo besides.
        batch_size: photos per training batch, of all processes together; scoring uses twice as many.
        seed: of the order and the augmentation.
        clean_train_photos: size of the training sample; 0 leaves it out if there is a validation side.
        num_workers: worker processes, None: what the cores bear.
        sample_weights: how often each training row is drawn (N,); None takes each once per epoch.
        mix: how training batches are to be mixed, which is `callbacks.batch_mixing`'s work.
        clean_train: what the training sample is drawn from, where the training rows are taught other labels than they
            are scored by; None: these.
        numbers: reads from rows the numbers that a sample carries; None: none.
        cache: photos as `spec` prepares them; what is not there is decoded each time.
        device_augment: RandAugment and mirror images are drawn with each photo, but done to a batch on its device.
    """

    def __init__(
        self,
        split: Split,
        *,
        tasks: Sequence[str],
        spec: TransformSpec,
        augment: AugmentSpec,
        batch_size: int = 32,
        seed: int = 0,
        clean_train_photos: int = 256,
        num_workers: int | None = None,
        sample_weights: npt.NDArray[np.float64] | None = None,
        mix: MixSpec | None = None,
        clean_train: pd.DataFrame | None = None,
        numbers: NumbersOf | None = None,
        cache: PhotoCache | None = None,
        device_augment: bool = False,
    ) -> None:
        super().__init__()
        self.split, self.tasks, self.spec, self.augment = split, tuple(tasks), spec, augment
        self.batch_size, self.seed, self.sample_weights = batch_size, seed, sample_weights
        self.mix, self.numbers, self.cache = mix or MixSpec(), numbers, cache
        clean_train = split.train if clean_train is None else clean_train
        self.clean_rows = draw_stratified(clean_train, clean_train_photos, strata=self.tasks, seed=seed)
        self._resumed = 0, 0  # epoch, batches
        self.num_workers, self.device_augment = num_workers, device_augment

    def train_dataloader(self) -> DataLoader[Sample]:
        """Augmented photos in an order that follows from seed and epoch; the last, smaller batch is kept."""
        dataset = self.train_dataset()
        sampler = EpochSampler(len(dataset), seed=self.seed, weights=self.sample_weights)
        (epoch, start), self._resumed = self._resumed, (0, 0)
        sampler.set_epoch(epoch)  # Lightning does so only after workers may have begun
        rank, world_size = self._place()
        batches = ShardedBatches(sampler, self.batch_size, rank=rank, world_size=world_size, start=start)
        return self._loader(dataset, batch_sampler=batches)

    def state_dict(self) -> dict[str, Any]:
        """The epoch to go on with, and how many of its batches were trained on."""
        assert self.trainer is not None
        loop = self.trainer.fit_loop
        batches = 0 if self.trainer.is_last_batch else loop.epoch_loop.batch_progress.current.ready
        return {"epoch": loop.epoch_progress.current.processed, "batches": batches}  # type: ignore[attr-defined]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The next training loader goes on there."""
        self._resumed = state_dict["epoch"], state_dict["batches"]

    def train_dataset(self) -> FaceDataset:
        """The training rows with augmentation; keys are (draw, row)."""
        return self._dataset(self.split.train, train_pipeline(self.spec, self.augment, batched=self.device_augment))

    def val_dataloader(self) -> list[DataLoader[Sample]]:
        """Unaugmented photos: those held out (if any), then the training sample (if any)."""
        sides = [rows for rows in (self.split.val, self.clean_rows) if len(rows)]
        return [self.eval_loader(rows) for rows in sides]

    def eval_loader(self, rows: pd.DataFrame) -> DataLoader[Sample]:
        """Photos as they are, in the order of `rows`."""
        rank, world_size = self._place()
        check_shares(len(rows), world_size)
        mine = range(rank, len(rows), world_size)
        dataset = self._dataset(rows, eval_pipeline(self.spec))
        return self._loader(dataset, batch_size=max(1, 2 * self.batch_size // world_size), sampler=mine)

    def _place(self) -> tuple[int, int]:
        """Rank and number of the processes that train together."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _dataset(self, rows: pd.DataFrame, transform: Pipeline) -> FaceDataset:
        return FaceDataset(rows, self.tasks, transform, self.numbers(rows) if self.numbers else None, self.cache)

    def _loader(self, dataset: FaceDataset, **options: Any) -> DataLoader[Sample]:
        workers = default_workers(self._place()[1]) if self.num_workers is None else self.num_workers
        return LeanLoader(
            dataset,
            collate_fn=collate,
            generator=torch.Generator(),  # else every iteration would draw from the one that dropout draws from
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=leave_signals_to_the_trainer,
            pin_memory=torch.cuda.is_available(),
            **options,
        )

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        """uint8 photos travel; the device changes what is left to change, and makes them float."""
        batch = self.changed(batch)
        image = normalise(batch["image"], self.spec.mean, self.spec.std)
        return cast(Sample, {**batch, "image": image})

    def changed(self, batch: Sample) -> Sample:
        """A batch of uint8 photos with what `device_augment` has left to do done; any other as it is."""
        if "changes" not in batch:
            return batch
        image = change_batch(batch["image"], batch["changes"], magnitude=self.augment.magnitude)
        rest = {name: value for name, value in batch.items() if name != "changes"}
        return cast(Sample, {**rest, "image": image})


def default_workers(processes: int = 1) -> int:
    """Worker processes for each of `processes` alike: on a GPU one per core beyond its first, at most 8.

    On a CPU the network wants the cores itself, and a photo costs it little: one worker keeps ahead, and of two cores
    it takes more than it gives, as the network's threads wait for each other.
    """
    cores = share_of_cores(processes)
    if not torch.cuda.is_available():
        return int(cores > 2)
    return min(8, cores - 1)
