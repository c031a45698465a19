"""Lists of photos to predict: which photos, in which order, and what is refused."""

from pathlib import Path
from unicodedata import normalize

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mask_lightning.errors import MaskLightningError, PhotoError, SampleTableError
from mask_lightning.inference.photo_list import read_photo_list

OFFICIAL = ["c3.jpg", "a1.png", "e5.jpg", "b2.jpg", "d4.jpeg"]


def names(root: Path) -> list[str]:
    return read_photo_list(root).table["photo"].tolist()


@pytest.mark.parametrize("inside", ["", "eval", "eval/info.csv"])
def test_the_official_list_gives_the_order(eval_folder: Path, inside: str) -> None:
    photos = read_photo_list(eval_folder / inside)
    assert photos.kind == "info"
    assert photos.table["photo"].tolist() == OFFICIAL
    assert all(Path(path).is_file() for path in photos.table["path"])


def test_a_folder_is_read_with_subfolders_and_without_other_files(tmp_path: Path, eval_folder: Path) -> None:
    folder = tmp_path / "mine"
    for name in ("b/2.jpg", "b/._2.jpg", "a.PNG", ".trash/x.jpg", "notes.txt", "c.jpg/inside.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(folder / name, "png")
    photos = read_photo_list(folder)
    assert (photos.kind, photos.table["photo"].tolist()) == ("folder", ["a.PNG", "b/2.jpg", "c.jpg/inside.png"])


def test_files_of_a_folder_that_are_no_photos_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.jpg_1088Wx1632H", "b.jfif", "C.TIF", "@eaDir/a.jpg", "__MACOSX/b.jpg", "x/._a.jpg", "Thumbs.db"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(tmp_path / name, "jpeg" if "TIF" not in name else "tiff")
    (tmp_path / "x" / "movie.mov").write_bytes(b"movie")
    (tmp_path / "notes.txt").touch()
    assert read_photo_list(tmp_path).table["photo"].tolist() == ["C.TIF", "a.jpg_1088Wx1632H", "b.jfif"]
    assert "2 files left out, no photos: notes.txt, movie.mov" in caplog.text
    assert "Thumbs" not in caplog.text
    with pytest.raises(PhotoError, match=r"expected photos in .*, found 1 file left out, no photos: movie.mov; set"):
        read_photo_list(tmp_path / "x")


def test_photos_that_people_report(field_cases: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos = read_photo_list(field_cases / "formats").table["photo"].tolist()
    assert len([name for name in photos if name != "z.heic"]) == 9
    assert "notes.txt" in caplog.text
    assert ("z.heic" in photos) != ("z.heic" in caplog.text)
    assert read_photo_list(field_cases / "nfd" / "photos.csv").table["photo"].tolist() == [
        normalize("NFC", path.name) for path in (field_cases / "nfd").glob("*.jpg")
    ]
    assert len(read_photo_list(Path(normalize("NFC", str(next((field_cases / "nfd").glob("*.jpg")))))).table) == 1


@pytest.mark.parametrize(
    "text", ["Path\n{}\n", "\ufeffpath;note\n{};x\n", "PATH\tnote\n{}\t\n\n", "path,note\r\n{},x\r\n,\r\n"]
)
@pytest.mark.parametrize("name", [r"x\é.jpg", "x/é.jpg"])
def test_tables_of_spreadsheets_are_read(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "x").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "x" / normalize("NFD", "é.jpg"))
    (tmp_path / "list.csv").write_text(text.format(normalize("NFC", name)), encoding="utf-8")
    (path,) = read_photo_list(tmp_path / "list.csv").table["path"]
    assert Path(path).is_file()


def test_symlinks_of_a_table_that_leave_its_folder_are_followed_on_request(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "a.jpg")
    (tmp_path / "mine" / "a.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "mine" / "list.csv").write_text("path\na.jpg\n")
    with pytest.raises(SampleTableError, match=r"data\.follow_symlinks=true"):
        read_photo_list(tmp_path / "mine" / "list.csv")
    assert len(read_photo_list(tmp_path / "mine" / "list.csv", follow_symlinks=True).table) == 1


def test_one_photo(eval_folder: Path) -> None:
    photos = read_photo_list(eval_folder / "eval" / "images" / "a1.png")
    assert (photos.kind, photos.table["photo"].tolist()) == ("photo", ["a1.png"])


def test_a_table_of_paths(eval_folder: Path) -> None:
    table = eval_folder / "eval" / "mine.csv"
    pd.DataFrame({"path": ["images/b2.jpg", "./images/x/../a1.png"], "person_id": ["007", "008"]}).to_csv(table)
    photos = read_photo_list(table)
    assert photos.kind == "table"
    assert photos.table["photo"].tolist() == ["images/b2.jpg", "./images/x/../a1.png"]
    assert photos.table["person_id"].tolist() == ["007", "008"]
    assert all(Path(path).is_file() for path in photos.table["path"])


@pytest.mark.parametrize(
    "name", ["../../secret.jpg", "images/../../../secret.jpg", "/etc/secret.jpg", "../..", "link/secret.jpg"]
)
@pytest.mark.parametrize("column", ["path", "ImageID"])
def test_paths_must_not_leave_their_folder(tmp_path: Path, name: str, column: str) -> None:
    (tmp_path / "in" / "images").mkdir(parents=True)
    for folder in ("in", "in/images"):
        (tmp_path / folder / "link").symlink_to(tmp_path)
    Image.new("RGB", (40, 40)).save(tmp_path / "secret.jpg")
    (tmp_path / "in" / "list.csv").write_text(f'{column},ans\n"{name}",0\n')
    with pytest.raises(SampleTableError, match=r"list\.csv: expected a path inside .*/in"):
        read_photo_list(tmp_path / "in" / "list.csv")


@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        ("ImageID,ans\nc3.jpg,0\nzz.jpg,0\nyy.jpg,0", PhotoError, r"2 of 3 photos .*\(zz.jpg, yy.jpg\); restore"),
        ("ImageID,ans\nc3.jpg,0\na1.png,0\nc3.jpg,1", SampleTableError, r"names 1 photos more than once \(c3.jpg\)"),
        ("ImageID,ans\nc3.jpg,0\n../info.csv,0", SampleTableError, r"expected a path inside .*images, found ../info"),
        ('ImageID,ans\n"a\0.jpg",0', SampleTableError, "cannot read .*zero bytes"),
        ("ImageID,ans\nc3.jpg,0\n,0", SampleTableError, "info.csv, line 3, found nothing"),
        ("ImageID,ans", SampleTableError, "found no line"),
        ("image,ans\nc3.jpg,0", SampleTableError, "column `path` or `ImageID` .*, found image, ans"),
        ("", SampleTableError, "cannot read .*info.csv"),
    ],
)
def test_lists_that_cannot_be_used(eval_folder: Path, lines: str, error: type, message: str) -> None:
    (eval_folder / "eval" / "info.csv").write_text(lines)
    with pytest.raises(error, match=message):
        read_photo_list(eval_folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "found nothing"),
        ("empty", "expected photos in .*empty, found none"),
        ("notes.txt", r"expected a photo \(.*\.jpg.*\) or a CSV"),
        ("listless", r"expected the list of photos at .*info\.csv"),
    ],
)
def test_nothing_to_predict(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "listless" / "eval" / "images").mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(MaskLightningError, match=message):
        read_photo_list(tmp_path / name)


def test_a_long_list_of_missing_photos_goes_to_the_log(eval_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    missing = [f"{i}.jpg" for i in range(9)]
    pd.DataFrame({"ImageID": missing, "ans": np.zeros(9, int)}).to_csv(eval_folder / "eval" / "info.csv", index=False)
    with pytest.raises(PhotoError, match=r"4\.jpg and 4 more, listed above"):
        read_photo_list(eval_folder)
    assert [record.getMessage().strip() for record in caplog.records] == missing
