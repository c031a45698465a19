"""Versions of a photo for test-time augmentation, and the average of their probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from mask_lightning.inference.tta import average_log_probs, stack_pixels, tta_images, tta_pixels, tta_weights

RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(RNG.integers(0, 256, (32, 32, 3), np.uint8))


@pytest.mark.parametrize(
    ("tta", "want"),
    [
        ("none", [1]),
        ("flip", [0.5, 0.5]),
        ("randaugment", [0.25] * 4),
        # fastai's Learner.tta(n=4, beta=0.25): torch.lerp(mean of the augmented, plain, beta).
        ("blend", [0.25] + [0.75 / 4] * 4),
    ],
)
def test_weights_sum_to_1_as_in_fastai(tta, want: list[float]) -> None:
    assert tta_weights(tta) == pytest.approx(want)
    assert len(tta_images(PHOTO, tta)) == len(want)


def test_a_flip_is_the_photo_and_its_mirror_image() -> None:
    plain, mirrored = (np.asarray(version) for version in tta_images(PHOTO, "flip"))
    np.testing.assert_array_equal(plain, np.asarray(PHOTO))
    np.testing.assert_array_equal(mirrored, np.asarray(PHOTO)[:, ::-1])


def test_a_blend_is_the_photo_and_the_versions_of_randaugment() -> None:
    drawn, blended = ([np.asarray(version) for version in tta_images(PHOTO, kind)] for kind in ("randaugment", "blend"))
    np.testing.assert_array_equal(blended[0], np.asarray(PHOTO))
    np.testing.assert_array_equal(blended[1:], drawn)
    assert len({version.tobytes() for version in drawn}) > 1


def test_draws_depend_on_the_pixels_alone() -> None:
    """Not on the order, the worker or earlier draws; and the global generator stays as it was."""
    torch.manual_seed(1)
    undisturbed = torch.rand(2)
    torch.manual_seed(1)
    first = [version.tobytes() for version in tta_images(PHOTO, "randaugment")]
    assert torch.equal(torch.rand(2), undisturbed)
    torch.manual_seed(99)
    assert [version.tobytes() for version in tta_images(PHOTO.copy(), "randaugment")] == first


@pytest.mark.parametrize("tta", ["none", "flip", "blend"])
def test_probabilities_are_averaged_not_their_logs(tta) -> None:
    probs = RNG.dirichlet(np.ones(3), (len(tta_weights(tta)), 4))
    got = average_log_probs([torch.tensor(values).log() for values in probs], tta).exp().numpy()
    np.testing.assert_allclose(got, np.average(probs, axis=0, weights=tta_weights(tta)), rtol=1e-6)


@pytest.mark.parametrize("tta", ["none", "flip"])
def test_pixels_have_the_values_of_the_versions_in_the_order_of_a_photo(tta) -> None:
    want = torch.stack([pil_to_tensor(version) for version in tta_images(PHOTO, tta)])
    pixels, batch = tta_pixels(PHOTO, tta), stack_pixels([tta_pixels(PHOTO, tta)] * 2)
    assert torch.equal(pixels, want)
    assert torch.equal(batch, torch.stack([want, want]))
    assert batch.permute(0, 1, 3, 4, 2).is_contiguous(), "runtimes take it without a copy"
