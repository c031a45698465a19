"""Dataset over the rows of a sample table: one decoded, transformed photo with its targets per key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import Dataset, default_collate

from mask_lightning.data.cache import PreparedPhotos
from mask_lightning.data.prepared import read_prepared
from mask_lightning.data.samples import Sample, SoftTarget
from mask_lightning.data.soft_targets import SoftTargets
from mask_lightning.data.transforms import Pipeline, to_uint8

Key = int | tuple[int, int]  # a row, or (seed of the augmentation, row)


class FaceDataset(Dataset[Sample]):
    """Map-style dataset over the rows of a sample table; photos missing from the cache are decoded on access.

    A key `(seed, row)` makes the augmentation depend on `seed` and `row` alone, not on the worker or on earlier photos.
    A plain row as key is meant for pipelines without a random part.

    Args:
        rows: rows of a sample table, with the columns `path` and `tasks`.
        tasks: the tasks whose targets a sample has.
        transform: prepares and augments a photo.
        numbers: task -> a number for every row (N,), NaN if unknown.
        cache: photos prepared by the same transform.
        soft: soft targets of the rows.
        people: number of the person of each row (N,); None leaves it out of the samples.

    Raises:
        PhotoError, PackedError: on access, for a photo that cannot be decoded, or read from its chunk.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        tasks: Sequence[str],
        transform: Pipeline,
        numbers: Mapping[str, npt.NDArray[np.float64]] | None = None,
        cache: PreparedPhotos | None = None,
        soft: SoftTargets | None = None,
        people: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.people = None if people is None else torch.from_numpy(people)
        self.soft: dict[str, SoftTarget] = {}
        if soft is not None:
            arrays = {task: (soft.probs[task], soft.weights[task]) for task in tasks}
            self.soft = {task: SoftTarget(*map(torch.from_numpy, each)) for task, each in arrays.items()}
        self.paths: list[str] = rows["path"].tolist()
        self.targets = {task: torch.from_numpy(rows[task].to_numpy("int64", copy=True)) for task in tasks}
        self.numbers = {task: torch.from_numpy(values).float() for task, values in (numbers or {}).items()}
        self.transform, self.cache = transform, cache

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: Key) -> Sample:
        seed, row = key if isinstance(key, tuple) else (None, key)
        prepared = self._prepare(self.paths[row])
        with nullcontext() if seed is None else _global_seed(seed):
            image = self.transform.finish(prepared)
            operations = self.transform.draw() if self.transform.draw else None
        target = {task: values[row] for task, values in self.targets.items()}
        sample = Sample(image=to_uint8(image), target=target, index=torch.tensor(row))
        if self.people is not None:
            sample["person"] = self.people[row]
        if self.numbers:
            sample["number"] = {task: values[row] for task, values in self.numbers.items()}
        if self.soft:
            sample["soft"] = {task: SoftTarget(each.probs[row], each.weight[row]) for task, each in self.soft.items()}
        if operations is not None:
            sample["operations"] = operations
        return sample

    def _prepare(self, path: str) -> Image.Image:
        pixels = None if self.cache is None else self.cache.find(path)
        return read_prepared(path, [self.transform.spec]).images[0] if pixels is None else Image.fromarray(pixels)


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator for the block; `torch.manual_seed` would also queue a call for CUDA."""
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)


def collate(samples: Sequence[Sample]) -> Sample:
    """Collate samples into a batch whose images (B, 3, H, W) are in channels_last, as Pillow stores them.

    Networks run in channels_last too, and converting to and fro costs more than reading the photos from the cache.
    """
    channels_last: list[Any] = [{**sample, "image": sample["image"].permute(1, 2, 0)} for sample in samples]
    batch: Sample = default_collate(channels_last)
    batch["image"] = batch["image"].permute(0, 3, 1, 2)
    if "operations" in batch:  # the host reads them, and Lightning would move a tensor to the device
        batch["operations"] = np.stack([sample["operations"] for sample in samples])
    return batch
