import numpy as np
import pytest
from PIL import Image

from mask_lightning.synthetic.masks.framing import EYE_DISTANCE, EYES_AT, FRAME, framed, placement
from mask_lightning.synthetic.masks.shots import plan_shots, take_shots


@pytest.mark.parametrize("seed", range(4))
def test_seven_shots_five_right_one_wrong_one_without(seed):
    shots = plan_shots(np.random.default_rng(seed))
    assert [shot.name for shot in shots] == [*(f"mask{i}" for i in range(1, 6)), "incorrect_mask", "normal"]
    assert [shot.worn == "right" for shot in shots] == [True] * 5 + [False] * 2
    assert shots[5].worn is not None
    assert shots[6].kind is None


def test_shots_are_a_function_of_seed_and_person(face_photo, face):
    def first_shot(person_id, seed):
        return next(take_shots([(face_photo, face)], person_id=person_id, seed=seed)).portrait.tobytes()

    assert first_shot("1", 0) == first_shot("1", 0)
    assert first_shot("1", 0) not in (first_shot("2", 0), first_shot("1", 1))


def test_shots_differ_and_several_photos_of_a_person_take_turns(face_photo, face):
    taken = list(take_shots([(face_photo, face)] * 3, person_id="1", seed=0))
    assert [shot.source for shot in taken] == [0, 1, 2, 0, 1, 2, 0]
    assert {shot.portrait.size for shot in taken} == {FRAME}
    assert len({shot.portrait.tobytes() for shot in taken}) == 7


def test_a_photo_in_the_frame_stays_and_a_crop_is_placed(face_photo, face):
    assert np.array_equal(np.asarray(framed(face_photo, placement(FRAME, face))), np.asarray(face_photo))
    crop = face_photo.crop((60, 90, 330, 400))
    tilted = face.moved(np.array([[1.0, 0, -60], [0.1, 1, -110]]))
    placed = tilted.moved(placement(crop.size, tilted))
    assert placed.eye_centre == pytest.approx(EYES_AT)
    assert placed.eye_distance == pytest.approx(EYE_DISTANCE)
    assert placed.eye_left[1] == pytest.approx(placed.eye_right[1])


def test_beyond_the_crop_lies_a_background(face, face_photo):
    crop = Image.new("RGB", (200, 200), (200, 40, 40))
    small = face.moved(np.array([[0.7, 0, -34.0], [0, 0.7, -80]]))
    portrait = np.asarray(framed(crop, placement(crop.size, small)), dtype=int)
    assert np.abs(portrait - (200, 40, 40)).max() <= 2
