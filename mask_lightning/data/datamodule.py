"""LightningDataModule over a split: augmented training photos, and unaugmented photos to score on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from mask_lightning.data.batching import normalise
from mask_lightning.data.cache import PreparedPhotos
from mask_lightning.data.dataset import FaceDataset, collate
from mask_lightning.data.loading import LeanLoader, leave_signals_to_the_trainer
from mask_lightning.data.randaugment import augment_batch
from mask_lightning.data.samplers import EpochSampler, ShardedBatches, check_shares
from mask_lightning.data.samples import Sample
from mask_lightning.data.soft_targets import SoftTargets
from mask_lightning.data.splits import Split, draw_stratified
from mask_lightning.data.transforms import Pipeline, TransformSpec, eval_pipeline, train_pipeline
from mask_lightning.errors import SplitError
from mask_lightning.settings.augment import AugmentSettings, MixSettings
from mask_lightning.utils.system import share_of_cores

NumbersOf = Callable[[pd.DataFrame], dict[str, npt.NDArray[np.float64]]]  # rows -> task -> numbers (N,)


class FaceDataModule(pl.LightningDataModule):
    """Training batches with augmentation, and two validation loaders without: held-out people and training photos.

    RandAugment raises `train/loss`, so it does not compare with `val/loss`. The second validation loader, a stratified
    sample of unaugmented training photos, gives `clean_train/*`, which does.

    Batches are dicts, see `data.dataset.Sample`. On the device their images are float32 (B, 3, S, S), normalised, in
    channels_last. Under a trainer of several processes each gets its share of every training batch, and scores each
    photo once.

    Args:
        split: rows to train on and to validate on.
        tasks: the tasks whose targets a batch has.
        spec: crop, size and normalisation of a photo.
        augment: augmentation of the training photos.
        batch_size: photos per training batch, of all processes together; evaluation uses twice as many.
        seed: of the order and the augmentation.
        clean_train_photos: size of the sample of training photos; 0 leaves it out, if anybody is held out.
        num_workers: worker processes; None: see `default_workers`, for the device of the trainer.
        sample_weights: relative frequency of each training row (N,); None: every row once per epoch.
        mix: how `callbacks.batch_transforms` mixes the training batches; None: not at all.
        clean_train: rows to draw the sample from, if the training rows have other targets than they are scored by;
            None: the training rows.
        numbers: computes from rows the numbers behind their classes, such as ages in years; None: no numbers.
        cache: photos prepared with `spec`; other photos are decoded each time.
        device_augment: apply RandAugment and mirror images to a whole batch on its device.
        soft: soft targets of the training rows; None: there are none.
        in_pairs: put the photos of a person into the batches two by two, and their number into the batches.

    Raises:
        SplitError: `in_pairs`, and nobody has two training photos.
        ConfigError: `batch_size` or the number of photos is too small for the number of processes.

    Example:
        >>> people = ["a", "b", "c"]
        >>> rows = pd.DataFrame({"family": people, "path": people, "age": [0, 1, 2]})
        >>> data = FaceDataModule(
        ...     Split(rows[:2], rows[2:]), tasks=["age"], spec=TransformSpec(), augment=AugmentSettings()
        ... )
        >>> len(data.train_dataset()), len(data.val_dataloader())
        (2, 2)
    """

    def __init__(
        self,
        split: Split,
        *,
        tasks: Sequence[str],
        spec: TransformSpec,
        augment: AugmentSettings,
        batch_size: int = 32,
        seed: int = 0,
        clean_train_photos: int = 256,
        num_workers: int | None = None,
        sample_weights: npt.NDArray[np.float64] | None = None,
        mix: MixSettings | None = None,
        clean_train: pd.DataFrame | None = None,
        numbers: NumbersOf | None = None,
        cache: PreparedPhotos | None = None,
        device_augment: bool = False,
        soft: SoftTargets | None = None,
        in_pairs: bool = False,
    ) -> None:
        super().__init__()
        self.people = _number_people(split.train) if in_pairs else None
        self.split, self.tasks, self.spec, self.augment = split, tuple(tasks), spec, augment
        self.batch_size, self.seed, self.sample_weights = batch_size, seed, sample_weights
        self.mix, self.numbers, self.cache = mix or MixSettings(), numbers, cache
        clean_train = split.train if clean_train is None else clean_train
        self.clean_rows = draw_stratified(clean_train, clean_train_photos, strata=self.tasks, seed=seed)
        self._resumed = 0, 0  # epoch, batches
        self.num_workers, self.device_augment, self.soft = num_workers, device_augment, soft

    def train_dataset(self) -> FaceDataset:
        """Build the dataset of the training rows with augmentation; its keys are (augmentation seed, row)."""
        pipeline = train_pipeline(self.spec, self.augment, batched=self.device_augment)
        return self._dataset(self.split.train, pipeline, self.soft, self.people)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Build the loader of augmented photos, in an order that depends on seed and epoch.

        A last batch with fewer than two photos per process is merged into the batch before.
        """
        dataset = self.train_dataset()
        chunks = None if self.cache is None else self.cache.chunks_of(dataset.paths)
        sampler = EpochSampler(
            len(dataset), seed=self.seed, weights=self.sample_weights, people=self.people, chunks=chunks
        )
        (epoch, start), self._resumed = self._resumed, (0, 0)
        sampler.set_epoch(epoch)  # Lightning calls it only after workers may have started
        rank, world_size = self._rank_and_world_size()
        together = 1 if self.people is None else 2
        batches = ShardedBatches(
            sampler, self.batch_size, rank=rank, world_size=world_size, start=start, together=together
        )
        return self._loader(dataset, batch_sampler=batches)

    def val_dataloader(self) -> list[DataLoader[Sample]]:
        """Build the loaders of unaugmented photos, of held-out people and of training photos, without empty ones."""
        sides = [rows for rows in (self.split.val, self.clean_rows) if len(rows)]
        return [self.eval_loader(rows) for rows in sides]

    def eval_loader(self, rows: pd.DataFrame) -> DataLoader[Sample]:
        """Build a loader of unaugmented photos in the order of `rows`."""
        rank, world_size = self._rank_and_world_size()
        check_shares(len(rows), world_size)
        share = range(rank, len(rows), world_size)
        dataset = self._dataset(rows, eval_pipeline(self.spec))
        return self._loader(dataset, batch_size=max(1, 2 * self.batch_size // world_size), sampler=share)

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch to continue in a checkpoint, and how many of its batches are done."""
        assert self.trainer is not None
        loop = self.trainer.fit_loop
        batches = 0 if self.trainer.is_last_batch else loop.epoch_loop.batch_progress.current.ready
        return {"epoch": loop.epoch_progress.current.processed, "batches": batches}  # type: ignore[attr-defined]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next training loader continue from a checkpoint's epoch and batch."""
        self._resumed = state_dict["epoch"], state_dict["batches"]

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        """Augment the uint8 images on the device, if it is left to it, and normalise them."""
        batch = self.augment_on_device(batch)
        image = normalise(batch["image"], self.spec.mean, self.spec.std)
        return cast(Sample, {**batch, "image": image})

    def augment_on_device(self, batch: Sample) -> Sample:
        """Apply the operations that `device_augment` has drawn for a batch of uint8 images, if any."""
        if "operations" not in batch:
            return batch
        image = augment_batch(batch["image"], batch["operations"], magnitude=self.augment.magnitude)
        rest = {name: value for name, value in batch.items() if name != "operations"}
        return cast(Sample, {**rest, "image": image})

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _dataset(
        self,
        rows: pd.DataFrame,
        transform: Pipeline,
        soft: SoftTargets | None = None,
        people: npt.NDArray[np.int64] | None = None,
    ) -> FaceDataset:
        numbers = self.numbers(rows) if self.numbers else None
        return FaceDataset(rows, self.tasks, transform, numbers, self.cache, soft, people)

    def _loader(self, dataset: FaceDataset, **options: Any) -> DataLoader[Sample]:
        on_this_machine = self.trainer.num_devices if self.trainer else 1
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        workers = default_workers(on_this_machine, on_gpu=on_gpu) if self.num_workers is None else self.num_workers
        return LeanLoader(
            dataset,
            collate_fn=collate,
            generator=torch.Generator(),  # its own: else each iteration would advance the generator of dropout
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=leave_signals_to_the_trainer,
            pin_memory=on_gpu,
            **options,
        )


def _number_people(rows: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return a number per row (N,), equal for rows of one person; a row without person_id is a person of its own."""
    numbers = pd.factorize(rows["person_id"])[0].astype(np.int64)
    unknown = numbers < 0
    numbers[unknown] = numbers.max(initial=-1) + 1 + np.arange(unknown.sum())
    if len(np.unique(numbers)) == len(numbers):
        raise SplitError(
            "data.two_per_person=true needs people with two training photos, found one photo per person; set it to "
            "false and loss.consistency=0"
        )
    return numbers


def default_workers(processes: int = 1, *, on_gpu: bool | None = None) -> int:
    """Return the number of loader workers for each of `processes`: on a GPU all cores but one, at most 8.

    On a CPU the network needs the cores. One worker keeps up with it, as a photo costs little beside the network; on
    two cores none is faster, because the network's threads would wait for each other.

    Args:
        processes: processes that share the cores.
        on_gpu: whether the network computes on a GPU; None asks torch whether there is one.
    """
    cores = share_of_cores(processes)
    if not (torch.cuda.is_available() if on_gpu is None else on_gpu):
        return int(cores > 2)
    return min(8, cores - 1)
