import hashlib
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from blank_shots import draw_blank_shots
from PIL import Image

from mask_lightning.errors import ConfigError, SampleTableError
from mask_lightning.synthetic.masks import folder
from mask_lightning.synthetic.masks.folder import mask_people, read_people
from mask_lightning.synthetic.masks.shots import draw_shots

GEOMETRY = {"seed": 3, "landmarks": "geometry", "progress": False}


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def written(tmp_path_factory, make_face_set):
    root = tmp_path_factory.mktemp("set")
    rows = make_face_set(root / "faces")
    return rows, mask_people(rows, root / "out", **GEOMETRY)


def test_the_layout_is_the_competitions(written):
    _, result = written
    shots = {f"{name}.jpg" for name in ("mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal")}
    folders = ["1_male_LatinoHispanic_30", "2_female_LatinoHispanic_61"]
    images = result.root / "train" / "images"
    assert sorted(path.name for path in images.iterdir()) == folders
    assert all({path.name for path in (images / name).iterdir()} == shots for name in folders)
    with Image.open(images / folders[0] / "mask1.jpg") as photo:
        assert photo.size == (384, 512)
    train = pd.read_csv(result.root / "train" / "train.csv", dtype=str)
    assert train.columns.tolist() == ["id", "gender", "race", "age", "path"]
    assert train["path"].tolist() == folders


def test_provenance_lists_the_source_of_each_shot(written):
    face_set, result = written
    rows = pd.read_csv(result.root / "provenance.csv", dtype=str, keep_default_na=False)
    assert len(rows) == 14
    assert all((result.root / path).is_file() for path in rows["path"])
    assert set(rows["source"]) == set(face_set["path"])
    assert rows.groupby("person_id")["worn"].apply(lambda worn: (worn == "right").sum()).tolist() == [5, 5]
    assert set(rows["seed"]) == {"3"}
    assert set(rows["landmarks"]) == {"geometry"}


def test_a_person_is_drawn_the_same_in_any_set(written, tmp_path):
    face_set, both = written
    alone = mask_people(face_set[1:], tmp_path / "alone", **GEOMETRY)
    images = "train/images/2_female_LatinoHispanic_61"
    assert digests(both.root / images) == digests(alone.root / images)


def test_unusable_photos_are_left_out_with_a_reason(face_set, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "draw_shots", draw_blank_shots)
    Image.new("RGB", (384, 512), (90, 120, 90)).save(face_set["path"][1])
    Path(face_set["path"][2]).write_bytes(b"not a photo")
    result = mask_people(face_set, tmp_path / "out", **GEOMETRY)
    left_out = pd.read_csv(result.root / "left_out.csv", dtype=str)
    assert left_out["source"].tolist() == face_set["path"].tolist()[1:]
    assert left_out["reason"][0] == "no face found"
    assert "cannot decode" in left_out["reason"][1]
    assert result.people["id"].tolist() == ["1"]


def test_turned_heads_are_left_out(face_set, face, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "draw_shots", draw_blank_shots)
    faces = iter([replace(face, yaw=-10.0), replace(face, yaw=40.0), replace(face, yaw=-40.0)])
    monkeypatch.setattr(folder, "find_landmarks", lambda *_, **__: next(faces))
    result = mask_people(face_set, tmp_path / "out", **GEOMETRY)
    assert result.left_out["reason"].tolist() == ["head turned by 40 degrees, more than 35"] * 2
    assert result.people["id"].tolist() == ["1"]


def test_a_set_without_faces_is_an_error_and_leaves_nothing(face_set, tmp_path):
    for path in face_set["path"]:
        Image.new("RGB", (384, 512), "grey").save(path)
    with pytest.raises(SampleTableError, match="found none in 3 photos"):
        mask_people(face_set, tmp_path / "out", **GEOMETRY)
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def test_an_existing_folder_is_an_error(face_set, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        mask_people(face_set, tmp_path / "out", **GEOMETRY)


def test_an_interruption_leaves_no_half_folder(face_set, tmp_path, monkeypatch):
    def take_one(*args, **kwargs):
        yield next(draw_shots(*args, **kwargs))
        assert list(tmp_path.glob(".out.*/train/images/1_*/mask1.jpg"))
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "draw_shots", take_one)
    with pytest.raises(KeyboardInterrupt):
        mask_people(face_set, tmp_path / "out", **GEOMETRY)
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


@pytest.mark.slow
def test_the_number_of_workers_does_not_change_the_files(written, tmp_path):
    face_set, one = written
    two = mask_people(face_set, tmp_path / "two", **GEOMETRY, workers=2)
    assert digests(one.root) == digests(two.root)


def test_photos_are_grouped_by_person(face_set):
    first, second = read_people(face_set)
    assert first.folder == "1_male_LatinoHispanic_30"
    assert [path.name for path in second.photos] == ["b.png", "c.png"]
    assert read_people(face_set.drop(columns="race"))[0].race == "Unknown"


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("age", 62, "expected one age for person 2, found 61 and 62"),
        ("gender", "male", "expected one gender for person 2, found female and male"),
        ("gender", None, "empty entries, found some in gender"),
        ("person_id", "../2", "letters, digits and '-'"),
        ("person_id", "2_b", "letters, digits and '-'"),
    ],
)
def test_a_contradictory_table_is_an_error(face_set, column, value, message):
    rows = face_set.astype(object)
    rows.loc[2, column] = value
    with pytest.raises(SampleTableError, match=message):
        read_people(rows)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("age", "20-29", "give a year inside it"),
        ("age", 300, "from 0 to 120"),
        ("gender", "f", "male or female"),
    ],
)
def test_impossible_labels_are_errors(face_set, column, value, message):
    with pytest.raises(SampleTableError, match=message):
        read_people(face_set.assign(**{column: value}))


def test_missing_columns_and_empty_tables_are_errors(face_set):
    with pytest.raises(SampleTableError, match="age missing"):
        read_people(face_set.drop(columns="age"))
    with pytest.raises(SampleTableError, match="empty table"):
        read_people(pd.DataFrame(columns=face_set.columns))
