"""Annotated photos: boxes where they belong, text inside the photo and beside its face, enlarged small photos."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageColor

from mask_lightning.faces.detector import Box
from mask_lightning.reports.annotations import COLOURS, SHORTEST, Note, annotate, enlargement

GREY = (128, 128, 128)
LINES = ("wear 0.98", "female 0.71", "30-59 0.55")


def changed(drawn: Image.Image) -> np.ndarray:
    return (np.asarray(drawn) != GREY).any(axis=2)


@pytest.mark.parametrize(("size", "factor"), [((50, 40), 13), ((640, 480), 1), ((400, 639), 2), ((4000, 3000), 1)])
def test_small_photos_are_enlarged(size: tuple[int, int], factor: int) -> None:
    assert enlargement(size) == factor
    drawn = annotate(Image.new("RGB", size, GREY), [])
    assert drawn.size == (size[0] * factor, size[1] * factor)
    assert max(drawn.size) >= SHORTEST
    assert not changed(drawn).any()


@pytest.mark.parametrize(
    "box",
    [(300, 100, 360, 180), (0, 0, 30, 40), (600, 440, 640, 480), (0, 0, 640, 480), (320, 470, 326, 480)],
    ids=["middle", "top left", "bottom right", "whole photo", "tiny"],
)
def test_a_box_and_its_text_are_in_the_photo(box: Box) -> None:
    photo = Image.new("RGB", (640, 480), GREY)
    drawn = annotate(photo, [Note(box, LINES, 1)])
    assert not changed(photo).any()  # drawn on a copy
    pixels = np.asarray(drawn).astype(int)
    outline = (np.abs(pixels - ImageColor.getrgb(COLOURS[1])).max(axis=2) < 3).sum()
    assert outline > 20
    white = (pixels > 200).all(axis=2)
    rows = np.flatnonzero(white.any(axis=1))
    assert white.sum() > 80  # three lines of at least 12 pixels
    assert rows[-1] - rows[0] >= 30
    assert 0 < rows[0] <= rows[-1] < 479


def test_text_stays_near_its_face_and_covers_no_other() -> None:
    boxes: list[Box] = [(100.0, 100.0, 160.0, 170.0), (100.0, 172.0, 160.0, 242.0)]
    drawn = annotate(Image.new("RGB", (640, 480), GREY), [Note(box, LINES, i) for i, box in enumerate(boxes)])
    pixels = np.asarray(drawn)
    for left, top, right, bottom in boxes:
        inside = pixels[int(top) + 4 : int(bottom) - 4, int(left) + 4 : int(right) - 4]
        assert (inside == GREY).all()
    rows, columns = np.nonzero(changed(drawn))
    assert rows.max() < 242 + 80
    assert columns.max() < 160 + 120


def test_forty_faces_are_drawn() -> None:
    boxes = [(20.0 + i % 8 * 155, 20.0 + i // 8 * 140, 60.0 + i % 8 * 155, 70.0 + i // 8 * 140) for i in range(40)]
    drawn = annotate(Image.new("RGB", (1280, 720), GREY), [Note(box, LINES, i) for i, box in enumerate(boxes)])
    assert all(changed(drawn.crop(tuple(map(int, box)))).any() for box in boxes)
