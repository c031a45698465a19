"""Batch operations compared with NumPy, and mixing also with torchvision."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from mask_lightning.data.batching import (
    Box,
    cut_box,
    cutmix,
    half_cutmix,
    mix_batch,
    mixup,
    normalise,
    resize,
)
from mask_lightning.data.samples import Sample
from mask_lightning.settings.augment import MixSettings

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGES = torch.randint(0, 256, (4, 3, 5, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("mean", "std"), [IMAGENET, HALF])
def test_normalised_values_follow_the_formula(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    values = IMAGES.numpy().astype(np.float64).transpose(0, 2, 3, 1)
    want = ((values / 255 - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(normalise(IMAGES, mean, std).numpy(), want, rtol=1e-5, atol=1e-5)


def test_normalised_images_are_float32_in_channels_last() -> None:
    images = normalise(IMAGES, *IMAGENET)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.shape == IMAGES.shape


def test_normalising_does_not_change_its_input() -> None:
    before = IMAGES.clone()
    normalise(IMAGES, *IMAGENET)
    assert torch.equal(IMAGES, before)


@pytest.mark.parametrize("size", [11, 16, 40])
def test_resizing_matches_pillow(size: int) -> None:
    """Pillow's bilinear filter is antialiased too."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    want = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]
    np.testing.assert_allclose(resize(image, size)[0].numpy().astype(int), want.astype(int), atol=1)
    np.testing.assert_allclose(resize(image.float(), size)[0].numpy(), want, atol=1.01)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_resizing_keeps_type_and_memory_format(dtype: torch.dtype, layout: torch.memory_format) -> None:
    resized = resize(IMAGES.to(dtype).contiguous(memory_format=layout), 4)
    assert (resized.shape, resized.dtype) == ((4, 3, 4, 4), dtype)
    assert resized.is_contiguous(memory_format=layout)


PARTNER = torch.tensor([2, 0, 1, 3])
ROLLED = torch.tensor([3, 0, 1, 2])  # torchvision's partner is the previous photo
FLOATS = IMAGES.float()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixup_is_a_weighted_mean(share: float) -> None:
    values = FLOATS.numpy().astype(np.float64)
    want = share * values + (1 - share) * values[PARTNER.numpy()]
    np.testing.assert_allclose(mixup(FLOATS, PARTNER, share).numpy(), want, rtol=1e-5, atol=1e-4)
    params = {"labels": None, "batch_size": 4, "lam": share}
    theirs = v2.MixUp(num_classes=2).transform(FLOATS.clone(), params)
    torch.testing.assert_close(mixup(FLOATS, ROLLED, share), theirs)


@pytest.mark.parametrize("box", [Box(1, 4, 2, 6), Box(0, 5, 0, 6), Box(2, 2, 3, 3)])
def test_cutmix_replaces_only_the_box(box: Box) -> None:
    want = FLOATS.numpy().copy()
    for i, other in enumerate(PARTNER.tolist()):
        want[i, :, box.top : box.bottom, box.left : box.right] = FLOATS[
            other, :, box.top : box.bottom, box.left : box.right
        ]
    np.testing.assert_array_equal(cutmix(FLOATS, PARTNER, box).numpy(), want)
    params = {"labels": None, "batch_size": 4, "box": (box.left, box.top, box.right, box.bottom)}
    assert torch.equal(cutmix(FLOATS, ROLLED, box), v2.CutMix(num_classes=2).transform(FLOATS, params))


@pytest.mark.parametrize("seed", range(5))
def test_boxes_match_torchvision_for_the_same_draws(seed: int) -> None:
    theirs = v2.CutMix(num_classes=2, alpha=1.0)
    torch.manual_seed(seed)
    params = theirs.make_params([torch.zeros(1, 3, 30, 50)])
    torch.manual_seed(seed)
    share, x, y = float(theirs._dist.sample(())), int(torch.randint(50, (1,))), int(torch.randint(30, (1,)))
    box = cut_box(30, 50, share=share, centre=(y, x))
    assert (box.left, box.top, box.right, box.bottom) == params["box"]
    assert 1 - box.area / 1500 == pytest.approx(params["lam_adjusted"])


@pytest.mark.parametrize(("width", "left"), [(6, 3), (5, 2)])
def test_half_cutmix_joins_a_left_half_and_a_right_half(width: int, left: int) -> None:
    images = FLOATS[..., :width]
    mixed = half_cutmix(images, PARTNER, torch.tensor([True, False, True, False]))
    want = [  # (whose left half, whose right half)
        (0, 2),
        (0, 1),
        (2, 1),
        (3, 3),
    ]
    for i, (one, other) in enumerate(want):
        assert torch.equal(mixed[i, :, :, :left], images[one, :, :, :left])
        assert torch.equal(mixed[i, :, :, left:], images[other, :, :, left:])


def plain_batch(count: int = 8, size: int = 16) -> Sample:
    """All pixels of photo i have the value i."""
    image = torch.arange(float(count)).view(-1, 1, 1, 1).expand(count, 3, size, size).clone()
    target = {"mask": torch.arange(count) % 3, "age": torch.full((count,), -1)}
    return Sample(image=image, target=target, index=torch.arange(count))


def mixed_batch(seed: int = 0, count: int = 8, **spec: Any) -> Sample:
    return mix_batch(plain_batch(count), MixSettings(**spec), np.random.default_rng(seed))


KINDS = [{"name": "mixup", "alpha": 0.4}, {"name": "cutmix", "alpha": 1.0}, {"name": "half_cutmix"}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 8])
def test_the_recorded_share_is_the_share_of_pixels(kind: dict[str, Any], count: int) -> None:
    for seed in range(10):
        batch = mixed_batch(seed, count, **kind)
        partner, share = batch["mix"]
        assert sorted(partner.tolist()) == list(range(count))
        own = torch.arange(float(count))
        torch.testing.assert_close(batch["image"].mean((1, 2, 3)), share * own + (1 - share) * partner)


@pytest.mark.parametrize("kind", KINDS)
def test_mixing_changes_neither_targets_nor_its_input(kind: dict[str, Any]) -> None:
    given = plain_batch()
    mixed = mix_batch(given, MixSettings(**kind), np.random.default_rng(0))
    assert "mix" not in given
    assert torch.equal(given["image"], plain_batch()["image"])
    for batch in (given, mixed):
        assert batch["index"].tolist() == list(range(8))
        assert batch["target"]["mask"].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
        assert batch["target"]["age"].tolist() == [-1] * 8


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_shares_are_drawn_from_the_beta_distribution(alpha: float) -> None:
    """Mean 1/2 and variance 1 / (4 (2 alpha + 1))."""
    shares = [mixed_batch(seed, 1, name="mixup", alpha=alpha)["mix"].share for seed in range(2000)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_left_and_right_halves_are_kept_equally_often() -> None:
    """A kept left half of photo i has the value i."""
    batches = [mixed_batch(seed, name="half_cutmix") for seed in range(100)]
    others = [batch["mix"].partner != torch.arange(8) for batch in batches]
    kept = [batch["image"][:, 0, 0, 0] == torch.arange(8.0) for batch in batches]
    assert torch.cat(kept)[torch.cat(others)].float().mean().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("probability", [0.2, 0.75, 1.0])
def test_the_probability_is_the_share_of_mixed_batches(probability: float) -> None:
    mixed = ["mix" in mixed_batch(seed, name="half_cutmix", probability=probability) for seed in range(500)]
    assert np.mean(mixed) == pytest.approx(probability, abs=0.05)


def test_mix_none_returns_the_same_batch() -> None:
    batch = plain_batch()
    assert mix_batch(batch, MixSettings(), np.random.default_rng(0)) is batch


def test_normalising_copies_its_constants_to_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy makes the host wait for the device, so it must not happen in every batch."""
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    first = normalise(IMAGES, mean, std)
    monkeypatch.setattr(torch, "tensor", None)
    assert torch.equal(normalise(IMAGES, mean, std), first)


def test_constants_of_inference_serve_training() -> None:
    mean, std = (0.11, 0.2, 0.3), (0.4, 0.5, 0.6)
    with torch.inference_mode():
        normalise(IMAGES, mean, std)
    weight = torch.ones(3, 1, 1, requires_grad=True)
    (weight * normalise(IMAGES, mean, std)).sum().backward()
    assert weight.grad is not None


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["none", "mixup", "cutmix", "half_cutmix"])
def test_a_batch_is_normalised_and_mixed_without_waiting_for_the_gpu(name: Any) -> None:
    images = IMAGES.cuda()
    sample = cast(Sample, {"image": normalise(images, *IMAGENET)})
    settings = MixSettings(name=name, alpha=1.0 if name in ("mixup", "cutmix") else None)
    torch.cuda.set_sync_debug_mode("error")
    try:
        sample["image"] = normalise(images, *IMAGENET)
        mix_batch(sample, settings, np.random.default_rng(0))
    finally:
        torch.cuda.set_sync_debug_mode("default")
