from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mask_lightning.data.transforms import TransformSpec
from mask_lightning.inference.predictions import Predictions
from mask_lightning.labels import UNLABELLED, LabelSpace, Task
from mask_lightning.reports.faces import WIDTH, Face, faces, lay_over, opener, plot_faces

SPACE = LabelSpace((Task("mask", ("on", "off")), Task("age", ("young", "old"))))


@pytest.fixture
def answered(tmp_path: Path) -> Predictions:
    """Two photos of one person, 60 x 100, whose middle half is red: one right and one unknown answer, one wrong."""
    pixels = np.zeros((100, 60, 3), np.uint8)
    pixels[25:75, 15:45, 0] = 255
    for name in ("a", "b"):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    photos = pd.DataFrame(
        {"path": [str(tmp_path / "a.png"), str(tmp_path / "b.png")], "person_id": "7", "shot": ["x", "y"]}
    )
    probs = {"mask": np.array([[0.9, 0.1], [0.2, 0.8]], np.float32), "age": np.array([[0.3, 0.7]] * 2, np.float32)}
    targets = {"mask": np.array([0, 0]), "age": np.array([UNLABELLED, 1])}
    return Predictions(SPACE, photos, probs, targets, {}, ())


def test_a_face_is_what_the_network_sees_in_its_own_proportions(answered: Predictions) -> None:
    (face,) = faces(answered, [0], opener(TransformSpec(50, 30, 32)))
    assert face.photo.size == (WIDTH, round(WIDTH * 50 / 30))
    assert np.asarray(face.photo)[..., 0].min() == 255


def test_answers_say_what_is_right_wrong_and_unknown(answered: Predictions) -> None:
    first, second = faces(answered, [0, 1], opener(TransformSpec(50, 30, 32)))
    assert (first.name, first.mistaken, second.mistaken) == ("7 x", False, True)
    assert first.picture.alt == "7 x: mask on 90% (right); age old 70%"
    assert second.picture.alt == "7 y: mask off 80%, truly on; age old 70% (right)"


def test_a_sheet_has_the_wrong_answers_with_the_truth(answered: Predictions) -> None:
    figure = plot_faces(faces(answered, [0, 1], opener(TransformSpec(50, 30, 32))), title="two", columns=2)
    assert [axis.get_title() for axis in figure.axes] == ["7 x\non 90%\nold 70%", "7 y\noff 80% (is on)\nold 70%"]


def test_heat_is_where_the_map_is() -> None:
    photo = Image.new("RGB", (40, 80), (90, 90, 90))
    heat = np.zeros((4, 4), np.float32)
    heat[3, 0] = 1
    pixels = np.asarray(lay_over(photo, heat)).astype(int)
    changed = np.abs(pixels - 90).sum(axis=2)
    assert changed[70, 5] > 100
    assert changed[:30].max() <= 6
    assert changed[70, 30:].max() <= 6
    np.testing.assert_array_equal(lay_over(photo, np.zeros((4, 4), np.float32)), photo)


def test_a_face_without_answers() -> None:
    assert Face(Image.new("RGB", (4, 4)), "as it is").picture.alt == "as it is"
