"""Grids of photos and contact sheets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mask_lightning.data.auditing.findings import KINDS, Finding, by_kind
from mask_lightning.data.index import read_index
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.labels import FACE, UNLABELLED, LabelSpace, Task
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.reports.figures import RED
from mask_lightning.reports.photo_grids import (
    CARD_WIDTH,
    FRAMES,
    PhotoCard,
    SheetRow,
    TaskPrediction,
    Tile,
    card_opener,
    make_cards,
    overlay_heat_map,
    people_rows,
    plot_cards,
    plot_results,
    plot_sheet,
    problem_rows,
)

SPACE = LabelSpace((Task("mask", ("on", "off")), Task("age", ("young", "old"))))


@pytest.fixture
def predictions(tmp_path: Path) -> Predictions:
    """Two photos of one person, 60 x 100, whose middle half is red; correct, wrong and unlabelled predictions."""
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


def test_a_card_shows_the_part_of_the_photo_that_the_network_sees(predictions: Predictions) -> None:
    (card,) = make_cards(predictions, [0], card_opener(TransformSpec(50, 30, 32)))
    assert card.photo.size == (CARD_WIDTH, round(CARD_WIDTH * 50 / 30))
    assert np.asarray(card.photo)[..., 0].min() == 255


def test_predictions_are_correct_wrong_or_unknown(predictions: Predictions) -> None:
    first, second = make_cards(predictions, [0, 1], card_opener(TransformSpec(50, 30, 32)))
    assert (first.name, first.has_error, second.has_error) == ("7 x", False, True)
    assert first.picture.alt == "7 x: mask on 90% (correct); age old 70%"
    assert second.picture.alt == "7 y: mask off 80% (true: on); age old 70% (correct)"


def test_wrong_predictions_are_shown_with_the_true_class(predictions: Predictions) -> None:
    figure = plot_cards(make_cards(predictions, [0, 1], card_opener(TransformSpec(50, 30, 32))), title="two", columns=2)
    assert [axis.get_title() for axis in figure.axes] == ["7 x\non 90%\nold 70%", "7 y\noff 80% (true: on)\nold 70%"]


def test_the_heat_map_changes_only_its_own_region() -> None:
    photo = Image.new("RGB", (40, 80), (90, 90, 90))
    heat = np.zeros((4, 4), np.float32)
    heat[3, 0] = 1
    pixels = np.asarray(overlay_heat_map(photo, heat)).astype(int)
    changed = np.abs(pixels - 90).sum(axis=2)
    assert changed[70, 5] > 100
    assert changed[:30].max() <= 6
    assert changed[70, 30:].max() <= 6
    np.testing.assert_array_equal(overlay_heat_map(photo, np.zeros((4, 4), np.float32)), photo)


def test_a_card_without_predictions() -> None:
    assert PhotoCard(Image.new("RGB", (4, 4)), "as it is").picture.alt == "as it is"


def test_errors_are_red_and_missing_labels_are_not_errors(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    for path in paths:
        Image.new("RGB", (20, 30)).save(path)
    space = FACE.only(["gender", "age"])
    predictions = Predictions(
        space,
        pd.DataFrame({"photo": paths, "path": paths}),
        {"gender": np.eye(2, dtype=np.float32)[[0, 1, 1]], "age": np.eye(3, dtype=np.float32)[[0, 2, 1]]},
        {"gender": np.array([0, 0, 1]), "age": np.array([0, 2, UNLABELLED])},
        {},
        (),
    )
    figure = plot_results(predictions, TransformSpec(size=16), title="held out")
    titles = [axis.title for axis in figure.axes]
    assert [title.get_text() for title in titles] == [
        "male <30\nmale <30",
        "male >=60\nfemale >=60",
        "female ?\nfemale 30-59",
    ]
    assert [title.get_color() == RED for title in titles] == [False, True, False]


SHOTS = ["mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal"]


@pytest.mark.parametrize(("count", "want"), [(1, 1), (6, 6), (8, 8), (99, 24)])
def test_people_are_spread_over_gender_and_age(competition: Path, count: int, want: int) -> None:
    rows = people_rows(read_index(competition), count)
    assert len(rows) == want
    kinds = {tuple(row.label.split("\n")[1:3]) for row in rows}  # "male, <30"
    assert len(kinds) == min(want, 6)


def test_a_person_has_a_tile_per_shot_empty_if_missing(competition: Path) -> None:
    table = read_index(competition)
    table = table[table["shot"] != "mask2"]
    first, second = people_rows(table, 2)
    assert [tile.caption for tile in first.tiles] == SHOTS
    assert {tile.caption for tile in second.tiles} == {""}
    assert [tile.path is None for tile in first.tiles] == [shot == "mask2" for shot in SHOTS]
    assert [Path(tile.path).stem for tile in first.tiles if tile.path] == [shot for shot in SHOTS if shot != "mask2"]


def test_an_empty_table_has_no_rows(competition: Path) -> None:
    assert people_rows(read_index(competition).iloc[:0], 6) == []


def pair(number: int) -> Finding:
    return Finding("near_across", "alike", (f"/x/{number}_male_Asian_30/normal.jpg", f"/x/{number}a/normal.jpg"))


def test_a_kind_of_problem_has_a_row_of_whole_findings_in_alternating_frames() -> None:
    found = by_kind([*map(pair, range(5)), Finding("odd_count", "no photos to show"), Finding("small", "s", ("/a/b",))])
    near, small = problem_rows(found, columns=7)
    assert near.label == f"{KINDS['near_across'].title}\n(3 of 5)"
    assert [tile.frame for tile in near.tiles] == [FRAMES[0]] * 2 + [FRAMES[1]] * 2 + [FRAMES[0]] * 2
    assert near.tiles[0].caption == "0 male 30\nnormal.jpg"
    assert near.tiles[1].caption == "0a\nnormal.jpg"
    assert [tile.path for tile in small.tiles] == ["/a/b"]
    assert near.is_problem


def test_the_first_photos_of_a_long_finding_are_shown() -> None:
    (row,) = problem_rows({"copies_within": [Finding("copies_within", "", tuple(f"/a/{i}" for i in range(20)))]})
    assert [tile.path for tile in row.tiles] == [f"/a/{i}" for i in range(7)]


def test_the_sheet_shows_photos_broken_photos_and_empty_tiles(tmp_path: Path) -> None:
    Image.new("RGB", (300, 400), (200, 0, 0)).save(tmp_path / "red.png")
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    tiles = (Tile(str(tmp_path / "red.png"), "red"), Tile(str(tmp_path / "broken.jpg")), Tile(None))
    figure = plot_sheet([SheetRow("person", tiles)], title="sheet", columns=4)
    label, red, broken, empty, unused = figure.axes
    assert label.texts[0].get_text() == "person"
    shown = np.asarray(red.images[0].get_array())
    assert shown.shape == (192, 144, 3)
    assert (shown == (200, 0, 0)).all()
    assert red.get_title() == "red"
    assert [text.get_text() for text in broken.texts] == ["cannot be\ndecoded"]
    assert [text.get_text() for text in empty.texts] == ["no photo"]
    assert not unused.images


def test_people_with_one_photo_each_share_a_row() -> None:
    values = [{"person_id": str(i), "gender": i % 2, "age": 0, "years": 20 + i, "path": f"/a/{i}"} for i in range(30)]
    rows = people_rows(pd.DataFrame(values), 2)
    assert [len(row.tiles) for row in rows] == [7, 7]
    assert rows[0].tiles[0] == Tile("/a/0", "male, <30, 20 years")
    assert rows[1].tiles[-1] == Tile("/a/13", "female, <30, 33 years")


def test_a_table_without_shots_shows_the_first_photos() -> None:
    table = pd.DataFrame({"person_id": "a", "path": [f"/a/{i}" for i in range(9)], "smile": [0, 1] * 4 + [0]})
    space = LabelSpace((Task("smile", ("no", "yes")),))
    (row,) = people_rows(table, 6, space=space, strata=())
    assert row.label == "a\n"
    assert [tile.path for tile in row.tiles] == [f"/a/{i}" for i in range(7)]


def test_a_table_of_one_person_is_enough() -> None:
    values = {"person_id": "1", "gender": 0, "age": 1, "years": 40, "path": "/a/b.jpg"}
    shots = [{**values, "shot": shot} for shot in ("mask1", "normal")]
    (row,) = people_rows(pd.DataFrame(shots), 6)
    assert row.label == "1\nmale\n30-59\n40 years"


def test_names_are_shown_literally(draw_texts, tmp_path: Path) -> None:
    name = "$x^2$ 100$"
    photo = Image.new("RGB", (30, 40))
    prediction = TaskPrediction("price", name, 0.9, f"{name}!", correct=False)
    cards = plot_cards([PhotoCard(photo, name, (prediction,))], title=f"1 {name}")
    assert {name, f"1 {name}", f"{name} 90% (true: {name}!)"} <= set(draw_texts(cards).literal)
    long = "x" * 17 + name  # longer than a line of a label
    sheet = draw_texts(plot_sheet([SheetRow(long, (Tile(None, name),))], title=f"1 {name}"))
    assert {name, f"1 {name}"} <= set(sheet.literal)
    assert long.replace(" ", "") in "".join(sheet.literal).replace(" ", "")
    assert sheet.math == ()
