"""Every kind of data gives the same kind of result."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest

from mask_lightning.data.index import read_index
from mask_lightning.data.sources import (
    READERS,
    LabelledPhotos,
    apply_corrections,
    read_labelled_photos,
    read_photo_table,
    read_photos,
)
from mask_lightning.errors import ConfigError, SampleTableError
from mask_lightning.labels import FACE, FACE_SETS, PERSON_TASKS, LabelSpace, Task
from mask_lightning.settings.data import DataSettings

CORRECTIONS = "person_id,field,value\n{}\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two people with two photos each."""
    for name in ("1.jpg", "2.jpg", "3.jpg", "4.jpg"):
        (tmp_path / name).touch()
    text = (
        "path,person_id,gender,age,smile\n1.jpg,a,male,30,no\n2.jpg,a,male,30,yes\n3.jpg,b,female,,no\n4.jpg,b,,,yes\n"
    )
    (tmp_path / "faces.csv").write_text(text)
    return tmp_path / "faces.csv"


def correct_with(photos: LabelledPhotos, tmp_path: Path, line: str) -> LabelledPhotos:
    (tmp_path / "corrections.csv").write_text(CORRECTIONS.format(line))
    return apply_corrections(photos, tmp_path / "corrections.csv", agreed_by=1)


def test_every_kind_has_a_reader_and_labels() -> None:
    assert set(READERS) == set(FACE_SETS)


@pytest.mark.parametrize("name", ["auto", "competition"])
def test_the_competitions_folder_is_read_by_read_index(competition: Path, name: str) -> None:
    photos = read_photos(name, competition)
    pd.testing.assert_frame_equal(photos.table, read_index(competition))
    assert (photos.space, photos.strata, photos.root) == (FACE, ("gender", "age"), competition)


def test_a_tables_label_space_is_logged(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        photos = read_photo_table(table, None, space=None, needed=["smile"])
    assert "gender (male, female); smile (no, yes)" in caplog.text
    assert photos.root == table.parent
    assert photos.strata == ("gender",)  # each of them smiles in one photo


def test_a_table_takes_corrections_of_its_columns(table: Path, tmp_path: Path) -> None:
    photos = read_photo_table(table, None, space=FACE, needed=[])
    assert correct_with(photos, tmp_path, "b,gender,male").table["gender"].tolist() == [0, 0, 0, 0]
    older = correct_with(photos, tmp_path, "a,age,60").table
    assert (older["age"].tolist(), older["years"].tolist()[:2]) == ([2, 2, -1, -1], [60, 60])
    assert apply_corrections(photos, None, agreed_by=1) is photos


@pytest.mark.parametrize(
    ("line", "column", "want"),
    [("b,gender,male", "gender", [1, 1, 1, 1]), ("a,smile,1.jpg:yes", "smile", [1, 1, 0, 1])],
)
def test_corrections_use_a_tables_own_class_names(
    table: Path, tmp_path: Path, line: str, column: str, want: list[int]
) -> None:
    space = LabelSpace((Task("gender", ("female", "male")), Task("smile", ("no", "yes"))))
    assert correct_with(read_photo_table(table, None, space=space), tmp_path, line).table[column].tolist() == want


@pytest.mark.parametrize(
    ("space", "line", "column"),
    [
        (FACE, "a,swap,normal:incorrect_mask", "shot"),
        (FACE.only(["gender"]), "a,age_band,>=60", "age"),
        (LabelSpace((Task("smile", ("no", "yes")),)), "a,gender,male", "gender"),
    ],
)
def test_corrections_of_missing_columns_are_refused(
    table: Path, tmp_path: Path, space: LabelSpace, line: str, column: str
) -> None:
    photos = read_photo_table(table, None, space=space)
    with pytest.raises(ConfigError, match=rf"corrects .*, which needs {column} .*data.corrections=null"):
        correct_with(photos, tmp_path, line)


def test_options_name_a_folder_and_its_corrections(competition: Path, tmp_path: Path) -> None:
    (tmp_path / "corrections.csv").write_text(CORRECTIONS.format("000001,gender,male"))
    data = DataSettings(name="competition", root=competition, corrections=tmp_path / "corrections.csv")
    photos = read_labelled_photos(data)
    plain = read_photos("competition", competition)
    changed = photos.table["gender"] != plain.table["gender"]
    assert set(photos.table["person_id"][changed]) == {"000001"}
    pd.testing.assert_frame_equal(read_labelled_photos(data.model_copy(update={"agreed_by": 2})).table, plain.table)


def test_options_name_a_table_and_the_tasks_that_it_needs(table: Path) -> None:
    data = DataSettings(name="table", table=table)
    assert read_labelled_photos(data).space.names == ("gender", "smile")
    assert read_labelled_photos(data, space=FACE, needed=["age"]).space.names == ("gender", "age")
    with pytest.raises(SampleTableError, match=r"expected a column mask in .*found path, person_id"):
        read_labelled_photos(data, space=FACE, needed=["mask"])


def test_without_a_root_the_drawn_portraits_are_read(competition: Path) -> None:
    data = DataSettings()
    assert data.is_drawn
    photos = read_labelled_photos(data, portraits=competition)
    pd.testing.assert_frame_equal(photos.table, read_index(competition))
    assert photos.root == competition
    assert not DataSettings(root=competition).is_drawn


def test_a_reader_can_be_replaced(competition: Path) -> None:
    data = DataSettings(root=competition)
    photos = read_labelled_photos(data, readers={**READERS, "auto": lambda root: read_index(root).head(3)})
    assert (len(photos.table), photos.space, photos.strata) == (3, FACE, PERSON_TASKS)
