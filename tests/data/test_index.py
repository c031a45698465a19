"""The competition's folder, intact and with defects."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from mask_lightning.data.index import find_images, read_index
from mask_lightning.errors import DatasetNotFoundError, SampleTableError

SHOTS = {"mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal"}


def add(images: Path, name: str, *photos: str) -> Path:
    folder = images / name
    folder.mkdir(parents=True)
    for photo in photos:
        (folder / photo).write_bytes(b"")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """One complete person; photos are not decoded here."""
    images = tmp_path / "photos" / "train" / "images"
    add(images, "000001_female_Asian_45", *(f"{shot}.jpg" for shot in SHOTS))
    return images


def test_a_row_per_photo(competition: Path) -> None:
    table = read_index(competition)
    assert len(table) == 24 * 7
    assert list(table.columns) == [
        "person_id",
        "family",
        "race",
        "years",
        "shot",
        "path",
        "mask",
        "gender",
        "age",
    ]
    assert {Path(path).suffix for path in table["path"]} == {".jpg", ".jpeg", ".png"}
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in table["path"])
    assert list(table["path"]) == sorted(table["path"], key=lambda path: Path(path).parts)
    assert all(set(shots) == SHOTS for _, shots in table.groupby(["person_id", "years"])["shot"])


@pytest.mark.parametrize("below", ["", "train", "train/images"])
def test_the_root_may_be_any_of_three_folders(competition: Path, below: str) -> None:
    assert find_images(competition / below) == competition / "train" / "images"
    assert len(read_index(str(competition / below))) == 24 * 7


def test_a_relative_root_gives_absolute_paths(competition: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(competition)
    assert all(Path(path).is_absolute() for path in read_index("train")["path"])


def test_labels_equal_those_in_the_names(competition: Path) -> None:
    """Parse the paths again; a code's first digit is the mask, the second the gender, the third the age."""
    for row in read_index(competition).itertuples():
        path = Path(str(row.path))
        identity, gender, race, years = path.parent.name.split("_")
        assert (row.person_id, row.race, row.years) == (identity, race, int(years))
        assert row.gender == {"male": 0, "female": 1}[gender]
        assert row.age == (int(years) >= 30) + (int(years) >= 60)
        assert row.mask == {"normal": 2, "incorrect_mask": 1}.get(path.stem, 0)
        assert row.shot == path.stem


def test_ids_are_text_and_numbered_ids_share_a_family(competition: Path) -> None:
    people = read_index(competition).drop_duplicates(["person_id", "years"])
    assert "000003" in set(people["person_id"])
    families = people.groupby("family")["person_id"].agg(set)
    assert families["000003"] == {"000003", "000003-1"}
    assert families["000022"] == {"000022"}
    assert set(people.loc[people["family"] == "000022", "years"]) == {59, 60}
    assert people["family"].nunique() == 22


def test_indexing_twice_gives_the_same_table(competition: Path) -> None:
    pd.testing.assert_frame_equal(read_index(competition), read_index(competition / "train"))


def test_train_csv_is_not_needed(images: Path) -> None:
    assert not (images.parent / "train.csv").exists()
    assert len(read_index(images)) == 7


@pytest.mark.parametrize(
    ("prepare", "found"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.write_text("a file"), "a file"),
        (lambda root: root.mkdir(), "nothing"),
        (lambda root: add(root, "holiday", "beach.jpg"), "holiday"),
        (lambda root: (add(root, ".git"), add(root, "photo")), "photo"),
        (lambda root: [add(root, str(i)) for i in range(9)], "0, 1, 2, 3, 4, ..."),
        (lambda root: add(root, "train/images/000001_Male_Asian_45", "normal.jpg"), "train"),
        (lambda root: add(root, "train/images/000001_male_Asian_45"), "folders of people without photos"),
    ],
)
def test_the_error_of_a_wrong_root_lists_its_content(tmp_path: Path, prepare, found: str) -> None:
    root = tmp_path / "root"
    prepare(root)
    with pytest.raises(DatasetNotFoundError) as caught:
        read_index(root)
    for part in (str(root), f"found {found};", "set data.root to the folder that holds train/"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["000002_male_Asian", "000002_man_Asian_30", "000002_male_Asian_old", "000002", "_male_Asian_30", "notes"],
)
def test_the_error_names_a_folder_that_does_not_parse(images: Path, name: str) -> None:
    add(images, name, "normal.jpg")
    with pytest.raises(SampleTableError, match=rf"<id>_<male\|female>_<race>_<age>, found .*/{name}; rename"):
        read_index(images)


def test_an_age_of_200_is_refused(images: Path) -> None:
    add(images, "000002_male_Asian_200", "normal.jpg")
    with pytest.raises(SampleTableError, match=r"age of 0 to 120, found 200 in .*000002_male_Asian_200"):
        read_index(images)


@pytest.mark.parametrize("photo", ["mask6.jpg", "selfie.png", "Normal.jpg"])
def test_the_error_names_an_unknown_shot(images: Path, photo: str) -> None:
    add(images, "000002_male_Asian_30", "normal.jpg", photo)
    with pytest.raises(SampleTableError, match=f"found .*{photo}; rename or remove it"):
        read_index(images)


@pytest.mark.parametrize(
    ("photos", "warning"),
    [
        (["mask1.jpg", "normal.png", "incorrect_mask.jpeg"], "1 people do not have 7 photos: 000002 (3)"),
        (
            [*(f"{shot}.jpg" for shot in SHOTS), "normal.png"],
            "1 people have one shot in two files: 000002",
        ),
        ([], "1 people do not have 7 photos: 000002 (0)"),
    ],
)
def test_an_odd_count_is_a_warning(
    images: Path, caplog: pytest.LogCaptureFixture, photos: list[str], warning: str
) -> None:
    add(images, "000002_male_Asian_30", *photos)
    with caplog.at_level(logging.WARNING):
        table = read_index(images)
    assert len(table) == 7 + len(photos)
    assert warning in caplog.text


def test_shots_that_nobody_has_are_not_missed(images: Path, caplog: pytest.LogCaptureFixture) -> None:
    for folder in images.iterdir():
        for number in range(2, 6):
            next(folder.glob(f"mask{number}.*")).unlink()
    add(images, "000002_male_Asian_30", "mask1.jpg", "incorrect_mask.jpg", "normal.jpg")
    assert len(read_index(images)) == 6
    assert caplog.text == ""


def test_a_complete_folder_logs_no_warning(competition: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_index(competition)
    assert caplog.text == ""


@pytest.mark.parametrize("litter", ["._mask1.jpg", ".DS_Store", "Thumbs.db", "notes.txt"])
def test_other_files_and_hidden_folders_are_ignored(images: Path, litter: str) -> None:
    (images / "000001_female_Asian_45" / litter).write_bytes(b"")
    (images / litter).write_bytes(b"")
    (images / ".cache").mkdir()
    assert len(read_index(images)) == 7


def test_every_format_is_read_and_other_files_are_named(images: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = (
        "mask1.JPG",
        "mask2.jfif",
        "mask3.avif",
        "mask4.tif",
        "mask5.bmp",
        "incorrect_mask.jpg_1088Wx1632H",
        "normal",
    )
    person = add(images, "000002_male_Asian_30", "notes.txt", "list.docx", "desktop.ini")
    for name in names:
        Image.new("RGB", (16, 16)).save(person / name, {".avif": "avif", ".tif": "tiff"}.get(Path(name).suffix, "bmp"))
    for folder in ("@eaDir", "__MACOSX"):
        (images / folder).mkdir()
        (person / folder).mkdir()
    (images / "loose.jpg").touch()
    table = read_index(images)
    assert set(table.loc[table["person_id"] == "000002", "shot"]) == SHOTS
    assert "2 files left out, no photos: list.docx, notes.txt" in caplog.text
    assert "1 photos are in no person's folder and left out: loose.jpg" in caplog.text
    assert "desktop.ini" not in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,path\n1,000001_female_Asian_45\n2,000002_male_Asian_30\n", "names 1 folders that are not there (000002_"),
        ("id,gender\n1,female\n", "expected a column `path`"),
        ("", "train.csv"),
    ],
)
def test_a_train_csv_that_does_not_fit_raises(images: Path, content: str, message: str) -> None:
    (images.parent / "train.csv").write_text(content)
    with pytest.raises(SampleTableError) as caught:
        read_index(images)
    assert message in str(caught.value)
    assert str(images.parent / "train.csv") in str(caught.value)


@pytest.mark.parametrize("content", ["path\n", "id,path\n1,\n", "path,note\n000001_female_Asian_45,ä\n"])
def test_a_train_csv_need_not_name_every_folder(images: Path, content: str) -> None:
    (images.parent / "train.csv").write_text(content, encoding="utf-8")
    assert len(read_index(images)) == 7


def test_a_folder_missing_from_disk_raises(competition: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(competition, tmp_path / "copy"))
    shutil.rmtree(root / "train" / "images" / "000015_male_Asian_19")
    with pytest.raises(SampleTableError, match="000015_male_Asian_19"):
        read_index(root)


def test_all_of_fairmask_is_read(fairmask: Path) -> None:
    table = read_index(fairmask)
    assert (table["person_id"].nunique(), len(table)) == (600, 4200)
    assert list(table["mask"].value_counts().sort_index()) == [3000, 600, 600]


def test_what_is_neither_a_photo_nor_a_person_is_named(images: Path, caplog: pytest.LogCaptureFixture) -> None:
    person = images / "000001_female_Asian_45"
    (person / "mask1.jpg").unlink()
    (person / "mask1.jpg").symlink_to("gone.jpg")
    add(person, "more", "mask1.jpg")
    add(person, "@eaDir", "mask1.jpg")
    (images / "000002_male_Asian_45").symlink_to("gone")
    with caplog.at_level(logging.WARNING):
        assert len(read_index(images)) == 6
    assert "1 file left out, symlinks to nothing: mask1.jpg" in caplog.text
    assert "1 file left out, symlinks to nothing: 000002_male_Asian_45" in caplog.text
    assert "1 folders inside people's folders are left out: 000001_female_Asian_45/more" in caplog.text
