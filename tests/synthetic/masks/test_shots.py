import numpy as np
import pytest
from PIL import Image

from mask_lightning.synthetic.layout import PHOTO_SIZE
from mask_lightning.synthetic.masks.shots import (
    EYE_DISTANCE,
    EYES_AT,
    Shot,
    _coarsen,
    _end_at_the_face,
    cut_frame,
    draw_shot,
    draw_shots,
    frame_matrix,
    plan_shots,
)


@pytest.mark.parametrize("seed", range(4))
def test_of_seven_shots_five_are_right_one_wrong_one_without(seed):
    shots = plan_shots(np.random.default_rng(seed))
    assert [shot.name for shot in shots] == [*(f"mask{i}" for i in range(1, 6)), "incorrect_mask", "normal"]
    assert [shot.worn == "right" for shot in shots] == [True] * 5 + [False] * 2
    assert shots[5].worn is not None
    assert shots[6].kind is None


def test_a_gaiter_hangs_on_no_ear():
    planned = [plan_shots(np.random.default_rng(seed))[5] for seed in range(300)]
    worn = {shot.worn for shot in planned if shot.kind == "gaiter"}
    assert worn == {"nose_out", "chin"}


@pytest.mark.parametrize("size", [PHOTO_SIZE, (800, 512)])
def test_a_face_away_from_its_place_is_moved_there(face, size):
    away = face.moved(np.array([[0.4, 0, 250.0], [0, 0.4, 20]]))
    assert away.moved(frame_matrix(size, away)).eye_centre == pytest.approx(EYES_AT)


def test_a_tight_portrait_repeats_its_border(face_photo, face):
    tight = np.asarray(_end_at_the_face(face_photo, face, np.random.default_rng(0)))
    assert tight.shape == (512, 384, 3)
    assert (tight[:, 0] == tight[:, 20]).all()
    assert (tight[-1] == tight[-60]).all()
    x, y = map(round, face.mouth)
    assert (tight[y - 20 : y + 20, x - 40 : x + 40] == np.asarray(face_photo)[y - 20 : y + 20, x - 40 : x + 40]).all()


def test_coarse_portraits_lose_detail():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (512, 384, 3), dtype=np.uint8))
    spread = [np.asarray(_coarsen(noise, np.random.default_rng(seed))).std() for seed in range(40)]
    coarse = [each < 60 for each in spread]
    assert 0.1 < np.mean(coarse) < 0.6


@pytest.fixture(scope="module")
def drawn(face_photo, face):
    """Seven shots of person 1 with seed 0, drawn on three photos."""
    return list(draw_shots([(face_photo, face)] * 3, person_id="1", seed=0))


def test_seed_and_person_determine_the_shots(face_photo, face, drawn):
    def first_shot(person_id, seed):
        return next(draw_shots([(face_photo, face)], person_id=person_id, seed=seed)).portrait.tobytes()

    first = drawn[0].portrait.tobytes()
    assert first_shot("1", 0) == first
    assert first not in (first_shot("2", 0), first_shot("1", 1))


@pytest.mark.parametrize("masks", [1, 2])
def test_fewer_masks_leave_the_other_shots_as_they_are(face_photo, face, drawn, masks):
    fewer = list(draw_shots([(face_photo, face)], person_id="1", seed=0, masks=masks))
    assert [each.shot for each in fewer] == [each.shot for each in drawn[:masks] + drawn[5:]]
    one_photo = list(draw_shots([(face_photo, face)], person_id="1", seed=0))
    assert [each.portrait.tobytes() for each in fewer[-2:]] == [each.portrait.tobytes() for each in one_photo[-2:]]


def test_shots_differ_and_use_the_photos_in_turn(drawn):
    assert [shot.source for shot in drawn] == [0, 1, 2, 0, 1, 2, 0]
    assert {shot.portrait.size for shot in drawn} == {PHOTO_SIZE}
    assert len({shot.portrait.tobytes() for shot in drawn}) == 7


def test_a_portrait_is_unchanged_and_a_crop_is_placed(face_photo, face):
    assert np.array_equal(np.asarray(cut_frame(face_photo, frame_matrix(PHOTO_SIZE, face))), np.asarray(face_photo))
    crop = face_photo.crop((60, 90, 330, 400))
    tilted = face.moved(np.array([[1.0, 0, -60], [0.1, 1, -110]]))
    placed = tilted.moved(frame_matrix(crop.size, tilted))
    assert placed.eye_centre == pytest.approx(EYES_AT)
    assert placed.eye_distance == pytest.approx(EYE_DISTANCE)
    assert placed.eye_left[1] == pytest.approx(placed.eye_right[1])


def test_background_is_added_outside_the_crop(face, face_photo):
    crop = Image.new("RGB", (200, 200), (200, 40, 40))
    small = face.moved(np.array([[0.7, 0, -34.0], [0, 0.7, -80]]))
    portrait = np.asarray(cut_frame(crop, frame_matrix(crop.size, small)), dtype=int)
    assert np.abs(portrait - (200, 40, 40)).max() <= 2


def test_the_drawing_has_not_changed(face_photo, face):
    shot = Shot("incorrect_mask", "patterned", "nose_out")
    pixels = np.asarray(draw_shot(face_photo, face, shot, np.random.default_rng(5)))
    means = [[98.9, 135.8, 114.0], [106.4, 147.5, 118.5], [93.3, 105.9, 107.5], [88.9, 83.9, 102.5]]
    assert pixels.reshape(4, 128, 3, 128, 3).mean((1, 3, 4)) == pytest.approx(np.array(means), abs=0.1)
