from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from mask_lightning.synthetic.portraits.masks import MASK_KINDS, MISPLACEMENTS, MaskKind, Misplacement, sample_mask
from mask_lightning.synthetic.portraits.people import Person, sample_people
from mask_lightning.synthetic.portraits.photos import draw_photo, sample_shot

# Rows and columns of the default centre crop.
WINDOW = (slice(66, 446), slice(64, 320))


@pytest.fixture(scope="module")
def person() -> Person:
    return sample_people(3, seed=0)[2]


def photo(person: Person, kind: MaskKind | None, misplacement: Misplacement | None = None) -> NDArray[np.float64]:
    mask = None if kind is None else sample_mask(kind, misplacement, np.random.default_rng(0))
    shot = sample_shot(person, mask, np.random.default_rng(1))
    shot = replace(shot, pose=replace(shot.pose, x=384, y=524, scale=160, tilt=0, yaw=0, pitch=0))
    return np.asarray(draw_photo(person, shot, np.random.default_rng(2)), dtype=np.float64)


def region(pixels: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Middle of the face between two heights, in face units."""
    return pixels[round(262 + 80 * low) : round(262 + 80 * high), 160:224]


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_a_mask_changes_mouth_and_nose_but_not_the_eyes(person: Person, kind: MaskKind) -> None:
    bare, worn = photo(person, None), photo(person, kind)
    assert bare.shape == (512, 384, 3)
    assert np.abs(region(bare, 0.3, 1.0) - region(worn, 0.3, 1.0)).mean() > 10
    assert np.abs(region(bare, -0.7, -0.1) - region(worn, -0.7, -0.1)).mean() < 1


@pytest.mark.parametrize("misplacement", [misplacement for misplacement in MISPLACEMENTS if misplacement != "nostrils"])
def test_a_mask_worn_wrong_shows_the_nose(person: Person, misplacement: Misplacement) -> None:
    bare, worn = photo(person, None), photo(person, "surgical", misplacement)
    assert np.abs(region(bare, 0.0, 0.35) - region(worn, 0.0, 0.35)).mean() < 2
    assert np.abs(bare - worn).mean() > 0.5


def test_a_photo_is_reproducible_and_shots_differ(person: Person) -> None:
    shots = [sample_shot(person, None, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    first, same, other = (np.asarray(draw_photo(person, s, np.random.default_rng(7))) for s in shots)
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_the_drawing_has_not_changed(person: Person) -> None:
    # After an intended change increase DRAWING_VERSION, so that existing folders are drawn again.
    rng = np.random.default_rng(5)
    pixels = np.asarray(draw_photo(person, sample_shot(person, sample_mask("patterned", "nose", rng), rng), rng))
    means = [[159.9, 167.6, 162.9], [153.2, 90.8, 135.8], [145.0, 101.1, 151.9], [107.0, 78.7, 116.5]]
    assert pixels.reshape(4, 128, 3, 128, 3).mean((1, 3, 4)) == pytest.approx(np.array(means), abs=0.1)


def test_head_and_hair_stay_inside_the_crop(person: Person) -> None:
    corners = np.array([(-1.2, -1.75), (1.2, -1.75), (-1.2, 1.5), (1.2, 1.5)])
    rows, columns = WINDOW
    for seed in range(200):
        pixels = sample_shot(person, None, np.random.default_rng(seed)).pose.project(corners) / 2
        assert pixels[:, 0].min() > columns.start - 12
        assert pixels[:, 0].max() < columns.stop + 12
        assert pixels[:, 1].min() > rows.start
        assert pixels[:, 1].max() < rows.stop


def test_many_different_people_can_be_drawn() -> None:
    # Together they have every hair style, beard, glasses, clothes and scarf.
    for person in sample_people(12, seed=4):
        rng = np.random.default_rng(person.number)
        pixels = np.asarray(draw_photo(person, sample_shot(person, None, rng), rng))
        assert pixels[WINDOW].std() > 10
