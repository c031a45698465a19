from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mask_lightning.errors import DetectorError, MaskLightningError
from mask_lightning.faces.detector import Face
from mask_lightning.synthetic.masks import landmarks
from mask_lightning.synthetic.masks.landmarks import (
    AVERAGE_FACE,
    CROPS,
    DEPTHS,
    DETECTED,
    FaceLandmarks,
    aligned_landmarks,
    choose_source,
    find_landmarks,
    fit_average_face,
)

PORTRAIT = CROPS["portrait"]


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (18, -12), (-15, 20)])
def test_a_face_near_its_place_is_found(face_photo, face, dx, dy):
    moved = face_photo.transform((384, 512), Image.Transform.AFFINE, (1, 0, -dx, 0, 1, -dy))
    found = aligned_landmarks(moved, PORTRAIT)
    assert found is not None
    assert found.nose_tip == pytest.approx((face.nose_tip[0] + dx, face.nose_tip[1] + dy), abs=8)
    assert found.yaw is None


@pytest.mark.parametrize("name", ["flat", "noise", "gradient"])
def test_photos_without_a_face_give_none(name):
    noise = np.random.default_rng(0).integers(0, 255, (512, 384, 3), dtype=np.uint8)
    photos = {
        "flat": Image.new("RGB", (384, 512), (200, 150, 120)),
        "noise": Image.fromarray(noise),
        "gradient": Image.linear_gradient("L").resize((384, 512)).convert("RGB"),
    }
    assert find_landmarks(photos[name], PORTRAIT, source="geometry") is None


@pytest.mark.parametrize(("crop", "size"), [("fairface_025", 224), ("fairface_125", 448), ("utkface", 200)])
def test_the_face_is_inside_the_crop(face_photo, face, crop, size):
    geometry = CROPS[crop]
    step = face.eye_distance / (geometry.eye_distance * size)
    left = face.eye_centre[0] - geometry.eye_x * size * step
    top = face.eye_centre[1] - geometry.eye_y * size * step
    photo = face_photo.transform((size, size), Image.Transform.AFFINE, (step, 0, left, 0, step, top))
    found = aligned_landmarks(photo, geometry)
    assert found is not None
    wanted = ((face.chin[0] - left) / step, (face.chin[1] - top) / step)
    assert found.chin == pytest.approx(wanted, abs=0.035 * size)
    assert found.chin[1] < size


def test_landmarks_follow_an_affine_map(face):
    turned = face.moved(np.array([[0.0, -2.0, 10.0], [2.0, 0.0, 20.0]]))
    assert turned.eye_distance == pytest.approx(2 * face.eye_distance)
    assert turned.chin == pytest.approx((10 - 2 * face.chin[1], 20 + 2 * face.chin[0]))


def test_the_error_for_missing_mediapipe_names_the_remedy(monkeypatch, face_photo):
    monkeypatch.setattr(landmarks, "mediapipe_installed", lambda: False)
    with pytest.raises(MaskLightningError, match="install mask_lightning\\[landmarks\\]"):
        find_landmarks(face_photo, PORTRAIT, source="mediapipe")


@pytest.mark.parametrize(("depth", "yaw"), [(0.0, 0.0), (0.5, 45.0)])
def test_the_mesh_is_converted_to_pixels_and_yaw(monkeypatch, face_photo, depth, yaw):
    mesh = [SimpleNamespace(x=0.25 + 0.001 * i, y=0.5, z=0.0) for i in range(468)]
    mesh[454] = SimpleNamespace(x=mesh[234].x + 0.5, y=0.5, z=depth)
    result = SimpleNamespace(multi_face_landmarks=[SimpleNamespace(landmark=mesh)])
    monkeypatch.setattr(landmarks, "mediapipe_installed", lambda: True)
    monkeypatch.setattr(landmarks, "_face_mesh", lambda: SimpleNamespace(process=lambda _: result))
    found = find_landmarks(face_photo, PORTRAIT)
    assert isinstance(found, FaceLandmarks)
    assert found.nose_tip == pytest.approx((0.251 * 384, 256))
    assert (found.yaw, found.source) == (pytest.approx(yaw), "mediapipe")
    result.multi_face_landmarks = None
    assert find_landmarks(face_photo, PORTRAIT) is None


@pytest.mark.parametrize("yaw", [-30, 0, 20])
@pytest.mark.parametrize("roll", [0, 90])
def test_the_average_face_is_fitted_to_five_landmarks(yaw: float, roll: float) -> None:
    turn, tilt = np.radians([yaw, roll])
    side = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0]])  # turned about the vertical, seen from the front
    camera = 80 * np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]) @ side
    found = fit_average_face(DETECTED @ camera.T + (300, 200))
    assert found.yaw == pytest.approx(yaw)
    assert found.source == "detector"
    for name, (x, y) in AVERAGE_FACE.items():
        assert getattr(found, name) == pytest.approx(tuple(camera @ (x, y, DEPTHS[name]) + (300, 200)))


def test_a_long_face_keeps_its_length() -> None:
    found = fit_average_face(DETECTED[:, :2] * (100, 130))
    assert found.chin == pytest.approx((0, 130 * AVERAGE_FACE["chin"][1]), abs=3)
    assert found.eye_distance == pytest.approx(100)


@pytest.mark.parametrize(("unit", "found"), [(None, False), (15.0, False), (60.0, True)])
def test_the_detector_finds_faces_anywhere(
    monkeypatch: pytest.MonkeyPatch, face_photo: Image.Image, unit: float | None, found: bool
) -> None:
    points = np.zeros((5, 2)) if unit is None else DETECTED[:, :2] * unit + (70, 90)
    faces = [] if unit is None else [Face((10, 20, 90, 120), 0.9, points.astype(np.float32))]
    detector = SimpleNamespace(find=lambda _, max_faces: faces[:max_faces])
    monkeypatch.setattr(landmarks, "load_detector", lambda: detector)
    face = find_landmarks(face_photo, PORTRAIT, source="detector")
    assert (face is not None) is found
    if face is not None:
        assert face.eye_centre == pytest.approx((70, 90), abs=2)


@pytest.mark.parametrize(
    ("mediapipe", "detector", "want"),
    [(True, True, "mediapipe"), (False, True, "detector"), (False, False, "geometry"), (True, False, "mediapipe")],
)
def test_the_best_installed_source_is_chosen(
    monkeypatch: pytest.MonkeyPatch, mediapipe: bool, detector: bool, want: str
) -> None:
    def require() -> None:
        if not detector:
            raise DetectorError("not installed")

    monkeypatch.setattr(landmarks, "mediapipe_installed", lambda: mediapipe)
    monkeypatch.setattr(landmarks, "require_detector", require)
    assert choose_source("auto") == want
    assert choose_source("geometry") == "geometry"
