"""From a face set, whatever its layout, to a folder that trains."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
import pytest
from omegaconf import OmegaConf
from PIL import Image

from mask_lightning.cli.command import config_dir
from mask_lightning.data.images import open_photo
from mask_lightning.data.index import read_index
from mask_lightning.errors import ConfigError, DatasetNotFoundError, SampleTableError
from mask_lightning.pipelines.mask_faces import crop_of, mask_faces
from mask_lightning.reports.masking_report import print_masked
from mask_lightning.settings.base import check
from mask_lightning.settings.mask_faces import MaskFacesSettings
from mask_lightning.synthetic.masks.aligned import CROPS
from mask_lightning.synthetic.masks.landmarks import find_landmarks
from mask_lightning.synthetic.portraits import write_portraits

QUIET = ("landmarks=geometry", "workers=1", "progress=false")


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The sample table of four drawn people without masks, whose faces are found."""
    table = read_index(write_portraits(tmp_path_factory.mktemp("faces") / "portraits", people=6, seed=0))
    bare = table[table["mask"] == 2]
    found = [find_landmarks(open_photo(p), CROPS["portrait"], source="geometry") is not None for p in bare["path"]]
    return bare[found].head(4).reset_index(drop=True)


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
        folder = root / "train" / "images" / Path(face.path).parent.name
        folder.mkdir(parents=True)
        shutil.copy(face.path, folder)
        shutil.copy(face.path, folder / f"mask1{Path(face.path).suffix}")  # not to be drawn on
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


@pytest.mark.parametrize("layout", [as_competition, as_utkface, as_fairface, as_table])
def test_every_layout_becomes_the_competitions(
    portraits: pd.DataFrame, settings, tmp_path: Path, layout: Callable[[pd.DataFrame, Path], list[str]]
) -> None:
    portraits = portraits.head(2)
    folder = mask_faces(settings(*layout(portraits, tmp_path / "set")))
    assert folder.left_out.empty
    assert {Path(path).stem for path in folder.provenance["source"]}.isdisjoint({"mask1"})
    table = read_index(folder.root)
    assert table["family"].nunique() == table["person_id"].nunique() == len(portraits)
    assert table["mask"].value_counts().to_dict() == {0: 10, 1: 2, 2: 2}
    people = table.drop_duplicates("person_id")
    for task in ("gender", "age"):
        assert sorted(people[task]) == sorted(portraits[task])
    race = {as_utkface: "Asian", as_fairface: "EastAsian", as_table: "Black"}.get(layout)
    assert race is None or set(table["race"]) == {race}


def test_a_part_of_the_people_and_a_report(portraits: pd.DataFrame, settings, tmp_path: Path, capsys) -> None:
    options = as_table(portraits.head(2), tmp_path / "set")
    Image.new("RGB", (384, 512), (90, 120, 90)).save(tmp_path / "set" / "1.jpg")
    folder = mask_faces(settings(*options))
    assert folder.left_out["person_id"].tolist() == ["p1"]
    print_masked(folder)
    shown = capsys.readouterr().err
    assert "left out: 1 photos, no face found" in shown
    assert f"python -m mask_lightning.train data.root={tmp_path / 'out'}" in shown
    Path(tmp_path / "set" / "1.jpg").write_bytes((tmp_path / "set" / "2.jpg").read_bytes())
    few = mask_faces(settings(*options, "data.limit_people=1", f"out={tmp_path / 'few'}"))
    assert len(few.people) == 1


def test_photos_without_any_face_leave_nothing(portraits: pd.DataFrame, settings, tmp_path: Path) -> None:
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
        (",male,", ",man,", SampleTableError, "gender has no class 'man'"),
        (",p1,", ",p_1,", SampleTableError, "person ids of letters, digits and '-', found 'p_1'"),
        ("path,person_id,gender,age,race", "path,person_id,gender,years,age", SampleTableError, "age has no class"),
    ],
)
def test_a_wrong_table_is_told(
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


def test_photos_that_are_not_labelled_are_left_out(
    portraits: pd.DataFrame, settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = as_table(portraits, tmp_path / "set")
    cells = pd.read_csv(tmp_path / "set" / "faces.csv", dtype=str)
    cells.loc[0, "age"], cells.loc[1, "gender"] = None, None
    cells.to_csv(tmp_path / "set" / "faces.csv", index=False)
    with caplog.at_level(logging.WARNING):
        folder = mask_faces(settings(*options))
    assert folder.people["id"].tolist() == ["p3", "p4"]
    assert "2 photos without gender or without age in years are left out" in caplog.text


def test_ids_that_make_families_are_told(
    portraits: pd.DataFrame, settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = as_table(portraits, tmp_path / "set")
    for i in range(1, 5):
        edit(tmp_path, f",p{i},", f",p-{i},")
    with caplog.at_level(logging.WARNING):
        mask_faces(settings(*options, "data.limit_people=2"))
    assert "2 people have ids that differ in a last -<number> only" in caplog.text


def test_an_existing_folder_and_a_wrong_one_are_refused_at_once(settings, tmp_path: Path) -> None:
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
def test_the_kind_of_data_says_where_faces_are(tmp_path: Path, name: str, size: int, crop: str) -> None:
    Image.new("RGB", (size, size)).save(tmp_path / "1.jpg")
    assert crop_of(name, tmp_path / "1.jpg") == crop
