"""Rows of the sample table -> samples {"image", "target", "index"}."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from mask_lightning.data.images import open_photo
from mask_lightning.data.transforms import Transform, to_uint8


class Sample(TypedDict):
    """One photo, or after collation a batch of them.

    image: uint8 (3, H, W), batched (B, 3, H, W); target: task -> class (B,), UNLABELLED where nobody stated it;
    index: row of the sample table (B,).
    """

    image: Tensor
    target: dict[str, Tensor]
    index: Tensor


Key = int | tuple[int, int]  # a row, or (seed of the augmentation, row)


class FaceDataset(Dataset[Sample]):
    """Map-style dataset over the rows of a sample table, decoding on access.

    A key `(draw, row)` makes the random part of the transform depend on `draw` and `row` alone, not on the
    worker that runs it or on what ran before. A plain row is for transforms without a random part.
    """

    def __init__(self, rows: pd.DataFrame, tasks: Sequence[str], transform: Transform) -> None:
        self.paths: list[str] = rows["path"].tolist()
        self.targets = {task: torch.from_numpy(rows[task].to_numpy("int64", copy=True)) for task in tasks}
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: Key) -> Sample:
        draw, row = key if isinstance(key, tuple) else (None, key)
        photo = open_photo(self.paths[row])
        if draw is None:
            image = self.transform(photo)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(draw)
                image = self.transform(photo)
        target = {task: values[row] for task, values in self.targets.items()}
        return Sample(image=to_uint8(image), target=target, index=torch.tensor(row))


class EpochSampler(Sampler[tuple[int, int]]):
    """Every row once per epoch, in an order and with augmentation draws that follow from (seed, epoch) alone.

    Lightning calls `set_epoch`, also after a resume, so that a resumed run sees what the whole one would have.
    """

    def __init__(self, size: int, *, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.size, generator=generator).tolist()
        draws = torch.randint(2**62, (self.size,), generator=generator).tolist()
        return iter(list(zip(draws, order, strict=True)))
