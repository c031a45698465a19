"""A batch is augmented as torchvision augments photo by photo, with the same draws.

torchvision's two sets of functions for tensors round at other places: v2 is the reference to the bit.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import RandAugment, RandomHorizontalFlip, autoaugment, v2
from torchvision.transforms import functional as TF

from mask_lightning.data.randaugment import OPERATIONS, Operations, augment_batch, draw_operations

SIZE = 48
SPACE = RandAugment()._augmentation_space(31, (SIZE, SIZE))
SIGNED = [name for name, (_, signed) in SPACE.items() if signed]
BOTH_SIGNS = [(name, sign) for name in SPACE for sign in (1, -1) if sign > 0 or name in SIGNED]


def photos(count: int) -> Tensor:
    """Smooth shapes with some noise, each with its own colour and range of values."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    waves = [np.sin(7 * x * a + 5 * y * b + c) for a, b, c in rng.uniform(0, 2, (3 * count, 3))]
    values = np.stack(waves).reshape(count, 3, SIZE, SIZE) * rng.uniform(30, 100, (count, 3, 1, 1))
    noisy = values + rng.uniform(100, 150, (count, 3, 1, 1)) + rng.normal(0, 4, values.shape)
    return torch.from_numpy(noisy.clip(0, 255).astype(np.uint8))


def strength(name: str, sign: int, magnitude: int) -> float:
    table = SPACE[name][0]
    return sign * float(table[magnitude]) if table.ndim else 0.0


NEAREST = TF.InterpolationMode.NEAREST


def on_tensor(image: Tensor, name: str, sign: int, magnitude: int) -> Tensor:
    """Apply torchvision's v2 to one photo (3, S, S), where the threshold of Solarize is in 0..1."""
    level = strength(name, sign, magnitude) / (255 if name == "Solarize" else 1)
    changed: Tensor = v2.RandAugment()._apply_image_or_video_transform(image, name, level, NEAREST, {})
    return changed


def on_pil(image: Tensor, name: str, sign: int, magnitude: int) -> Tensor:
    """Apply the RandAugment for PIL images."""
    level = strength(name, sign, magnitude)
    return TF.pil_to_tensor(autoaugment._apply_op(TF.to_pil_image(image), name, level, NEAREST, fill=None))


def one_op(name: str, sign: int, count: int) -> Operations:
    return np.tile(np.array([sign * OPERATIONS.index(name), 0], dtype=np.int8), (count, 1))


def test_drawn_operations_equal_torchvisions_for_the_same_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, float]] = []

    def note(img: Tensor, op_name: str, magnitude: float, **_: object) -> Tensor:
        done.append((op_name, magnitude))
        return img

    monkeypatch.setattr(autoaugment, "_apply_op", note)
    reference, flip = RandAugment(3, 6, 31), RandomHorizontalFlip(0.3)
    photo, mirrored = torch.arange(SIZE, dtype=torch.uint8).expand(3, SIZE, SIZE), 0
    for seed in range(60):
        torch.manual_seed(seed)
        is_mirrored = bool(flip(reference(photo))[0, 0, 0] != 0)
        torch.manual_seed(seed)
        *ops, mirror = draw_operations(3, 0.3).tolist()
        assert mirror == is_mirrored
        assert [(OPERATIONS[abs(op)], strength(OPERATIONS[abs(op)], -1 if op < 0 else 1, 6)) for op in ops] == done
        done.clear()
        mirrored += mirror
    assert 8 < mirrored < 30


@pytest.mark.parametrize(("name", "sign"), BOTH_SIGNS)
@pytest.mark.parametrize("magnitude", [6, 30])
def test_an_operation_on_a_batch_equals_torchvisions_on_each_tensor(name: str, sign: int, magnitude: int) -> None:
    batch = photos(4)
    want = torch.stack([on_tensor(photo, name, sign, magnitude) for photo in batch])
    assert torch.equal(augment_batch(batch, one_op(name, sign, 4), magnitude=magnitude), want)


CLOSE: dict[str, tuple[float, int]] = {  # share of the values that may differ, and the largest difference
    **dict.fromkeys(("ShearX", "ShearY", "Rotate"), (0.002, 255)),  # a pixel halfway between two
    **dict.fromkeys(("Color", "Contrast"), (0.7, 1)),  # Pillow rounds grey values and a photo's mean
    "AutoContrast": (0.05, 1),  # Pillow uses a table of rounded values
}


@pytest.mark.parametrize(("name", "sign"), BOTH_SIGNS)
@pytest.mark.parametrize("magnitude", [6, 30])
def test_an_operation_on_a_batch_equals_pillows_except_for_rounding(name: str, sign: int, magnitude: int) -> None:
    batch = photos(4)
    want = torch.stack([on_pil(photo, name, sign, magnitude) for photo in batch])
    off = (augment_batch(batch, one_op(name, sign, 4), magnitude=magnitude).int() - want.int()).abs()
    share, most = CLOSE.get(name, (0.0, 0))
    assert (off > 0).float().mean() <= share
    assert off.max() <= most


def drawn(count: int, flip: float) -> Operations:
    torch.manual_seed(0)
    return np.stack([draw_operations(3, flip) for _ in range(count)])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_each_photo_of_a_batch_gets_its_own_operations_in_their_order(layout: torch.memory_format) -> None:
    batch, changes = photos(24), drawn(24, 0.5)
    got = augment_batch(batch.to(memory_format=layout), changes, magnitude=9)
    assert got.dtype == torch.uint8
    for photo, row, image in zip(batch, changes.tolist(), got, strict=True):
        *ops, mirrored = row
        want = photo
        for op in ops:
            want = on_tensor(want, OPERATIONS[abs(op)], -1 if op < 0 else 1, 9)
        assert torch.equal(image, want.flip(-1) if mirrored else want)


@pytest.mark.parametrize("num_ops", [0, 2])
def test_augmenting_does_not_change_its_input(num_ops: int) -> None:
    batch, changes = photos(6), drawn(6, 1.0)[:, -num_ops - 1 :]
    before = batch.clone()
    got = augment_batch(batch, changes, magnitude=15)
    assert torch.equal(batch, before)
    if not num_ops:
        assert torch.equal(got, batch.flip(-1))


@pytest.mark.gpu
def test_the_host_does_not_wait_for_a_gpu() -> None:
    batch, changes = photos(64), drawn(64, 0.5)
    there = batch.cuda()
    augment_batch(there, changes, magnitude=6)  # the first call may wait: CUDA loads its kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = augment_batch(there, changes, magnitude=6)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    same = (got.cpu() == augment_batch(batch, changes, magnitude=6)).float().mean()
    assert same > 0.99
