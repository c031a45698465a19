"""The only Lightning file in data/: a split and its transforms -> dataloaders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from mask_lightning.data.batching import MixSpec, normalise
from mask_lightning.data.dataset import EpochSampler, FaceDataset, Sample
from mask_lightning.data.splits import Split, draw_stratified
from mask_lightning.data.transforms import AugmentSpec, TransformSpec, eval_pipeline, train_pipeline


class FaceDataModule(pl.LightningDataModule):
    """Augmented training photos, and unaugmented ones to score on: held-out people, and a training sample.

    RandAugment makes train/loss look bad; `clean_train/*`, on a stratified sample of the training photos as they
    are, is what compares with `val/*`.

    Args:
        split: the rows to train on and to validate on.
        tasks: which targets a sample carries.
        spec: what becomes of a photo.
        augment: what becomes of a training photo besides.
        batch_size: photos per training batch; scoring uses twice as many.
        seed: of the order and the augmentation.
        clean_train_photos: size of the training sample; 0 leaves it out if there is a validation side.
        num_workers: worker processes, None: what the cores bear.
        sample_weights: how often each training row is drawn (N,); None takes each once per epoch.
        mix: how training batches are to be mixed, which is `callbacks.batch_mixing`'s work.
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
    ) -> None:
        super().__init__()
        self.split, self.tasks, self.spec, self.augment = split, tuple(tasks), spec, augment
        self.batch_size, self.seed, self.sample_weights = batch_size, seed, sample_weights
        self.mix = mix or MixSpec()
        self.clean_rows = draw_stratified(split.train, clean_train_photos, strata=self.tasks, seed=seed)
        self.num_workers = default_workers() if num_workers is None else num_workers

    def train_dataloader(self) -> DataLoader[Sample]:
        """Augmented photos in an order that follows from seed and epoch; the last, smaller batch is kept."""
        dataset = self.train_dataset()
        sampler = EpochSampler(len(dataset), seed=self.seed, weights=self.sample_weights)
        return self._loader(dataset, self.batch_size, sampler=sampler)

    def train_dataset(self) -> FaceDataset:
        """The training rows with augmentation; keys are (draw, row)."""
        return FaceDataset(self.split.train, self.tasks, train_pipeline(self.spec, self.augment))

    def val_dataloader(self) -> list[DataLoader[Sample]]:
        """Unaugmented photos: those held out (if any), then the training sample (if any)."""
        sides = [rows for rows in (self.split.val, self.clean_rows) if len(rows)]
        return [self.eval_loader(rows) for rows in sides]

    def eval_loader(self, rows: pd.DataFrame) -> DataLoader[Sample]:
        """Photos as they are, in the order of `rows`."""
        dataset = FaceDataset(rows, self.tasks, eval_pipeline(self.spec))
        return self._loader(dataset, 2 * self.batch_size)

    def _loader(self, dataset: FaceDataset, batch_size: int, **options: Any) -> DataLoader[Sample]:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            **options,
        )

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        """uint8 photos travel; the device makes them float."""
        image = normalise(batch["image"], self.spec.mean, self.spec.std)
        return cast(Sample, {**batch, "image": image})


def default_workers() -> int:
    """Worker processes for this process: one per core beyond the first, at most 8; none on one core.

    On a CPU the network wants the cores itself, and a photo costs it little: one worker then keeps ahead.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not torch.cuda.is_available():
        return min(1, cores - 1)
    return min(8, cores - 1)
