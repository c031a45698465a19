"""Order and weights of an epoch, and the shares of several processes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import BatchSampler, SequentialSampler

from mask_lightning.data.samplers import EpochSampler, ShardedBatches, balanced_weights, check_shares
from mask_lightning.errors import ConfigError


def keys(size: int, *, seed: int, epoch: int, weights: np.ndarray | None = None) -> list[tuple[int, int]]:
    sampler = EpochSampler(size, seed=seed, weights=weights)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("size", [1, 2, 100])
def test_every_row_comes_once_per_epoch(size: int) -> None:
    for epoch in range(3):
        assert sorted(row for _, row in keys(size, seed=0, epoch=epoch)) == list(range(size))
    assert len(EpochSampler(size, seed=0)) == size


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (0, 7), (5, 3), (2**32 - 1, 50)])
def test_seed_and_epoch_determine_order_and_augmentation_seeds(seed: int, epoch: int) -> None:
    torch.manual_seed(0)
    first = keys(50, seed=seed, epoch=epoch)
    torch.manual_seed(1)
    assert keys(50, seed=seed, epoch=epoch) == first
    for other in (keys(50, seed=seed, epoch=epoch + 1), keys(50, seed=seed + 1, epoch=epoch)):
        assert [row for _, row in other] != [row for _, row in first]
        assert {draw for draw, _ in other}.isdisjoint(draw for draw, _ in first)


def test_the_next_epoch_differs_from_the_next_seeds_epoch() -> None:
    assert keys(50, seed=0, epoch=1) != keys(50, seed=1, epoch=0)


def test_iterating_twice_repeats_the_epoch() -> None:
    sampler = EpochSampler(20, seed=0)
    assert list(sampler) == list(sampler)


def test_every_row_has_its_own_augmentation_seed() -> None:
    assert max(Counter(draw for draw, _ in keys(1000, seed=0, epoch=0)).values()) == 1


def test_the_order_is_shuffled() -> None:
    order = [row for _, row in keys(1000, seed=0, epoch=0)]
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.1


TARGETS = pd.DataFrame(
    {
        "path": "photo.jpg",
        "mask": [0] * 600 + [1] * 300 + [2] * 80 + [-1] * 20,
        "age": [0, 1] * 450 + [0] * 100,
    }
)


@pytest.mark.parametrize(
    ("tasks", "classes"),
    [(["mask"], 3), (["age"], 2), (["mask", "age"], 5), (["age", "mask"], 5)],  # no row is 2 and 1
)
def test_balanced_weights_make_present_classes_equally_frequent(tasks: list[str], classes: int) -> None:
    weights = balanced_weights(TARGETS, tasks)
    labelled = (TARGETS[tasks] >= 0).all(axis=1)
    sums = pd.Series(weights)[labelled].groupby([TARGETS[task] for task in tasks]).sum()
    np.testing.assert_allclose(sums, labelled.sum() / classes)
    assert weights[~labelled] == pytest.approx(weights.mean())
    assert weights.mean() == pytest.approx(1)


def test_unlabelled_photos_have_weight_one() -> None:
    assert balanced_weights(TARGETS.tail(20), ["mask"]).tolist() == [1.0] * 20


def test_rows_are_drawn_in_proportion_to_their_weights() -> None:
    weights = balanced_weights(TARGETS, ["mask"])
    drawn = [keys(1000, seed=1, epoch=epoch, weights=weights) for epoch in range(20)]
    assert {len(epoch) for epoch in drawn} == {1000}
    rows = np.array([row for epoch in drawn for _, row in epoch])
    shares = TARGETS["mask"][rows].value_counts(normalize=True)
    np.testing.assert_allclose(shares[[0, 1, 2]], 0.98 / 3, atol=0.015)
    assert shares[-1] == pytest.approx(0.02, abs=0.005)
    assert max(Counter(draw for draw, _ in drawn[0]).values()) == 1  # a photo drawn twice gets two augmentations


def test_seed_and_epoch_determine_the_drawn_rows() -> None:
    weights = balanced_weights(TARGETS, ["mask"])
    torch.manual_seed(0)
    first = keys(1000, seed=2, epoch=1, weights=weights)
    torch.manual_seed(1)
    assert keys(1000, seed=2, epoch=1, weights=weights) == first
    assert keys(1000, seed=2, epoch=2, weights=weights) != first
    assert keys(1000, seed=3, epoch=1, weights=weights) != first


def shards(keys: int, batch_size: int, world_size: int) -> list[list[list[int]]]:
    sampler = SequentialSampler(range(keys))
    return [list(ShardedBatches(sampler, batch_size, rank=rank, world_size=world_size)) for rank in range(world_size)]


@pytest.mark.parametrize(("keys", "batch_size"), [(10, 4), (8, 4), (11, 4), (1, 4), (3, 1)])
def test_one_process_has_torchs_batches(keys: int, batch_size: int) -> None:
    (alone,) = shards(keys, batch_size, 1)
    assert alone == list(BatchSampler(range(keys), batch_size, drop_last=False))


@pytest.mark.parametrize(
    ("keys", "batch_size", "world_size", "want"),
    [
        (9, 4, 1, [4, 5]),  # a last batch of one photo
        (5, 4, 1, [5]),
        (3, 2, 1, [3]),
        (10, 4, 1, [4, 4, 2]),
        (3, 1, 1, [1, 1, 1]),  # asked for
        (1, 4, 1, [1]),  # nothing to merge it into
        (9, 4, 2, [4, 5]),
        (11, 4, 2, [4, 7]),  # 3 photos would leave one process a single one
        (12, 4, 2, [4, 4, 4]),
        (13, 6, 3, [6, 7]),
        (17, 6, 3, [6, 11]),
        (18, 6, 3, [6, 6, 6]),
        (5, 6, 2, [5]),
    ],
)
def test_a_last_batch_of_too_few_photos_is_merged_into_the_one_before(
    keys: int, batch_size: int, world_size: int, want: list[int]
) -> None:
    assert ShardedBatches(SequentialSampler(range(keys)), batch_size, world_size=world_size).sizes == want
    found = shards(keys, batch_size, world_size)
    steps = [sorted(key for batch in step for key in batch) for step in zip(*found, strict=True)]
    assert [len(step) for step in steps] == want
    assert [key for step in steps for key in step] == list(range(keys))  # the order of the photos stays


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("keys", range(6, 26))
def test_processes_together_see_every_key_once_and_each_at_least_two_per_step(keys: int, world_size: int) -> None:
    found = shards(keys, 6, world_size)
    assert {len(shard) for shard in found} == {len(found[0])}
    assert sorted(key for shard in found for batch in shard for key in batch) == list(range(keys))
    assert all(len(batch) >= 2 for shard in found for batch in shard)
    alone = list(BatchSampler(range(keys), 6, drop_last=False))
    steps = [sorted(key for batch in step for key in batch) for step in zip(*found, strict=True)]
    if keys % 6 in range(1, 2 * world_size):
        alone[-2:] = [[*alone[-2], *alone[-1]]]
    assert steps == alone


@pytest.mark.parametrize("start", range(4))
@pytest.mark.parametrize("world_size", [1, 2])
def test_only_the_resumed_epoch_skips_batches(world_size: int, start: int) -> None:
    batches = ShardedBatches(SequentialSampler(range(12)), 4, world_size=world_size, start=start)
    whole = list(ShardedBatches(SequentialSampler(range(12)), 4, world_size=world_size))
    assert len(batches) == len(whole) == 3  # Lightning's count includes the skipped batches
    assert list(batches) == whole[start:]
    assert list(batches) == whole


@pytest.mark.parametrize(
    ("keys", "batch_size", "message"), [(9, 3, "of at least 2 for each of 2"), (3, 4, "2 processes, found 3")]
)
def test_a_process_with_less_than_two_photos_is_refused(keys: int, batch_size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shards(keys, batch_size, 2)
    check_shares(2, 2)
    with pytest.raises(ConfigError, match="expected a photo for each of 2 processes, found 1"):
        check_shares(1, 2)


@pytest.mark.parametrize("shots", [[7, 7, 7, 7], [3, 1, 2, 5], [1, 1, 1], [2], [1]])
def test_photos_of_a_person_come_in_pairs_once_each(shots: list[int]) -> None:
    people = np.repeat(np.arange(len(shots)), shots)
    sampler = EpochSampler(len(people), seed=0, people=people)
    orders = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        order = [row for _, row in sampler]
        orders.append(order)
        assert sorted(order) == list(range(len(people)))
        pairs = people[order][: len(order) // 2 * 2].reshape(-1, 2)
        assert (pairs[:, 0] == pairs[:, 1]).sum() == sum(count // 2 for count in shots)
    assert orders[0] != orders[1] or len(people) <= 2


def test_processes_get_whole_pairs() -> None:
    shares = [list(ShardedBatches(range(18), 8, rank=rank, world_size=2, together=2)) for rank in (0, 1)]  # type: ignore[arg-type]
    assert shares == [[[0, 1, 4, 5], [8, 9, 12, 13, 16, 17]], [[2, 3, 6, 7], [10, 11, 14, 15]]]


def test_chunks_enter_and_leave_one_by_one() -> None:
    """Each chunk is in use for about `mixed` times its size, and every row comes once."""
    size, per_chunk, mixed = 4000, 100, 8
    chunks = np.arange(size) // per_chunk
    sampler = EpochSampler(size, seed=1, chunks=chunks)
    rows = [row for _, row in sampler]
    assert sorted(rows) == list(range(size))
    places = pd.Series(range(size)).groupby(chunks[rows])
    assert (places.max() - places.min()).max() < (mixed + 1.5) * per_chunk
    in_use = [len(set(chunks[rows[i : i + per_chunk]])) for i in range(0, size, per_chunk)]
    assert mixed - 2 <= np.median(in_use) <= mixed + 2


def test_the_order_of_chunks_depends_on_seed_and_epoch_alone() -> None:
    chunks = np.arange(60) // 7

    def order(seed: int, epoch: int) -> list[tuple[int, int]]:
        sampler = EpochSampler(60, seed=seed, chunks=chunks)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(3, 5) == order(3, 5)
    assert order(3, 5) != order(3, 6) != order(4, 5)


def test_drawn_rows_and_pairs_stay_with_their_chunks() -> None:
    chunks, people = np.arange(1200) // 30, np.arange(1200) // 4
    weights = np.where(np.arange(1200) % 2, 3.0, 1.0)
    drawn = [row for _, row in EpochSampler(1200, seed=0, weights=weights, chunks=chunks)]
    assert 0.7 < np.mean(np.array(drawn) % 2) < 0.8
    for rows in (drawn, [row for _, row in EpochSampler(1200, seed=0, people=people, chunks=chunks)]):
        places = pd.Series(range(1200)).groupby(chunks[rows])
        assert np.median(places.max() - places.min()) < 10 * 30
    assert (people[rows[::2]] == people[rows[1::2]]).mean() > 0.95
