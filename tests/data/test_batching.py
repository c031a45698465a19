from __future__ import annotations

import numpy as np
import pytest
import torch

from mask_lightning.data.batching import denormalise, normalise

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


def test_the_batch_given_stays_as_it_is() -> None:
    before = IMAGES.clone()
    normalise(IMAGES, *IMAGENET)
    assert torch.equal(IMAGES, before)
    floats = IMAGES.float()
    denormalise(floats, *IMAGENET)
    assert torch.equal(floats, IMAGES.float())


@pytest.mark.parametrize(("mean", "std"), [IMAGENET, HALF])
def test_denormalised_images_are_the_photos_in_0_to_1(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    back = denormalise(normalise(IMAGES, mean, std), mean, std)
    np.testing.assert_allclose(back.numpy(), IMAGES.numpy() / 255, atol=1e-6)


def test_pictures_stay_in_range() -> None:
    """MixUp, noise and rounding may leave it."""
    pictures = denormalise(torch.tensor([-9.0, 9.0, 0.0]).view(1, 3, 1, 1), *HALF)
    assert pictures.flatten().tolist() == [0.0, 1.0, 0.5]
