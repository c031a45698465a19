"""Rows of the sample table -> samples {"image", "target", "index"}."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

from mask_lightning.data.cache_file import PhotoCache
from mask_lightning.data.images import open_photo
from mask_lightning.data.randaugment import Changes
from mask_lightning.data.transforms import Pipeline, to_uint8
from mask_lightning.labels import UNLABELLED


class Mix(NamedTuple):
    """How a batch was mixed: photo i is `share` of itself and the rest of photo `partner[i]`.

    partner: a permutation of the batch (B,); share: in 0..1.
    """

    partner: Tensor
    share: float


class Sample(TypedDict):
    """One photo, or after collation a batch of them.

    image: uint8 (3, H, W), batched (B, 3, H, W); target: task -> class (B,), UNLABELLED where nobody stated it;
    index: row of the sample table (B,); number: task -> the number that its class is cut from (B,), NaN where nobody
    stated it; changes: what was drawn for the photo and is still to be done to it, as an array, which stays on the host
    (B, num_ops + 1); mix: of a batch whose photos were mixed, its targets were not.
    """

    image: Tensor
    target: dict[str, Tensor]
    index: Tensor
    number: NotRequired[dict[str, Tensor]]
    changes: NotRequired[Changes]
    mix: NotRequired[Mix]


Key = int | tuple[int, int]  # a row, or (seed of the augmentation, row)


class FaceDataset(Dataset[Sample]):
    """Map-style dataset over the rows of a sample table, decoding on access what is not in the cache.

    A key `(draw, row)` makes the random part of the pipeline depend on `draw` and `row` alone, not on the
    worker that runs it or on what ran before. A plain row is for pipelines without a random part.

    Args:
        rows: of a sample table.
        tasks: which targets a sample carries.
        transform: what becomes of a photo.
        numbers: task -> the number of every row (N,), NaN where not known.
        cache: photos as the transform prepares them.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        tasks: Sequence[str],
        transform: Pipeline,
        numbers: Mapping[str, npt.NDArray[np.float64]] | None = None,
        cache: PhotoCache | None = None,
    ) -> None:
        self.paths: list[str] = rows["path"].tolist()
        self.targets = {task: torch.from_numpy(rows[task].to_numpy("int64", copy=True)) for task in tasks}
        self.numbers = {task: torch.from_numpy(values).float() for task, values in (numbers or {}).items()}
        self.transform, self.cache = transform, cache

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: Key) -> Sample:
        draw, row = key if isinstance(key, tuple) else (None, key)
        prepared = self._prepared(self.paths[row])
        with nullcontext() if draw is None else _drawing_from(draw):
            image = self.transform.finish(prepared)
            changes = self.transform.draw() if self.transform.draw else None
        target = {task: values[row] for task, values in self.targets.items()}
        sample = Sample(image=to_uint8(image), target=target, index=torch.tensor(row))
        if self.numbers:
            sample["number"] = {task: values[row] for task, values in self.numbers.items()}
        if changes is not None:
            sample["changes"] = changes
        return sample

    def _prepared(self, path: str) -> Image.Image:
        pixels = None if self.cache is None else self.cache.find(path)
        return self.transform.prepare(open_photo(path)) if pixels is None else Image.fromarray(pixels)


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """Seed torch's global generator for the block; `torch.manual_seed` would also make a note for CUDA each time."""
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)


def collate(samples: Sequence[Sample]) -> Sample:
    """Samples -> a batch whose photos (B, 3, H, W) lie in memory as Pillow stores them, channels last.

    Networks want them so: turning each round here, and back on its way in, costs more than to read it from the cache.
    """
    turned: list[Any] = [{**sample, "image": sample["image"].permute(1, 2, 0)} for sample in samples]
    batch: Sample = default_collate(turned)
    batch["image"] = batch["image"].permute(0, 3, 1, 2)
    if "changes" in batch:  # the host reads them: as a tensor, they would go to the device
        batch["changes"] = np.stack([sample["changes"] for sample in samples])
    return batch


class EpochSampler(Sampler[tuple[int, int]]):
    """Every row once per epoch, in an order and with augmentation draws that follow from (seed, epoch) alone.

    Lightning calls `set_epoch`, also after a resume, so that a resumed run sees what the whole one would have.

    Args:
        size: how many rows there are, and keys per epoch.
        seed: of order and draws.
        weights: instead of once each, rows are drawn with replacement, as often as these say (size,).
    """

    def __init__(self, size: int, *, seed: int, weights: npt.NDArray[np.float64] | None = None) -> None:
        self.size, self.seed, self.epoch = size, seed, 0
        self.weights = None if weights is None else torch.from_numpy(weights)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.weights is None:
            order = torch.randperm(self.size, generator=generator)
        else:
            order = torch.multinomial(self.weights, self.size, replacement=True, generator=generator)
        draws = torch.randint(2**62, (self.size,), generator=generator)
        return iter(list(zip(draws.tolist(), order.tolist(), strict=True)))


def balanced_weights(rows: pd.DataFrame, tasks: Sequence[str]) -> npt.NDArray[np.float64]:
    """Row weights of mean 1 that make the combined classes of `tasks` equally frequent, of those that there are.

    A row that is not labelled in all of the tasks weighs 1.
    """
    labelled = (rows[list(tasks)] != UNLABELLED).all(axis=1).to_numpy()
    weights = np.ones(len(rows))
    sizes = rows[labelled].groupby(list(tasks))["path"].transform("size").to_numpy("float64")
    if len(sizes):
        weights[labelled] = 1 / sizes
        weights[labelled] /= weights[labelled].mean()
    return weights
