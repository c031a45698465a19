"""Views of a photo, and the mean of what is said of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mask_lightning.data.transforms import TransformSpec, eval_pipeline
from mask_lightning.inference.views import ViewDataset, average_views, make_views, view_weights

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
def test_weights_are_of_a_mean(tta, want: list[float]) -> None:
    assert view_weights(tta) == pytest.approx(want)
    assert len(make_views(PHOTO, tta)) == len(want)


def test_a_flip_is_the_photo_and_its_mirror_image() -> None:
    plain, mirrored = (np.asarray(view) for view in make_views(PHOTO, "flip"))
    np.testing.assert_array_equal(plain, np.asarray(PHOTO))
    np.testing.assert_array_equal(mirrored, np.asarray(PHOTO)[:, ::-1])


def test_a_blend_is_the_photo_and_the_views_of_randaugment() -> None:
    drawn, blended = ([np.asarray(view) for view in make_views(PHOTO, kind)] for kind in ("randaugment", "blend"))
    np.testing.assert_array_equal(blended[0], np.asarray(PHOTO))
    np.testing.assert_array_equal(blended[1:], drawn)
    assert len({view.tobytes() for view in drawn}) > 1


def test_draws_follow_from_the_pixels_alone() -> None:
    """Not from the place in a list, the worker or what was drawn before, and they disturb nobody else's."""
    torch.manual_seed(1)
    undisturbed = torch.rand(2)
    torch.manual_seed(1)
    first = [view.tobytes() for view in make_views(PHOTO, "randaugment")]
    assert torch.equal(torch.rand(2), undisturbed)
    torch.manual_seed(99)
    assert [view.tobytes() for view in make_views(PHOTO.copy(), "randaugment")] == first


@pytest.mark.parametrize("tta", ["none", "flip", "blend"])
def test_probabilities_are_averaged_not_their_logs(tta) -> None:
    probs = RNG.dirichlet(np.ones(3), (len(view_weights(tta)), 4))
    got = average_views([torch.tensor(values).log() for values in probs], tta).exp().numpy()
    np.testing.assert_allclose(got, np.average(probs, axis=0, weights=view_weights(tta)), rtol=1e-6)


def test_a_photo_is_opened_once_for_all_of_its_views(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    PHOTO.save(tmp_path / "a.png")
    opened = []

    def open_photo(path: str) -> Image.Image:
        opened.append(path)
        return Image.open(path).convert("RGB")

    monkeypatch.setattr("mask_lightning.inference.views.open_photo", open_photo)
    spec = TransformSpec(crop_height=24, crop_width=16, size=8)
    views = ViewDataset([str(tmp_path / "a.png")], spec, "blend")[0]
    assert len(opened) == 1
    assert (views.shape, views.dtype) == ((5, 3, 8, 8), torch.uint8)
    want = np.asarray(eval_pipeline(spec)(PHOTO))
    np.testing.assert_array_equal(views[0].permute(1, 2, 0).numpy(), want)
