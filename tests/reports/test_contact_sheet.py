"""Which people and problems are shown, in which places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mask_lightning.data.auditing.findings import KINDS, Finding, by_kind
from mask_lightning.data.index import read_index
from mask_lightning.labels import LabelSpace, Task
from mask_lightning.reports.contact_sheet import FRAMES, SheetRow, Tile, people_rows, plot_sheet, problem_rows

SHOTS = ["mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal"]


@pytest.mark.parametrize(("count", "want"), [(1, 1), (6, 6), (8, 8), (99, 24)])
def test_people_are_spread_over_gender_and_age(competition: Path, count: int, want: int) -> None:
    rows = people_rows(read_index(competition), count)
    assert len(rows) == want
    kinds = {tuple(row.label.split("\n")[1:3]) for row in rows}  # "male, <30"
    assert len(kinds) == min(want, 6)


def test_a_person_has_a_tile_per_shot_and_places_for_what_is_missing(competition: Path) -> None:
    table = read_index(competition)
    table = table[table["shot"] != "mask2"]
    first, second = people_rows(table, 2)
    assert [tile.caption for tile in first.tiles] == SHOTS
    assert {tile.caption for tile in second.tiles} == {""}
    assert [tile.path is None for tile in first.tiles] == [shot == "mask2" for shot in SHOTS]
    assert [Path(tile.path).stem for tile in first.tiles if tile.path] == [shot for shot in SHOTS if shot != "mask2"]


def test_nobody_makes_no_rows(competition: Path) -> None:
    assert people_rows(read_index(competition).iloc[:0], 6) == []


def pair(number: int) -> Finding:
    return Finding("near_across", "alike", (f"/x/{number}_male_Asian_30/normal.jpg", f"/x/{number}a/normal.jpg"))


def test_a_kind_of_problem_has_a_row_with_whole_findings_in_frames_by_turns() -> None:
    found = by_kind([*map(pair, range(5)), Finding("odd_count", "no photos to show"), Finding("small", "s", ("/a/b",))])
    near, small = problem_rows(found, columns=7)
    assert near.label == f"{KINDS['near_across'].title}\n(3 of 5)"
    assert [tile.frame for tile in near.tiles] == [FRAMES[0]] * 2 + [FRAMES[1]] * 2 + [FRAMES[0]] * 2
    assert near.tiles[0].caption == "0 male 30\nnormal.jpg"
    assert near.tiles[1].caption == "0a\nnormal.jpg"
    assert [tile.path for tile in small.tiles] == ["/a/b"]
    assert near.is_problem


def test_of_a_long_finding_the_first_photos_are_shown() -> None:
    (row,) = problem_rows({"copies_within": [Finding("copies_within", "", tuple(f"/a/{i}" for i in range(20)))]})
    assert [tile.path for tile in row.tiles] == [f"/a/{i}" for i in range(7)]


def test_photos_stand_in_their_places(tmp_path: Path) -> None:
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
