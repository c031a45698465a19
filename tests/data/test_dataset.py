"""Samples, their augmentation by key, and collation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, default_collate

from mask_lightning.data.dataset import FaceDataset, collate
from mask_lightning.data.images import open_photo
from mask_lightning.data.index import read_index
from mask_lightning.data.samplers import EpochSampler
from mask_lightning.data.transforms import TransformSpec, eval_pipeline, to_uint8, train_pipeline
from mask_lightning.errors import PhotoError
from mask_lightning.labels import FACE
from mask_lightning.settings.augment import AugmentSettings

SPEC = TransformSpec(crop_height=128, crop_width=96, size=32)


@pytest.fixture(scope="module")
def rows(competition: Path) -> pd.DataFrame:
    return read_index(competition).iloc[::9].reset_index(drop=True)


@pytest.fixture(scope="module")
def plain(rows: pd.DataFrame) -> FaceDataset:
    return FaceDataset(rows, FACE.names, eval_pipeline(SPEC))


@pytest.fixture(scope="module")
def augmented(rows: pd.DataFrame) -> FaceDataset:
    return FaceDataset(rows, FACE.names, train_pipeline(SPEC, AugmentSettings(flip=0.5)))


def test_a_sample_has_a_photo_its_targets_and_its_row(plain: FaceDataset, rows: pd.DataFrame) -> None:
    assert len(plain) == len(rows)
    for row in (0, 7, len(rows) - 1):
        sample = plain[row]
        photo = Image.open(rows["path"][row]).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(sample["image"].numpy(), np.asarray(photo).transpose(2, 0, 1))
        targets = {task: int(value) for task, value in sample["target"].items()}
        assert targets == {task: rows[task][row] for task in FACE.names}
        assert sample["index"] == row


def test_a_sample_has_only_the_requested_tasks(rows: pd.DataFrame) -> None:
    assert list(FaceDataset(rows, ["age"], eval_pipeline(SPEC))[0]["target"]) == ["age"]


def test_a_batch_has_a_tensor_per_task(plain: FaceDataset, rows: pd.DataFrame) -> None:
    batch = next(iter(DataLoader(plain, batch_size=5)))
    assert batch["image"].shape == (5, 3, 32, 32)
    assert batch["image"].dtype == torch.uint8
    assert batch["index"].tolist() == [0, 1, 2, 3, 4]
    for task in FACE.names:
        assert batch["target"][task].dtype == torch.int64
        assert batch["target"][task].tolist() == rows[task][:5].tolist()


def test_augmentation_depends_on_seed_and_row_only(augmented: FaceDataset) -> None:
    torch.manual_seed(0)
    first = augmented[11, 3]["image"]
    augmented[12, 4]
    torch.manual_seed(1)
    assert torch.equal(augmented[11, 3]["image"], first)
    others = [augmented[draw, 3]["image"] for draw in range(10)]
    assert sum(not torch.equal(image, first) for image in others) >= 8


def test_augmentation_restores_torchs_generator(augmented: FaceDataset) -> None:
    torch.manual_seed(0)
    want = torch.rand(3)
    torch.manual_seed(0)
    augmented[11, 3]
    assert torch.equal(torch.rand(3), want)


@pytest.mark.parametrize("draw", [0, 11, 2**62 - 1])
def test_augmentation_equals_torchs_for_the_same_seed(augmented: FaceDataset, draw: int) -> None:
    torch.manual_seed(draw)
    want = to_uint8(augmented.transform(open_photo(augmented.paths[3])))
    assert torch.equal(augmented[draw, 3]["image"], want)


@pytest.fixture(scope="module")
def waiting(rows: pd.DataFrame) -> FaceDataset:
    """Like `augmented`, with the operations left to the device."""
    return FaceDataset(rows, FACE.names, train_pipeline(SPEC, AugmentSettings(flip=0.5), batched=True))


def test_drawn_operations_stay_with_their_photo_and_depend_on_its_seed(
    waiting: FaceDataset, plain: FaceDataset
) -> None:
    torch.manual_seed(0)
    keys = [(draw, 3 + draw % 2) for draw in range(12)]
    batch = collate([waiting[key] for key in keys])
    assert torch.equal(batch["image"], torch.stack([plain[row]["image"] for _, row in keys]))
    assert isinstance(batch["operations"], np.ndarray)  # Lightning would move a tensor to the device
    assert batch["operations"].shape == (12, 4)
    torch.manual_seed(1)
    again = collate([waiting[key] for key in reversed(keys)])
    np.testing.assert_array_equal(again["operations"][::-1], batch["operations"])
    assert len(np.unique(batch["operations"], axis=0)) > 8


def test_collating_equals_torchs_collate_in_channels_last(augmented: FaceDataset) -> None:
    samples = [augmented[row, row] for row in range(4)]
    batch, want = collate(samples), default_collate(samples)
    assert batch.keys() == want.keys()
    assert torch.equal(batch["image"], want["image"])
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch["index"], want["index"])
    assert all(torch.equal(batch["target"][task], want["target"][task]) for task in FACE.names)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_do_not_change_the_batches(augmented: FaceDataset) -> None:
    def images(workers: int) -> list[torch.Tensor]:
        sampler = EpochSampler(len(augmented), seed=3)
        loader = DataLoader(augmented, batch_size=4, sampler=sampler, num_workers=workers)
        return [batch["image"] for batch in loader]

    alone, shared = images(0), images(2)
    assert len(alone) == -(-len(augmented) // 4)
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


def test_the_error_of_a_broken_photo_names_it(rows: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "normal.jpg").write_bytes(b"no photo")
    broken = rows.assign(path=str(tmp_path / "normal.jpg"))
    with pytest.raises(PhotoError, match=r"normal\.jpg"):
        FaceDataset(broken, FACE.names, eval_pipeline(SPEC))[0]
