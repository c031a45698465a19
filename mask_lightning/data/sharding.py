"""The photos of one of several processes that train one network together."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from torch.utils.data import Sampler

from mask_lightning.errors import ConfigError


class ShardedBatches(Sampler[list[Any]]):
    """Batches of a sampler's keys, of which this process gets its share.

    The batches are those of a single process, of each of which every process has every `world_size`-th key: together
    they see each key once, in as many steps as one alone. A last batch of fewer keys than processes gets those that it
    lacks from the batch before, as a process without a photo would keep the others waiting.

    Args:
        sampler: the keys of an epoch, the same in every process.
        batch_size: keys per batch, of all processes together.
        rank: of this process, from 0.
        world_size: how many processes there are.
        start: how many batches the first iteration leaves out, of an epoch that is resumed.

    Raises:
        ConfigError: a batch, or the whole epoch, has not a key for each.
    """

    def __init__(
        self, sampler: Sampler[Any], batch_size: int, *, rank: int = 0, world_size: int = 1, start: int = 0
    ) -> None:
        if world_size > 1 and batch_size < 2 * world_size:
            raise ConfigError(
                f"expected data.batch_size of at least 2 for each of {world_size} processes, got {batch_size}; "
                "raise it, or lower trainer.devices"
            )
        self.sampler, self.batch_size = sampler, batch_size
        self.rank, self.world_size, self._start = rank, world_size, start
        check_shares(len(sampler), world_size)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self._sizes())

    def __iter__(self) -> Iterator[list[Any]]:
        first, self._start = self._start, 0
        keys, sizes = list(self.sampler), self._sizes()
        ends = list(accumulate(sizes))
        for size, end in zip(sizes[first:], ends[first:], strict=True):
            yield keys[end - size : end][self.rank :: self.world_size]

    def _sizes(self) -> list[int]:
        whole, rest = divmod(len(self.sampler), self.batch_size)  # type: ignore[arg-type]
        sizes = [self.batch_size] * whole + [rest] * (rest > 0)
        lacking = self.world_size - rest if rest else 0
        if whole and lacking > 0:
            sizes[-2:] = [self.batch_size - lacking, self.world_size]
        return sizes


def check_shares(photos: int, world_size: int) -> None:
    """Raises ConfigError unless there is a photo for each process."""
    if photos < world_size:
        raise ConfigError(f"expected a photo for each of {world_size} processes, found {photos}; lower trainer.devices")
