from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, default_collate

from mask_lightning.data.dataset import EpochSampler, FaceDataset, balanced_weights, collate
from mask_lightning.data.images import open_photo
from mask_lightning.data.index import read_index
from mask_lightning.data.transforms import AugmentSpec, TransformSpec, eval_pipeline, to_uint8, train_pipeline
from mask_lightning.errors import PhotoError
from mask_lightning.labels import FACE

SPEC = TransformSpec(crop_height=128, crop_width=96, size=32)


@pytest.fixture(scope="module")
def rows(competition: Path) -> pd.DataFrame:
    return read_index(competition).iloc[::9].reset_index(drop=True)


@pytest.fixture(scope="module")
def plain(rows: pd.DataFrame) -> FaceDataset:
    return FaceDataset(rows, FACE.names, eval_pipeline(SPEC))


@pytest.fixture(scope="module")
def augmented(rows: pd.DataFrame) -> FaceDataset:
    return FaceDataset(rows, FACE.names, train_pipeline(SPEC, AugmentSpec(flip=0.5)))


def test_a_sample_is_a_photo_its_targets_and_its_row(plain: FaceDataset, rows: pd.DataFrame) -> None:
    assert len(plain) == len(rows)
    for row in (0, 7, len(rows) - 1):
        sample = plain[row]
        photo = Image.open(rows["path"][row]).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(sample["image"].numpy(), np.asarray(photo).transpose(2, 0, 1))
        targets = {task: int(value) for task, value in sample["target"].items()}
        assert targets == {task: rows[task][row] for task in FACE.names}
        assert sample["index"] == row


def test_only_the_tasks_asked_for_are_there(rows: pd.DataFrame) -> None:
    assert list(FaceDataset(rows, ["age"], eval_pipeline(SPEC))[0]["target"]) == ["age"]


def test_a_batch_has_a_tensor_per_task(plain: FaceDataset, rows: pd.DataFrame) -> None:
    batch = next(iter(DataLoader(plain, batch_size=5)))
    assert batch["image"].shape == (5, 3, 32, 32)
    assert batch["image"].dtype == torch.uint8
    assert batch["index"].tolist() == [0, 1, 2, 3, 4]
    for task in FACE.names:
        assert batch["target"][task].dtype == torch.int64
        assert batch["target"][task].tolist() == rows[task][:5].tolist()


def test_augmentation_depends_on_draw_and_row_alone(augmented: FaceDataset) -> None:
    torch.manual_seed(0)
    first = augmented[11, 3]["image"]
    augmented[12, 4]
    torch.manual_seed(1)
    assert torch.equal(augmented[11, 3]["image"], first)
    others = [augmented[draw, 3]["image"] for draw in range(10)]
    assert sum(not torch.equal(image, first) for image in others) >= 8


def test_augmentation_leaves_torchs_generator_alone(augmented: FaceDataset) -> None:
    torch.manual_seed(0)
    want = torch.rand(3)
    torch.manual_seed(0)
    augmented[11, 3]
    assert torch.equal(torch.rand(3), want)


@pytest.mark.parametrize("draw", [0, 11, 2**62 - 1])
def test_augmentation_draws_what_torch_draws_from_that_seed(augmented: FaceDataset, draw: int) -> None:
    torch.manual_seed(draw)
    want = to_uint8(augmented.transform(open_photo(augmented.paths[3])))
    assert torch.equal(augmented[draw, 3]["image"], want)


@pytest.fixture(scope="module")
def waiting(rows: pd.DataFrame) -> FaceDataset:
    """As `augmented`, but for what waits until the photos lie in a batch."""
    return FaceDataset(rows, FACE.names, train_pipeline(SPEC, AugmentSpec(flip=0.5), batched=True))


def test_changes_that_wait_travel_with_their_photo_and_follow_from_its_draw(
    waiting: FaceDataset, plain: FaceDataset
) -> None:
    torch.manual_seed(0)
    keys = [(draw, 3 + draw % 2) for draw in range(12)]
    batch = collate([waiting[key] for key in keys])
    assert torch.equal(batch["image"], torch.stack([plain[row]["image"] for _, row in keys]))
    assert isinstance(batch["changes"], np.ndarray)  # Lightning moves tensors to the device, where nobody reads them
    assert batch["changes"].shape == (12, 4)
    torch.manual_seed(1)
    again = collate([waiting[key] for key in reversed(keys)])
    np.testing.assert_array_equal(again["changes"][::-1], batch["changes"])
    assert len(np.unique(batch["changes"], axis=0)) > 8


def test_a_collated_batch_is_torchs_with_its_photos_in_channels_last(augmented: FaceDataset) -> None:
    samples = [augmented[row, row] for row in range(4)]
    batch, want = collate(samples), default_collate(samples)
    assert batch.keys() == want.keys()
    assert torch.equal(batch["image"], want["image"])
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch["index"], want["index"])
    assert all(torch.equal(batch["target"][task], want["target"][task]) for task in FACE.names)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_do_not_change_what_is_seen(augmented: FaceDataset) -> None:
    def images(workers: int) -> list[torch.Tensor]:
        sampler = EpochSampler(len(augmented), seed=3)
        loader = DataLoader(augmented, batch_size=4, sampler=sampler, num_workers=workers)
        return [batch["image"] for batch in loader]

    alone, shared = images(0), images(2)
    assert len(alone) == -(-len(augmented) // 4)
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


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
def test_seed_and_epoch_decide_order_and_draws(seed: int, epoch: int) -> None:
    torch.manual_seed(0)
    first = keys(50, seed=seed, epoch=epoch)
    torch.manual_seed(1)
    assert keys(50, seed=seed, epoch=epoch) == first
    for other in (keys(50, seed=seed, epoch=epoch + 1), keys(50, seed=seed + 1, epoch=epoch)):
        assert [row for _, row in other] != [row for _, row in first]
        assert {draw for draw, _ in other}.isdisjoint(draw for draw, _ in first)


def test_the_next_epoch_is_not_that_of_the_next_seed() -> None:
    assert keys(50, seed=0, epoch=1) != keys(50, seed=1, epoch=0)


def test_going_through_twice_is_the_same_epoch() -> None:
    sampler = EpochSampler(20, seed=0)
    assert list(sampler) == list(sampler)


def test_every_row_has_a_draw_of_its_own() -> None:
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
    [(["mask"], 3), (["age"], 2), (["mask", "age"], 5), (["age", "mask"], 5)],  # nobody is 2 and 1
)
def test_balanced_weights_make_the_classes_that_there_are_equal(tasks: list[str], classes: int) -> None:
    weights = balanced_weights(TARGETS, tasks)
    labelled = (TARGETS[tasks] >= 0).all(axis=1)
    sums = pd.Series(weights)[labelled].groupby([TARGETS[task] for task in tasks]).sum()
    np.testing.assert_allclose(sums, labelled.sum() / classes)
    assert weights[~labelled] == pytest.approx(weights.mean())
    assert weights.mean() == pytest.approx(1)


def test_weights_of_photos_that_nobody_labelled_are_equal() -> None:
    assert balanced_weights(TARGETS.tail(20), ["mask"]).tolist() == [1.0] * 20


def test_rows_are_drawn_as_often_as_their_weights_say() -> None:
    weights = balanced_weights(TARGETS, ["mask"])
    drawn = [keys(1000, seed=1, epoch=epoch, weights=weights) for epoch in range(20)]
    assert {len(epoch) for epoch in drawn} == {1000}
    rows = np.array([row for epoch in drawn for _, row in epoch])
    shares = TARGETS["mask"][rows].value_counts(normalize=True)
    np.testing.assert_allclose(shares[[0, 1, 2]], 0.98 / 3, atol=0.015)
    assert shares[-1] == pytest.approx(0.02, abs=0.005)
    assert max(Counter(draw for draw, _ in drawn[0]).values()) == 1  # a photo that comes twice is augmented anew


def test_seed_and_epoch_decide_what_is_drawn() -> None:
    weights = balanced_weights(TARGETS, ["mask"])
    torch.manual_seed(0)
    first = keys(1000, seed=2, epoch=1, weights=weights)
    torch.manual_seed(1)
    assert keys(1000, seed=2, epoch=1, weights=weights) == first
    assert keys(1000, seed=2, epoch=2, weights=weights) != first
    assert keys(1000, seed=3, epoch=1, weights=weights) != first


def test_a_broken_photo_is_named(rows: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "normal.jpg").write_bytes(b"no photo")
    broken = rows.assign(path=str(tmp_path / "normal.jpg"))
    with pytest.raises(PhotoError, match=r"normal\.jpg"):
        FaceDataset(broken, FACE.names, eval_pipeline(SPEC))[0]
