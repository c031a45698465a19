"""Preparation and augmentation of one photo, compared with Pillow, NumPy and torchvision."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torchvision.transforms import RandAugment, RandomErasing, TrivialAugmentWide

from mask_lightning.data.transforms import TransformSpec, centre_crop, eval_pipeline, to_uint8, train_pipeline
from mask_lightning.errors import ConfigError
from mask_lightning.settings.augment import AugmentSettings


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


PHOTO = noise(384, 512)  # the competition's size
SPEC = TransformSpec(size=64)
PLAIN = AugmentSettings(num_ops=0, flip=0.0)


@pytest.mark.parametrize("size", [224, 260])
def test_a_competition_photo_is_cropped_and_resized(size: int) -> None:
    """380 x 256 of 512 x 384: 66 pixels less above and below, 64 left and right; then a square."""
    want = PHOTO.crop((64, 66, 320, 446)).resize((size, size), Image.Resampling.BILINEAR)
    prepared = eval_pipeline(TransformSpec(size=size))(PHOTO)
    assert prepared.size == (size, size)
    np.testing.assert_array_equal(np.asarray(prepared), np.asarray(want))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_a_crop_is_the_middle_of_the_reflected_photo(width: int, height: int, crop_h: int, crop_w: int) -> None:
    photo = noise(width, height)
    pixels = np.asarray(photo)

    def middle(size: int, crop: int) -> np.ndarray:
        """Return the row or column at each position; outside, counted back from the border."""
        before = -((crop - size) // 2) if crop > size else (size - crop) // 2
        place = np.arange(before, before + crop) % (2 * size)
        return np.where(place < size, place, 2 * size - 1 - place)

    want = pixels[middle(height, crop_h)][:, middle(width, crop_w)]
    np.testing.assert_array_equal(np.asarray(centre_crop(photo, crop_h, crop_w)), want)


def test_a_small_photo_is_padded_by_reflection() -> None:
    photo = noise(96, 128)
    padded = np.asarray(centre_crop(photo, 380, 256))
    assert padded.shape == (380, 256, 3)
    np.testing.assert_array_equal(padded[126:254, 80:176], np.asarray(photo))
    np.testing.assert_array_equal(padded[125, 80:176], np.asarray(photo)[0])


def test_the_evaluation_pipeline_is_deterministic() -> None:
    transform = eval_pipeline(SPEC)
    torch.manual_seed(0)
    first = np.asarray(transform(PHOTO))
    torch.manual_seed(1)
    np.testing.assert_array_equal(first, np.asarray(transform(PHOTO)))


def test_training_without_augmentation_equals_evaluation() -> None:
    np.testing.assert_array_equal(
        np.asarray(train_pipeline(SPEC, PLAIN)(PHOTO)), np.asarray(eval_pipeline(SPEC)(PHOTO))
    )


@pytest.mark.parametrize(("num_ops", "magnitude"), [(3, 6), (1, 30), (2, 0)])
def test_augmentation_equals_torchvisions_on_the_resized_photo(num_ops: int, magnitude: int) -> None:
    transform = train_pipeline(SPEC, AugmentSettings(num_ops=num_ops, magnitude=magnitude))
    reference = RandAugment(num_ops=num_ops, magnitude=magnitude, num_magnitude_bins=31)
    resized = eval_pipeline(SPEC)(PHOTO)
    for seed in range(12):
        torch.manual_seed(seed)
        want = np.asarray(reference(resized))
        torch.manual_seed(seed)
        np.testing.assert_array_equal(np.asarray(transform(PHOTO)), want)


def test_augmentation_changes_most_photos() -> None:
    transform = train_pipeline(SPEC, AugmentSettings())
    resized = np.asarray(eval_pipeline(SPEC)(PHOTO))
    torch.manual_seed(0)
    changed = [not np.array_equal(np.asarray(transform(PHOTO)), resized) for _ in range(20)]
    assert sum(changed) > 14


@pytest.mark.parametrize("min_area", [0.25, 0.5, 0.9])
def test_a_zoom_keeps_at_least_min_area(min_area: float) -> None:
    """Red encodes the column and green the row, so that the corners of the result show what was kept."""
    y, x = np.mgrid[0 : SPEC.size, 0 : SPEC.size] * 255.0 / (SPEC.size - 1)
    photo = Image.fromarray(np.stack([x, y, 0 * x], axis=-1).astype(np.uint8))
    photo = photo.resize((SPEC.crop_width, SPEC.crop_height), Image.Resampling.BILINEAR)
    transform = train_pipeline(SPEC, AugmentSettings(num_ops=0, min_area=min_area))
    areas = []
    for seed in range(40):
        torch.manual_seed(seed)
        pixels = np.asarray(transform(photo), dtype=float)
        areas.append(np.ptp(pixels[..., 0]) * np.ptp(pixels[..., 1]) / 255**2)
    assert min_area - 0.08 < min(areas) < min_area + 0.3 * (1 - min_area) + 0.05  # half a pixel on each side
    assert max(areas) <= 1.0
    assert np.std(areas) > 0.01


@pytest.mark.parametrize(("flip", "at_least", "at_most"), [(0.0, 0, 0), (0.5, 20, 44), (1.0, 64, 64)])
def test_photos_are_mirrored_with_the_requested_probability(flip: float, at_least: int, at_most: int) -> None:
    transform = train_pipeline(SPEC, AugmentSettings(num_ops=0, flip=flip))
    plain = eval_pipeline(SPEC)(PHOTO)
    mirrored = np.asarray(ImageOps.mirror(plain))
    torch.manual_seed(0)
    images = [np.asarray(transform(PHOTO)) for _ in range(64)]
    assert all(np.array_equal(image, mirrored) or np.array_equal(image, np.asarray(plain)) for image in images)
    assert at_least <= sum(np.array_equal(image, mirrored) for image in images) <= at_most


@pytest.mark.parametrize("augment", [PLAIN, AugmentSettings(num_ops=2, magnitude=9, flip=0.5, min_area=0.5)])
def test_a_pipeline_can_be_pickled(augment: AugmentSettings) -> None:
    transform = train_pipeline(SPEC, augment)
    sent = pickle.loads(pickle.dumps(transform))
    results = []
    for each in (transform, sent):
        torch.manual_seed(5)
        results.append(np.asarray(each(PHOTO)))
    np.testing.assert_array_equal(*results)


def test_a_spec_is_restored_from_plain_values() -> None:
    spec = TransformSpec(100, 90, 80, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    plain = json.loads(json.dumps(spec.to_plain()))
    assert plain["mean"] == [0.5, 0.4, 0.3]
    assert TransformSpec.from_plain(plain) == spec


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [(200, 200, (0, 0, 200, 200)), (384, 512, (0, 64, 384, 448)), (301, 200, (50, 0, 250, 200)), (5, 9, (0, 2, 5, 7))],
)
def test_without_a_crop_the_largest_square_is_used(width: int, height: int, box: tuple[int, int, int, int]) -> None:
    """The whole of an aligned face crop of any size, and the middle of any other photo."""
    spec = TransformSpec(None, None, 32)
    photo = noise(width, height)
    want = photo.crop(box).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(np.asarray(eval_pipeline(spec)(photo)), np.asarray(want))
    assert TransformSpec.from_plain(json.loads(json.dumps(spec.to_plain()))) == spec


def test_a_crop_without_width_raises() -> None:
    with pytest.raises(ConfigError, match=r"height and width or neither, got .*set data\.crop_height"):
        TransformSpec(crop_width=None)


def test_a_spec_of_version_0_1_0_is_a_centre_crop() -> None:
    old = {"crop_height": 380, "crop_width": 256, "size": 64, "mean": [0.5] * 3, "std": [0.5] * 3}
    spec = TransformSpec.from_plain(old)
    assert (spec.crop, spec.keep_aspect) == ("centre", False)
    assert spec == TransformSpec(380, 256, 64, (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("wrong", [{"crop": "middle"}, {"share_height": 0.0}, {"share_width": 1.5}])
def test_an_impossible_crop_raises(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"(expected crop centre, share, face|must be in \(0, 1\]), got"):
        TransformSpec(**wrong)


@pytest.mark.parametrize("sizes", [{"crop_height": 7}, {"crop_width": 0}, {"size": -1}])
def test_too_small_a_size_raises(sizes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"at least 8 pixels, got .*set data\.crop"):
        TransformSpec(**sizes)


def test_tensors_have_the_channels_first() -> None:
    tensor = to_uint8(PHOTO)
    assert (tensor.dtype, tuple(tensor.shape)) == (torch.uint8, (3, 512, 384))
    np.testing.assert_array_equal(tensor.numpy(), np.asarray(PHOTO).transpose(2, 0, 1))


def test_trivialaugment_is_torchvisions() -> None:
    prepared = eval_pipeline(SPEC)(PHOTO)
    torch.manual_seed(5)
    want = TrivialAugmentWide()(prepared)
    torch.manual_seed(5)
    found = train_pipeline(SPEC, AugmentSettings(num_ops=0, trivial=True))(PHOTO)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(want))


def test_erasing_covers_what_torchvision_would() -> None:
    """torchvision erases a tensor with the rectangle that it draws after the probability, from the same generator."""
    prepared = eval_pipeline(SPEC)(PHOTO)
    torch.manual_seed(3)
    want = RandomErasing(p=1.0, value=128)(to_uint8(prepared))
    torch.manual_seed(3)
    found = train_pipeline(SPEC, AugmentSettings(num_ops=0, erase=1.0))(PHOTO)
    assert torch.equal(to_uint8(found), want)
    assert torch.equal(to_uint8(eval_pipeline(SPEC)(PHOTO)), to_uint8(prepared)), "the prepared photo is unchanged"


def test_erasing_has_its_probability() -> None:
    pipeline = train_pipeline(SPEC, AugmentSettings(num_ops=0, erase=0.3))
    plain = to_uint8(eval_pipeline(SPEC)(PHOTO))
    torch.manual_seed(0)
    erased = sum(not torch.equal(to_uint8(pipeline(PHOTO)), plain) for _ in range(200))
    assert 40 < erased < 80


@pytest.mark.parametrize("option", [{"erase": 1.0}, {"num_ops": 0, "trivial": True}])
def test_augmentation_of_single_photos_leaves_nothing_to_the_device(option: dict[str, float]) -> None:
    assert train_pipeline(SPEC, AugmentSettings(flip=0.5, **option), batched=True).draw is None  # type: ignore[arg-type]
