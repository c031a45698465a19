"""Which keys each of several processes gets."""

from __future__ import annotations

import pytest
from torch.utils.data import BatchSampler, SequentialSampler

from mask_lightning.data.sharding import ShardedBatches, check_shares
from mask_lightning.errors import ConfigError


def shards(keys: int, batch_size: int, world_size: int) -> list[list[list[int]]]:
    sampler = SequentialSampler(range(keys))
    return [list(ShardedBatches(sampler, batch_size, rank=rank, world_size=world_size)) for rank in range(world_size)]


@pytest.mark.parametrize(("keys", "batch_size"), [(10, 4), (8, 4), (9, 4), (1, 4), (3, 1)])
def test_one_process_has_torchs_own_batches(keys: int, batch_size: int) -> None:
    (alone,) = shards(keys, batch_size, 1)
    assert alone == list(BatchSampler(range(keys), batch_size, drop_last=False))


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("keys", range(6, 26))
def test_all_together_see_every_key_once_in_as_many_steps_as_one(keys: int, world_size: int) -> None:
    found, (alone,) = shards(keys, 6, world_size), shards(keys, 6, 1)
    assert {len(shard) for shard in found} == {len(alone)}
    assert sorted(key for shard in found for batch in shard for key in batch) == list(range(keys))
    assert all(batch for shard in found for batch in shard)
    steps = [sorted(key for batch in step for key in batch) for step in zip(*found, strict=True)]
    few = keys % 6 in range(1, world_size)  # fewer than processes: only then the last two batches are cut elsewhere
    assert steps[: -2 if few else None] == alone[: -2 if few else None]


def test_a_last_batch_of_too_few_borrows_from_the_one_before() -> None:
    assert shards(13, 6, 3) == [[[0, 3], [6, 9], [10]], [[1, 4], [7], [11]], [[2, 5], [8], [12]]]


@pytest.mark.parametrize("start", range(4))
@pytest.mark.parametrize("world_size", [1, 2])
def test_a_resumed_epoch_leaves_out_what_was_seen_and_the_next_does_not(world_size: int, start: int) -> None:
    batches = ShardedBatches(SequentialSampler(range(11)), 4, world_size=world_size, start=start)
    whole = list(ShardedBatches(SequentialSampler(range(11)), 4, world_size=world_size))
    assert len(batches) == len(whole) == 3  # Lightning counts what was seen in
    assert list(batches) == whole[start:]
    assert list(batches) == whole


@pytest.mark.parametrize(("keys", "batch_size", "message"), [(9, 3, "of at least 2 for each of 2"), (1, 4, "found 1")])
def test_a_process_without_a_photo_is_refused(keys: int, batch_size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shards(keys, batch_size, 2)
    check_shares(2, 2)
