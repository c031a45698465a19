"""Order of the training photos: reproducible epochs, balanced sampling, and shares of several processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Sampler

from mask_lightning.errors import ConfigError
from mask_lightning.labels import UNLABELLED

MIXED_CHUNKS = 8  # chunks of packed photos in use at a time


class EpochSampler(Sampler[tuple[int, int]]):
    """Keys (augmentation seed, row) in an order that depends on (seed, epoch) alone.

    Lightning calls `set_epoch`, also after a resume, so a resumed run sees the photos that an uninterrupted one sees.

    Args:
        size: number of rows, and of keys per epoch.
        seed: of the order and of the augmentation.
        weights: relative frequency of each row (size,), drawn with replacement; None: every row once per epoch.
        people: number of the person of each row (size,); positions 2i and 2i + 1 then hold photos of one person,
            where a person has a photo left, see `order_in_pairs`. Not together with `weights`. None: any order.
        chunks: number of the chunk that holds each row (size,), see `order_by_chunks`; None: any order.

    Example:
        >>> sampler = EpochSampler(4, seed=0)
        >>> sorted(row for _, row in sampler)
        [0, 1, 2, 3]
    """

    def __init__(
        self,
        size: int,
        *,
        seed: int,
        weights: npt.NDArray[np.float64] | None = None,
        people: npt.NDArray[np.int64] | None = None,
        chunks: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.size, self.seed, self.epoch, self.people, self.chunks = size, seed, 0, people, chunks
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
        if self.chunks is not None:
            order = order_by_chunks(order, self.chunks, generator)
        if self.people is not None:
            order = order_in_pairs(order, self.people)
        seeds = torch.randint(2**62, (self.size,), generator=generator)
        return iter(list(zip(seeds.tolist(), order.tolist(), strict=True)))


def order_by_chunks(
    order: Tensor, chunks: npt.NDArray[np.int64], generator: torch.Generator, *, mixed: int = MIXED_CHUNKS
) -> Tensor:
    """Reorder rows so that about `mixed` chunks are in use at a time, which enter and leave one by one.

    Chunks are put in random order. Each row is then delayed by a random time in which `mixed` chunks enter.

    Args:
        order: rows in random order (N,), possibly with repetitions.
        chunks: number of the chunk of each row (R,).
        generator: source of the random numbers.
        mixed: number of chunks; 1 reads one chunk after the other.

    Returns:
        The same rows (N,).

    Example:
        >>> chunks = np.array([0, 0, 1, 1])
        >>> order_by_chunks(torch.tensor([3, 0, 2, 1]), chunks, torch.Generator().manual_seed(0), mixed=1) // 2
        tensor([0, 0, 1, 1])
    """
    _, number = np.unique(chunks, return_inverse=True)
    enters = torch.randperm(int(number.max()) + 1, generator=generator)[torch.from_numpy(number)[order]]
    delay = torch.rand(len(order), generator=generator, dtype=torch.float64) * mixed
    return order[torch.argsort(enters + delay, stable=True)]


def order_in_pairs(order: Tensor, people: npt.NDArray[np.int64]) -> Tensor:
    """Reorder rows so that positions 2i and 2i + 1 hold two photos of a person, each row once.

    Photos of a person are paired in the given order. Those that are left over, one for an odd number, form pairs of two
    people. The pairs come in the order of their first photo; a single last row stays last.

    Args:
        order: a permutation of the N rows (N,).
        people: number of the person of each row (N,).

    Returns:
        A permutation of the rows (N,).

    Example:
        >>> order_in_pairs(torch.tensor([0, 3, 1, 4, 2]), np.array([7, 7, 8, 8, 9]))
        tensor([0, 1, 3, 2, 4])
    """
    waiting: dict[int, tuple[int, int]] = {}  # person -> position and row of a photo without partner
    pairs: list[tuple[int, list[int]]] = []
    for position, row in enumerate(order.tolist()):
        person = int(people[row])
        if person in waiting:
            first, partner = waiting.pop(person)
            pairs.append((first, [partner, row]))
        else:
            waiting[person] = position, row
    single = sorted(waiting.values())
    last = [single.pop()[1]] if len(single) % 2 else []
    pairs += [(a[0], [a[1], b[1]]) for a, b in zip(single[::2], single[1::2], strict=True)]
    return torch.tensor([row for _, pair in sorted(pairs) for row in pair] + last)


def balanced_weights(rows: pd.DataFrame, tasks: Sequence[str]) -> npt.NDArray[np.float64]:
    """Compute row weights (N,) of mean 1 that make all combined classes of `tasks` in the rows equally frequent.

    A row without a label of one of the tasks has weight 1.

    Example:
        >>> rows = pd.DataFrame({"path": ["a", "b", "c", "d"], "age": [0, 0, 0, 2]})
        >>> balanced_weights(rows, ["age"]).round(3).tolist()
        [0.667, 0.667, 0.667, 2.0]
    """
    labelled = (rows[list(tasks)] != UNLABELLED).all(axis=1).to_numpy()
    weights = np.ones(len(rows))
    sizes = rows[labelled].groupby(list(tasks))["path"].transform("size").to_numpy("float64")
    if len(sizes):
        weights[labelled] = 1 / sizes
        weights[labelled] /= weights[labelled].mean()
    return weights


class ShardedBatches(Sampler[list[Any]]):
    """Batch sampler that gives each process its share of every batch of a single process.

    Process `rank` gets every `world_size`-th group of `together` keys of each batch: together the processes see every
    key once. A last batch with fewer than two keys per process is merged into the batch before, because BatchNorm
    cannot normalise with the statistics of one photo.

    Args:
        sampler: the keys of an epoch, the same in every process.
        batch_size: keys per batch, of all processes together.
        rank: index of this process.
        world_size: number of processes.
        start: number of batches that the first iteration skips, in an epoch that is resumed.
        together: number of successive keys that one process gets; a divisor of `batch_size`.

    Raises:
        ConfigError: several processes, and `batch_size` or the number of keys is below 2 per process.

    Example:
        >>> list(ShardedBatches(range(9), batch_size=4))
        [[0, 1, 2, 3], [4, 5, 6, 7, 8]]
        >>> list(ShardedBatches(range(9), batch_size=5, rank=1, world_size=2))
        [[1, 3], [6, 8]]
    """

    def __init__(
        self,
        sampler: Sampler[Any],
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        together: int = 1,
    ) -> None:
        if world_size > 1 and batch_size < 2 * world_size:
            raise ConfigError(
                f"expected data.batch_size of at least 2 for each of {world_size} processes, got {batch_size}; "
                "raise it, or lower trainer.devices"
            )
        self.sampler, self.batch_size = sampler, batch_size
        self.rank, self.world_size, self._start, self.together = rank, world_size, start, together
        photos = len(sampler)  # type: ignore[arg-type]
        if world_size > 1 and photos < 2 * world_size:
            raise ConfigError(
                f"expected at least 2 training photos for each of {world_size} processes, found {photos}; "
                "lower trainer.devices"
            )

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[list[Any]]:
        first, self._start = self._start, 0
        keys, sizes = list(self.sampler), self.sizes
        ends = list(accumulate(sizes))
        for size, end in zip(sizes[first:], ends[first:], strict=True):
            batch = keys[end - size : end]
            yield [key for i, key in enumerate(batch) if i // self.together % self.world_size == self.rank]

    @property
    def sizes(self) -> list[int]:
        """Number of keys in each batch of an epoch, of all processes together."""
        whole, rest = divmod(len(self.sampler), self.batch_size)  # type: ignore[arg-type]
        sizes = [self.batch_size] * whole
        if rest and (rest >= 2 * self.world_size or not whole):
            return [*sizes, rest]
        if rest:
            sizes[-1] += rest
        return sizes


def check_shares(photos: int, world_size: int) -> None:
    """Raise ConfigError if there are fewer photos than processes."""
    if photos < world_size:
        raise ConfigError(f"expected a photo for each of {world_size} processes, found {photos}; lower trainer.devices")
