import hashlib
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from mask_lightning.errors import ConfigError, SampleTableError
from mask_lightning.synthetic.masks import folder
from mask_lightning.synthetic.masks.folder import MaskingOptions, mask_people
from mask_lightning.synthetic.masks.shots import take_shots

GEOMETRY = MaskingOptions(seed=3, landmarks="geometry")


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def written(tmp_path_factory, make_face_set):
    root = tmp_path_factory.mktemp("set")
    rows = make_face_set(root / "faces")
    return rows, mask_people(rows, root / "out", options=GEOMETRY, progress=False)


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


def test_provenance_says_where_each_shot_comes_from(written):
    face_set, result = written
    rows = pd.read_csv(result.root / "provenance.csv", dtype=str, keep_default_na=False)
    assert len(rows) == 14
    assert all((result.root / path).is_file() for path in rows["path"])
    assert set(rows["source"]) == set(face_set["path"])
    assert rows.groupby("person_id")["worn"].apply(lambda worn: (worn == "right").sum()).tolist() == [5, 5]
    assert set(rows["seed"]) == {"3"}
    assert set(rows["landmarks"]) == {"geometry"}


def test_a_person_is_drawn_the_same_whoever_stands_beside(written, tmp_path):
    face_set, both = written
    alone = mask_people(face_set[1:], tmp_path / "alone", options=GEOMETRY, progress=False)
    images = "train/images/2_female_LatinoHispanic_61"
    assert digests(both.root / images) == digests(alone.root / images)


def test_what_cannot_be_used_is_left_out_with_a_reason(face_set, tmp_path):
    Image.new("RGB", (384, 512), (90, 120, 90)).save(face_set["path"][1])
    Path(face_set["path"][2]).write_bytes(b"not a photo")
    result = mask_people(face_set, tmp_path / "out", options=GEOMETRY, progress=False)
    left_out = pd.read_csv(result.root / "left_out.csv", dtype=str)
    assert left_out["source"].tolist() == face_set["path"].tolist()[1:]
    assert left_out["reason"][0] == "no face found"
    assert "cannot decode" in left_out["reason"][1]
    assert result.people["id"].tolist() == ["1"]


def test_turned_heads_are_left_out(face_set, face, tmp_path, monkeypatch):
    faces = iter([replace(face, yaw=-10.0), replace(face, yaw=40.0), replace(face, yaw=-40.0)])
    monkeypatch.setattr(folder, "find_landmarks", lambda *_, **__: next(faces))
    result = mask_people(face_set, tmp_path / "out", options=GEOMETRY, progress=False)
    assert result.left_out["reason"].tolist() == ["head turned by 40 degrees, more than 25"] * 2
    assert result.people["id"].tolist() == ["1"]


def test_a_set_without_faces_is_refused_and_leaves_nothing(face_set, tmp_path):
    for path in face_set["path"]:
        Image.new("RGB", (384, 512), "grey").save(path)
    with pytest.raises(SampleTableError, match="found none in 3 photos"):
        mask_people(face_set, tmp_path / "out", options=GEOMETRY, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def test_an_existing_folder_is_refused(face_set, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        mask_people(face_set, tmp_path / "out", options=GEOMETRY, progress=False)


def test_an_interruption_leaves_no_half_folder(face_set, tmp_path, monkeypatch):
    def take_one(*args, **kwargs):
        yield next(take_shots(*args, **kwargs))
        assert list(tmp_path.glob(".out.*/train/images/1_*/mask1.jpg"))
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "take_shots", take_one)
    with pytest.raises(KeyboardInterrupt):
        mask_people(face_set, tmp_path / "out", options=GEOMETRY, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


@pytest.mark.slow
def test_any_number_of_workers_draws_the_same(face_set, tmp_path):
    one, two = (
        mask_people(face_set, tmp_path / str(workers), options=GEOMETRY, workers=workers, progress=False)
        for workers in (1, 2)
    )
    assert digests(one.root) == digests(two.root)
