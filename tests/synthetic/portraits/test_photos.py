from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from mask_lightning.synthetic.portraits.fits import KINDS, WRONGS, Kind, Wrong, sample_mask
from mask_lightning.synthetic.portraits.people import Person
from mask_lightning.synthetic.portraits.photos import sample_shot, take_photo
from mask_lightning.synthetic.portraits.sampling import sample_people

# Rows and columns of the photo's window that a network sees.
WINDOW = (slice(66, 446), slice(64, 320))


@pytest.fixture(scope="module")
def person() -> Person:
    return sample_people(3, seed=0)[2]


def photo(person: Person, kind: Kind | None, wrong: Wrong | None = None) -> NDArray[np.float64]:
    mask = None if kind is None else sample_mask(kind, wrong, np.random.default_rng(0))
    shot = sample_shot(person, mask, np.random.default_rng(1))
    shot = replace(shot, pose=replace(shot.pose, x=384, y=524, scale=160, tilt=0, yaw=0, pitch=0))
    return np.asarray(take_photo(person, shot, np.random.default_rng(2)), dtype=np.float64)


def region(pixels: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """The middle of the face between two heights in face units."""
    return pixels[round(262 + 80 * low) : round(262 + 80 * high), 160:224]


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_changes_mouth_and_nose_but_not_the_eyes(person: Person, kind: Kind) -> None:
    bare, worn = photo(person, None), photo(person, kind)
    assert bare.shape == (512, 384, 3)
    assert np.abs(region(bare, 0.3, 1.0) - region(worn, 0.3, 1.0)).mean() > 10
    assert np.abs(region(bare, -0.7, -0.1) - region(worn, -0.7, -0.1)).mean() < 1


@pytest.mark.parametrize("wrong", [wrong for wrong in WRONGS if wrong != "nostrils"])
def test_a_mask_worn_wrong_shows_the_nose(person: Person, wrong: Wrong) -> None:
    bare, worn = photo(person, None), photo(person, "surgical", wrong)
    assert np.abs(region(bare, 0.0, 0.35) - region(worn, 0.0, 0.35)).mean() < 2
    assert np.abs(bare - worn).mean() > 0.5


def test_a_photo_is_repeatable_but_shots_differ(person: Person) -> None:
    shots = [sample_shot(person, None, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    first, same, other = (np.asarray(take_photo(person, s, np.random.default_rng(7))) for s in shots)
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_head_and_hair_stay_in_the_window(person: Person) -> None:
    corners = np.array([(-1.2, -1.75), (1.2, -1.75), (-1.2, 1.5), (1.2, 1.5)])
    rows, columns = WINDOW
    for seed in range(200):
        pixels = sample_shot(person, None, np.random.default_rng(seed)).pose.project(corners) / 2
        assert pixels[:, 0].min() > columns.start - 12
        assert pixels[:, 0].max() < columns.stop + 12
        assert pixels[:, 1].min() > rows.start
        assert pixels[:, 1].max() < rows.stop


def test_everybody_can_be_drawn() -> None:
    # One of everything: hair styles, beards, glasses, clothes and scarves.
    for person in sample_people(12, seed=4):
        rng = np.random.default_rng(person.number)
        pixels = np.asarray(take_photo(person, sample_shot(person, None, rng), rng))
        assert pixels[WINDOW].std() > 10
