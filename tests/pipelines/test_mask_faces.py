"""Face sets of all layouts become a folder for training."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pandas as pd
import pytest
from blank_shots import draw_blank_shots
from omegaconf import OmegaConf
from PIL import Image

from mask_lightning.cli.compose import config_dir
from mask_lightning.data.auditing.audit import check_shots
from mask_lightning.data.images import open_photo
from mask_lightning.data.index import read_index
from mask_lightning.errors import ConfigError, DatasetNotFoundError, SampleTableError
from mask_lightning.pipelines.mask_faces import choose_crop, mask_faces, read_faces
from mask_lightning.settings.base import check
from mask_lightning.settings.mask_faces import MaskFacesSettings
from mask_lightning.synthetic.masks import folder
from mask_lightning.synthetic.masks.landmarks import CROPS, find_landmarks
from mask_lightning.synthetic.portraits.people import sample_people
from mask_lightning.synthetic.portraits.photos import draw_photo, sample_shot

QUIET = ("landmarks=geometry", "workers=1", "progress=false")


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Sample table of four drawn people without masks, whose faces are found."""
    root = tmp_path_factory.mktemp("portraits")
    for person in sample_people(6, seed=0):
        rng = np.random.default_rng(person.number)
        photo = draw_photo(person, sample_shot(person, None, rng), rng)
        images = root / "train" / "images" / person.folder
        images.mkdir(parents=True)
        photo.save(images / "normal.jpg")
    table = read_index(root)
    found = [find_landmarks(open_photo(p), CROPS["portrait"], source="geometry") is not None for p in table["path"]]
    faces = table[found].head(4).reset_index(drop=True)
    assert len(faces) == 4
    return faces


@pytest.fixture
def blank_shots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write blank photos instead of drawing masks."""
    monkeypatch.setattr(folder, "draw_shots", draw_blank_shots)


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., MaskFacesSettings]:
    def compose(*overrides: str) -> MaskFacesSettings:
        with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
            composed = hydra.compose("mask_faces", [f"out={tmp_path / 'out'}", *QUIET, *overrides])
        config: Any = OmegaConf.to_container(composed, resolve=True)
        return check(MaskFacesSettings, config)

    return compose


def as_competition(faces: pd.DataFrame, root: Path) -> list[str]:
    for face in faces.itertuples():
        target = root / "train" / "images" / Path(face.path).parent.name
        target.mkdir(parents=True)
        shutil.copy(face.path, target)
        shutil.copy(face.path, target / f"mask1{Path(face.path).suffix}")  # must not be drawn on
    return ["data=competition", f"data.root={root}"]


def as_utkface(faces: pd.DataFrame, root: Path) -> list[str]:
    root.mkdir()
    for i, face in enumerate(faces.itertuples()):
        shutil.copy(face.path, root / f"{face.years}_{face.gender}_2_2017011{i}.jpg.chip.jpg")
    return ["data=utkface", f"data.root={root}", "crop=portrait"]


def as_fairface(faces: pd.DataFrame, root: Path) -> list[str]:
    (root / "train").mkdir(parents=True)
    lines = ["file,age,gender,race,service_test"]
    for i, face in enumerate(faces.itertuples(), 1):
        shutil.copy(face.path, root / "train" / f"{i}.jpg")
        decade = min(face.years // 10 * 10, 60)
        lines.append(f"train/{i}.jpg,{decade}-{decade + 9},{('Male', 'Female')[face.gender]},East Asian,True")
    (root / "fairface_label_train.csv").write_text("\n".join(lines))
    return ["data=fairface", f"data.root={root}", "crop=portrait"]


def as_table(faces: pd.DataFrame, root: Path) -> list[str]:
    root.mkdir()
    lines = ["path,person_id,gender,age,race"]
    for i, face in enumerate(faces.itertuples(), 1):
        shutil.copy(face.path, root / f"{i}.jpg")
        lines.append(f"{i}.jpg,p{i},{('male', 'female')[face.gender]},{face.years},Black")
    (root / "faces.csv").write_text("\n".join(lines))
    return ["data=table", f"data.table={root / 'faces.csv'}"]


@pytest.mark.usefixtures("blank_shots")
@pytest.mark.parametrize("layout", [as_competition, as_utkface, as_fairface, as_table])
def test_every_layout_becomes_the_layout_of_the_competition(
    portraits: pd.DataFrame, settings, tmp_path: Path, layout: Callable[[pd.DataFrame, Path], list[str]]
) -> None:
    portraits = portraits.head(2)
    written = mask_faces(settings(*layout(portraits, tmp_path / "set")))
    assert written.left_out.empty
    assert {Path(path).stem for path in written.provenance["source"]}.isdisjoint({"mask1"})
    table = read_index(written.root)
    assert table["family"].nunique() == table["person_id"].nunique() == len(portraits)
    assert table["mask"].value_counts().to_dict() == {0: 10, 1: 2, 2: 2}
    people = table.drop_duplicates("person_id")
    for task in ("gender", "age"):
        assert sorted(people[task]) == sorted(portraits[task])
    race = {as_utkface: "Asian", as_fairface: "EastAsian", as_table: "Black"}.get(layout)
    assert race is None or set(table["race"]) == {race}


@pytest.mark.usefixtures("blank_shots")
def test_one_mask_makes_three_photos_of_a_person_and_no_finding(
    portraits: pd.DataFrame, settings, tmp_path: Path
) -> None:
    written = mask_faces(settings(*as_table(portraits.head(2), tmp_path / "set"), "masks=1"))
    table = read_index(written.root)
    assert table["mask"].value_counts().to_dict() == {0: 2, 1: 2, 2: 2}
    assert check_shots(table) == []


def test_limited_people_and_the_report(portraits: pd.DataFrame, settings, tmp_path: Path, capsys) -> None:
    options = as_table(portraits.head(2), tmp_path / "set")
    Image.new("RGB", (384, 512), (90, 120, 90)).save(tmp_path / "set" / "1.jpg")
    written = mask_faces(settings(*options))
    assert written.left_out["person_id"].tolist() == ["p1"]
    shown = capsys.readouterr().err
    assert "left out: 1 photos, no face found" in shown
    assert f"python -m mask_lightning.train data.root={tmp_path / 'out'}" in shown
    Path(tmp_path / "set" / "1.jpg").write_bytes((tmp_path / "set" / "2.jpg").read_bytes())
    few = mask_faces(settings(*options, "data.limit_people=1", f"out={tmp_path / 'few'}"))
    assert len(few.people) == 1


def test_photos_without_faces_leave_nothing(portraits: pd.DataFrame, settings, tmp_path: Path) -> None:
    options = as_table(portraits, tmp_path / "set")
    for photo in (tmp_path / "set").glob("*.jpg"):
        Image.new("RGB", (384, 512), (90, 120, 90)).save(photo)
    with pytest.raises(SampleTableError, match="expected faces, found none in 4 photos"):
        mask_faces(settings(*options))
    assert not (tmp_path / "out").exists()


def edit(tmp_path: Path, old: str, new: str) -> None:
    csv = tmp_path / "set" / "faces.csv"
    csv.write_text(csv.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        (",p2,", ",p1,", SampleTableError, "expected one (age|gender) (per|for) person"),
        ("2.jpg", "../../2.jpg", SampleTableError, "line 3: expected a path inside"),
        ("gender", "sex", SampleTableError, "expected a column gender"),
        (",male,", ",masculine,", SampleTableError, "gender has no class 'masculine'"),
        (",p1,", ",p_1,", SampleTableError, "person ids of letters, digits and '-', found 'p_1'"),
        ("path,person_id,gender,age,race", "path,person_id,gender,years,age", SampleTableError, "age has no class"),
    ],
)
def test_a_wrong_table_is_an_error(
    portraits: pd.DataFrame, settings, tmp_path: Path, old: str, new: str, error: type[Exception], message: str
) -> None:
    options = as_table(portraits, tmp_path / "set")
    edit(tmp_path, old, new)
    with pytest.raises(error, match=message):
        mask_faces(settings(*options))


def test_ages_must_be_years(portraits: pd.DataFrame, settings, tmp_path: Path) -> None:
    options = as_table(portraits, tmp_path / "set")
    csv = tmp_path / "set" / "faces.csv"
    pd.read_csv(csv).assign(age="30-59").to_csv(csv, index=False)
    with pytest.raises(SampleTableError, match="expected a gender and an age in years per photo, found none"):
        mask_faces(settings(*options))


@pytest.mark.usefixtures("blank_shots")
def test_unlabelled_photos_are_left_out(
    portraits: pd.DataFrame, settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = as_table(portraits, tmp_path / "set")
    cells = pd.read_csv(tmp_path / "set" / "faces.csv", dtype=str)
    cells.loc[0, "age"], cells.loc[1, "gender"] = None, None
    cells.to_csv(tmp_path / "set" / "faces.csv", index=False)
    with caplog.at_level(logging.WARNING):
        written = mask_faces(settings(*options))
    assert written.people["id"].tolist() == ["p3", "p4"]
    assert "2 photos without gender or without age in years are left out" in caplog.text


@pytest.mark.usefixtures("blank_shots")
def test_ids_that_form_families_are_reported(
    portraits: pd.DataFrame, settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = as_table(portraits, tmp_path / "set")
    for i in range(1, 5):
        edit(tmp_path, f",p{i},", ",p," if i == 1 else f",p-{i},")
    with caplog.at_level(logging.WARNING):
        mask_faces(settings(*options, "data.limit_people=2"))
    assert "some of 2 people have the id of another with -<number> behind it" in caplog.text


def test_an_existing_folder_and_a_wrong_one_are_errors_at_once(settings, tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"fairface_label_train.csv"):
        mask_faces(settings("data=fairface", f"data.root={tmp_path}"))
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="exists already and is not overwritten"):
        mask_faces(settings("data=fairface", f"data.root={tmp_path}"))


@pytest.mark.parametrize(
    ("name", "size", "crop"),
    [
        ("fairface", 224, "fairface_025"),
        ("fairface", 448, "fairface_125"),
        ("utkface", 200, "utkface"),
        ("table", 224, "portrait"),
        ("competition", 384, "portrait"),
    ],
)
def test_the_crop_follows_from_the_kind_of_data(tmp_path: Path, name: str, size: int, crop: str) -> None:
    Image.new("RGB", (size, size)).save(tmp_path / "1.jpg")
    assert choose_crop(name, tmp_path / "1.jpg") == crop


def test_a_symlink_is_followed_on_request(portraits: pd.DataFrame, settings, tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "a.jpg").symlink_to(portraits["path"][0])
    table = tmp_path / "faces" / "faces.csv"
    table.write_text("path,person_id,gender,age\na.jpg,1,female,25\n")
    named = settings("data=table", f"data.table={table}").data
    with pytest.raises(SampleTableError, match="symlink"):
        read_faces(named)
    assert len(read_faces(named.model_copy(update={"follow_symlinks": True})).table) == 1


def test_a_correction_may_name_a_photo_with_a_mask(portraits: pd.DataFrame, settings, tmp_path: Path) -> None:
    """Corrections are for the whole set, whose photos with masks are skipped afterwards."""
    options = as_competition(portraits, tmp_path)
    person = portraits["person_id"][0]
    corrections = tmp_path / "corrections.csv"
    corrections.write_text(f"person_id,field,value\n{person},mask,mask1.jpg:normal\n")
    found = read_faces(settings(*options, f"data.corrections={corrections}").data).table
    assert sorted(Path(path).name for path in found["path"][found["person_id"] == person]) == [
        "mask1.jpg",
        "normal.jpg",
    ]
