"""UTKFace and FairFace as people have them on disk."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mask_lightning.data.families import sibling_families
from mask_lightning.data.public_sets import fairface_years, parse_utkface_name, read_fairface, read_utkface
from mask_lightning.data.sources import read_labelled_photos
from mask_lightning.errors import DatasetNotFoundError, SampleTableError
from mask_lightning.settings.data import DataSettings


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


UTK = {  # name: gender, years, race
    "25_0_2_20170116174525125.jpg.chip.jpg": (0, 25, "Asian"),
    "61_1_0_20170109150557335.jpg.chip.jpg": (1, 61, "White"),
    "1_1_4_20161219140623097.jpg": (1, 1, "Others"),
    "116_0_3_20170120134744096 .jpg.chip.jpg": (0, 116, "Indian"),
}
ODD = ("39_1_20170116174525125.jpg.chip.jpg", "53__0_20170116184028385.jpg.chip.jpg", "300_1_0_2017.jpg", "me.png")


@pytest.mark.parametrize("below", ["", "UTKFace"])
def test_utkface_labels_are_read_from_the_names(tmp_path: Path, below: str) -> None:
    touch(*(tmp_path / below / name for name in UTK))
    table = read_utkface(tmp_path)
    found = {Path(row.path).name: (row.gender, row.years, row.race) for row in table.itertuples()}
    assert found == UTK
    ages = {row.years: row.age for row in table.itertuples()}
    assert ages == {25: 0, 61: 2, 1: 0, 116: 2}
    assert table["person_id"].nunique() == table["family"].nunique() == len(UTK)
    assert all(Path(path).is_absolute() for path in table["path"])


def test_utkface_photos_in_further_folders_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(*(tmp_path / below / name for name in UTK for below in ("", "more")))
    assert len(read_utkface(tmp_path)) == len(UTK)
    assert f"photos in folders of {tmp_path} are left out: more" in caplog.text


def test_utkface_photos_with_other_names_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(*(tmp_path / name for name in (*UTK, *ODD, "._25_0_2_2017.jpg", "readme.txt")))
    with caplog.at_level(logging.WARNING):
        assert len(read_utkface(tmp_path)) == len(UTK)
    assert "4 photos left out" in caplog.text
    assert all(name in caplog.text for name in ODD)


DATE = "20170116174525125"


@pytest.mark.parametrize(
    ("name", "want"),
    [
        (f"25_0_2_{DATE}.jpg.chip.jpg", (25, 0, 2)),
        (f"55_0_0_{DATE}jpg.chip.jpg", (55, 0, 0)),  # a missing point
        (f"25_0_2_{DATE} (1).jpg", (25, 0, 2)),
        (f"25_0_2_{DATE}_1.jpg", (25, 0, 2)),  # an extra part
        (f"25_0_2_extra_{DATE}.jpg", (25, 0, 2)),
        (f"face_25_0_2_{DATE}.jpg", (25, 0, 2)),
        (f"1_25_0_2_{DATE}.jpg", (25, 0, 2)),
        (f"25_0_2{DATE}.jpg", (25, 0, 2)),  # a missing underscore
        (f"25_02_{DATE}.jpg", (25, 0, 2)),
        (f"250_2_{DATE}.jpg", (25, 0, 2)),
        (f"25_0_1_2_{DATE}.jpg", None),  # 25, 0, 1 or 0, 1, 2
        (f"110_2_{DATE}.jpg", None),  # 11 and 0, or 110 and no gender
        (f"31_1_{DATE}.jpg", None),
        (f"53__0_{DATE}.jpg", None),
        (f"25_2_0_{DATE}.jpg", None),
        (f"25_0_5_{DATE}.jpg", None),
        (f"130_0_1_{DATE}.jpg", None),
        ("25_0_2.jpg", None),
    ],
)
def test_utkface_names_with_a_slip_are_read_if_they_mean_one_thing(
    name: str, want: tuple[int, int, int] | None
) -> None:
    assert parse_utkface_name(name) == (None if want is None else (*want, DATE))


def test_utkface_names_that_people_report(field_cases: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = read_utkface(field_cases / "utkface")
    names = {path.name for path in (field_cases / "utkface").iterdir()}
    left_out = {"61_1_20170109142408075.jpg.chip.jpg", "53__0_20170116184028385.jpg"}
    assert {Path(path).name for path in table["path"]} == names - left_out
    assert all(name in caplog.text for name in left_out)


@pytest.mark.parametrize("litter", ["__MACOSX", "@eaDir", ".cache"])
def test_folders_of_the_system_hold_no_utkface(tmp_path: Path, litter: str) -> None:
    touch(*(tmp_path / "UTKFace" / name for name in UTK), *(tmp_path / litter / name for name in UTK))
    assert len(read_utkface(tmp_path)) == len(UTK)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([], "found no such folder"),
        (["a/me.jpg"], "found a"),
        (["part1/25_0_2_1.jpg", "part2/25_0_2_2.jpg"], r"them in several folders \(part1, part2\)"),
    ],
)
def test_a_folder_without_utkface_raises(tmp_path: Path, files: list[str], found: str) -> None:
    touch(*(tmp_path / "set" / name for name in files))
    with pytest.raises(DatasetNotFoundError, match=rf"<age>_<gender>_<race>.*{found}.*set data.root"):
        read_utkface(tmp_path / "set")


@pytest.mark.parametrize(
    ("band", "years"),
    [
        ("0-2", 1),
        ("3-9", 6),
        ("03-Sep", 6),
        ("3-Sep", 6),
        ("9-Mar", 6),
        ("09-Mar", 6),
        ("Sep-03", 6),
        ("10-19", 15),
        ("Oct-19", 15),
        ("19-Oct", 15),
        ("3월 9일", 6),
        ("09월 03일", 6),
        ("10월 19일", 15),
        ("2019년 10월", 15),
        ("10月19日", 15),
        ("2019-10-01", 15),
        ("2019-10-01 00:00:00", 15),
        ("2024-03-09", 6),
        ("3/9/2023", 6),
        ("09.03.2023", 6),
        ("19.10.2024", 15),
        ("10/19/24", 15),
        ("01.10.19", 15),
        ("1-Oct-19", 15),
        ("2003-09-01", 6),
        ("43739", 15),  # the number of 2019-10-01
        ("19-okt.", 15),
        ("Okt 19", 15),
        ("9. März", 6),
        ("9-mars", 6),
        ("19-out", 15),
        ("9 de marzo", 6),
        ("окт.19", 15),
        ("03-wrz", 6),
        ("03-Eyl", 6),
        ("9-มี.ค.", 6),
        ("20-29", 25),
        ("30-39", 35),
        ("40–49", 45),
        ("50-59", 55),
        ("60-69", 65),
        ("more than 70", 75),
        ("More than 70", 75),
        ("70+", 75),
    ],
)
def test_fairface_bands_become_their_middle(band: str, years: int) -> None:
    assert fairface_years(band) == years


@pytest.mark.parametrize(
    "band",
    [
        "",
        "old",
        "20",
        "20-29-39",
        "Jan-Feb",
        "3 months",
        "9. Sep.",
        "3-Jan",
        "19 août",
        "1/3/2019",
        "2024-05-09",
        "10-1950",
    ],
)
def test_other_bands_raise(band: str) -> None:
    with pytest.raises(SampleTableError, match=f"expected an age band such as 20-29, found '{band}'"):
        fairface_years(band)


HEAD = "file,age,gender,race,service_test\n"


@pytest.fixture
def fairface(tmp_path: Path) -> Path:
    root = tmp_path / "fairface"
    touch(root / "train" / "1.jpg", root / "train" / "2.jpg", root / "val" / "1.jpg")
    (root / "fairface_label_train.csv").write_text(
        HEAD + "train/1.jpg,50-59,Male,East Asian,True\ntrain/2.jpg,03-Sep,Female,Latino_Hispanic,False\n"
    )
    (root / "fairface_label_val.csv").write_text(HEAD + "val/1.jpg,more than 70,Female,White,False\n")
    return root


def test_fairface_reads_both_tables(fairface: Path) -> None:
    table = read_fairface(fairface)
    assert table["person_id"].tolist() == table["family"].tolist() == ["train1", "train2", "val1"]
    assert table["gender"].tolist() == [0, 1, 1]
    assert table["years"].tolist() == [55, 6, 75]
    assert table["age"].tolist() == [1, 0, 2]
    assert table["race"].tolist() == ["East Asian", "Latino_Hispanic", "White"]
    assert Path(table["path"][2]) == fairface.resolve() / "val" / "1.jpg"


@pytest.mark.parametrize("line", ["train/1.jpg,50-59,Male,White,True", "./train/1.jpg,20-29,Female,White,True"])
def test_a_photo_that_fairface_lists_twice_is_refused(fairface: Path, line: str) -> None:
    (fairface / "fairface_label_val.csv").write_text(HEAD + line + "\n")
    with pytest.raises(SampleTableError, match=r"name 1 photos twice \(.*train/1.jpg\); keep one line of each"):
        read_fairface(fairface)


def test_fairface_genders_may_be_letters(fairface: Path) -> None:
    (fairface / "fairface_label_val.csv").write_text(HEAD + "val/1.jpg,３－９,F,White,False\n")
    assert read_fairface(fairface)[["gender", "years"]].iloc[-1].tolist() == [1, 6]


def test_one_fairface_table_is_enough(fairface: Path) -> None:
    (fairface / "fairface_label_train.csv").unlink()
    assert read_fairface(fairface)["person_id"].tolist() == ["val1"]


def test_fairface_is_found_where_its_archive_unpacks(fairface: Path) -> None:
    inner = fairface / "fairface-img-margin025-trainval"
    inner.mkdir()
    for side in ("train", "val"):
        (fairface / side).rename(inner / side)
    assert len(read_fairface(fairface)) == 3
    (fairface / "fairface-img-margin125-trainval" / "train").mkdir(parents=True)
    with pytest.raises(SampleTableError, match=r"expected one set of photos in .*margin025.* and .*margin125"):
        read_fairface(fairface)


def test_missing_fairface_photos_are_left_out(fairface: Path, caplog: pytest.LogCaptureFixture) -> None:
    (fairface / "train" / "1.jpg").unlink()
    with caplog.at_level(logging.WARNING):
        assert read_fairface(fairface)["person_id"].tolist() == ["train2", "val1"]
    assert "1 of 3 photos are not there" in caplog.text
    for name in ("train/2.jpg", "val/1.jpg"):
        (fairface / name).unlink()
    with pytest.raises(DatasetNotFoundError, match=r"expected the photos that .*list, as train/1.jpg.*unpack them"):
        read_fairface(fairface)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../x.jpg,20-29,Male,White,True", "line 2: expected a path inside"),
        ("train/1.jpg,20-92x,Male,White,True", "line 2: expected an age band"),
        ("train/1.jpg,,Male,White,True", "line 2: expected an age band"),
        ("train/1.jpg,20-29,0,White,True", "line 2: expected the gender Male or Female, found 0; correct"),
        ("train/1.jpg,20-29,,White,True", "line 2: expected the gender Male or Female, found an empty cell"),
        ("train/1.jpg,25,Male,White,True", "line 2: expected an age band such as 20-29, found '25'; correct"),
    ],
)
def test_a_wrong_fairface_cell_raises_with_its_line(fairface: Path, line: str, message: str) -> None:
    (fairface / "fairface_label_val.csv").write_text(HEAD + line + "\n")
    with pytest.raises(SampleTableError, match=f"fairface_label_val.csv, {message}"):
        read_fairface(fairface)


def test_a_missing_fairface_column_or_table_raises(fairface: Path) -> None:
    (fairface / "fairface_label_val.csv").write_text("file,gender,race\nval/1.jpg,Male,White\n")
    with pytest.raises(SampleTableError, match=r"expected a column age in .*val.csv, found file, gender, race"):
        read_fairface(fairface)
    with pytest.raises(DatasetNotFoundError, match=r"fairface_label_train.csv or fairface_label_val.csv"):
        read_fairface(fairface / "train")


def test_fairface_bands_that_people_report(field_cases: Path) -> None:
    table = read_fairface(field_cases / "fairface")
    assert table["years"].value_counts().to_dict() == {6: 12, 15: 6, 25: 6, 35: 6, 65: 6, 75: 6}


def test_fairface_tables_from_a_spreadsheet_are_read(fairface: Path) -> None:
    text = "File;Age;Gender;Race\r\ntrain\\1.jpg;3월 9일;Male;Asian\r\ntrain\\2.jpg;10월 19일;Female;백인\r\n;;;\r\n"
    (fairface / "fairface_label_train.csv").write_bytes(text.encode("cp949"))
    table = read_fairface(fairface)
    assert table["years"].tolist() == [6, 15, 75]
    assert table["race"].tolist() == ["Asian", "백인", "White"]


def test_fairface_photos_behind_a_symlink_are_read_on_request(fairface: Path, tmp_path: Path) -> None:
    (fairface / "train").rename(tmp_path / "elsewhere")
    (fairface / "train").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SampleTableError, match=r"data\.follow_symlinks=true"):
        read_fairface(fairface)
    assert len(read_fairface(fairface, follow_symlinks=True)) == 3
    for follow in (True, False):
        data = DataSettings(name="fairface", root=fairface, follow_symlinks=follow)
        if follow:
            assert len(read_labelled_photos(data).table) == 3
        else:
            with pytest.raises(SampleTableError, match="a symlink to"):
                read_labelled_photos(data)


def test_ids_do_not_form_families_in_the_competitions_layout(fairface: Path, tmp_path: Path) -> None:
    """In that layout `-1` at the end of an id marks another person of the family."""
    touch(*(tmp_path / "utk" / name for name in UTK))
    for table in (read_fairface(fairface), read_utkface(tmp_path / "utk")):
        assert all(person_id.isalnum() for person_id in table["person_id"])
        assert all(family == person_id for person_id, family in sibling_families(table["person_id"]).items())
