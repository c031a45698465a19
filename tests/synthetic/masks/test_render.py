import numpy as np
import pytest
from PIL import Image

from mask_lightning.synthetic.masks import cloth
from mask_lightning.synthetic.masks.cloth import COLOURS, MAKERS
from mask_lightning.synthetic.masks.render import draw_mask
from mask_lightning.synthetic.masks.shapes import MASK_KINDS, OUTLINES, WRONG_WAYS
from mask_lightning.synthetic.masks.shots import KIND_SHARES, WRONG_SHARES

GREEN = (40, 210, 70)  # no mask has this colour
# Landmarks that a mask shows and hides; straps may cover ears and jaws.
SEEN = {
    "right": ("eye_left", "eye_right"),
    "nose_out": ("eye_left", "eye_right", "bridge", "nose_tip"),
    "chin": ("eye_left", "eye_right", "nose_tip", "mouth", "mouth_left", "mouth_right"),
    "eyes": ("mouth", "mouth_left", "mouth_right", "chin"),
    "one_ear": ("eye_left", "eye_right", "nose_tip", "mouth", "chin"),
}
HIDDEN = {
    "right": ("nose_tip", "mouth", "mouth_left", "mouth_right"),
    "nose_out": ("mouth", "mouth_left", "mouth_right"),
    "chin": ("chin",),
    "eyes": ("eye_centre", "bridge"),
    "one_ear": (),
}


@pytest.fixture(scope="module")
def green_photo():
    return Image.new("RGB", (192, 256), GREEN)


@pytest.fixture(scope="module")
def small_face(face):
    return face.moved(np.array([[0.5, 0, 0], [0, 0.5, 0]]))


def is_green(photo, point):
    x, y = (round(value) for value in point)
    red, green, blue = np.asarray(photo)[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).mean(axis=0)
    return green > 2 * red and green > 2 * blue


@pytest.mark.parametrize(
    ("kind", "worn"),
    [(kind, worn) for kind in MASK_KINDS for worn in SEEN if kind != "gaiter" or worn in ("right", "nose_out", "chin")],
)
def test_a_mask_hides_the_right_parts(green_photo, small_face, kind, worn):
    for seed in range(2):
        drawn = draw_mask(green_photo, small_face, kind=kind, worn=worn, rng=np.random.default_rng(seed))
        assert [name for name in SEEN[worn] if not is_green(drawn, getattr(small_face, name))] == []
        assert [name for name in HIDDEN[worn] if is_green(drawn, getattr(small_face, name))] == []


def test_a_mask_on_one_ear_is_visible(green_photo, small_face):
    drawn = draw_mask(green_photo, small_face, kind="cloth", worn="one_ear", rng=np.random.default_rng(0))
    changed = np.abs(np.asarray(drawn, dtype=int) - GREEN).sum(axis=-1) > 60
    assert 0.01 < changed.mean() < 0.12


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_shading_follows_the_light_of_the_photo(face_photo, face, kind):
    photo = np.asarray(face_photo, dtype=float)
    photo[:, :192] *= 0.4
    dark_left = Image.fromarray(photo.astype(np.uint8))
    drawn = np.asarray(draw_mask(dark_left, face, kind=kind, worn="right", rng=np.random.default_rng(1)))
    x, y = int(face.mouth[0]), int(face.mouth[1])
    left, right = drawn[y - 25 : y + 25, x - 55 : x - 20], drawn[y - 25 : y + 25, x + 20 : x + 55]
    assert left.mean() < 0.75 * right.mean()


def test_a_mask_takes_the_colour_temperature_of_the_photo(face_photo, face):
    def ratio(tint):
        photo = Image.fromarray((np.asarray(face_photo) * np.array(tint)).astype(np.uint8))
        drawn = np.asarray(draw_mask(photo, face, kind="cone", worn="right", rng=np.random.default_rng(2)))
        x, y = int(face.mouth[0]), int(face.mouth[1])
        return drawn[y, x, 0] / drawn[y, x, 2]

    assert ratio((1, 0.8, 0.5)) > 1.15 * ratio((0.6, 0.8, 1))


def test_straps_of_dark_masks_are_dark(face_photo, face, monkeypatch):
    def strap(colour):
        monkeypatch.setitem(COLOURS, "surgical", (colour,))
        monkeypatch.setattr(cloth, "DYED", ())
        drawn = draw_mask(face_photo, face, kind="surgical", worn="chin", rng=np.random.default_rng(0))
        changed = np.asarray(drawn, int) - np.asarray(face_photo, int)
        return changed[int(face.ear_right[1]) + 10 : int(face.mouth[1]) - 25, 270:330].sum()

    assert strap((0.08, 0.08, 0.08)) < strap((0.9, 0.9, 0.9))


def test_a_mark_changes_a_small_part_of_the_cloth(face_photo, face, monkeypatch):
    drawn = []
    for share in (0.0, 1.0):
        monkeypatch.setattr(cloth, "LOGO_SHARE", share)
        photo = draw_mask(face_photo, face, kind="fabric", worn="right", rng=np.random.default_rng(0))
        drawn.append(np.asarray(photo, int))
    assert 0.0005 < (np.abs(drawn[0] - drawn[1]).sum(axis=-1) > 100).mean() < 0.03


def test_pixels_far_from_the_face_are_unchanged(face_photo, face):
    drawn = draw_mask(face_photo, face, kind="surgical", worn="right", rng=np.random.default_rng(3))
    before, after = np.asarray(face_photo), np.asarray(drawn)
    assert np.array_equal(before[:160], after[:160])
    assert np.array_equal(before[430:], after[430:])
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_the_same_seed_draws_the_same_mask(green_photo, small_face, kind):
    one, two, other = (
        draw_mask(green_photo, small_face, kind=kind, worn="right", rng=np.random.default_rng(seed)).tobytes()
        for seed in (5, 5, 6)
    )
    assert one == two != other


@pytest.mark.parametrize("size", [(60, 60), (192, 256)])
@pytest.mark.parametrize("shift", [(-75, 0), (75, 100), (0, -125), (5000, 5000)])
def test_a_face_at_the_edge_can_be_drawn_on(green_photo, small_face, size, shift):
    moved = small_face.moved(np.array([[1.0, 0, shift[0]], [0, 1, shift[1]]]))
    photo = green_photo.resize(size)
    assert draw_mask(photo, moved, kind="kn95", worn="right", rng=np.random.default_rng(0)).size == size


def test_every_kind_has_a_shape_a_cloth_colours_and_a_share():
    assert set(MASK_KINDS) == set(OUTLINES) == set(MAKERS) == set(COLOURS) == set(KIND_SHARES)
    assert set(WRONG_WAYS) == set(WRONG_SHARES)
    assert sum(KIND_SHARES.values()) == pytest.approx(1) == sum(WRONG_SHARES.values())
