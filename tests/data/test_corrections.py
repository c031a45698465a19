"""Label corrections change what they should, and errors name the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mask_lightning.data.corrections import correct
from mask_lightning.data.index import read_index
from mask_lightning.errors import SampleTableError
from mask_lightning.labels import LabelSpace, Task


@pytest.fixture(scope="module")
def table(competition: Path) -> pd.DataFrame:
    return read_index(competition)


@pytest.fixture
def write(tmp_path: Path):
    def write(*lines: str, header: str = "person_id,field,value,agreed_by") -> Path:
        path = tmp_path / "corrections.csv"
        path.write_text("\n".join((header, *lines)) + "\n")
        return path

    return write


def values(table: pd.DataFrame, person: str, column: str, shot: str | None = None) -> set[Any]:
    rows = table[table["person_id"] == person]
    return set(rows[column] if shot is None else rows.loc[rows["shot"] == shot, column])


@pytest.mark.parametrize(
    ("line", "person", "want"),
    [
        ("000001,gender,male,25", "000001", {"gender": 0, "years": 18, "age": 0}),
        ("000015,gender,female,25", "000015", {"gender": 1}),
        ("000001,age,60,25", "000001", {"years": 60, "age": 2}),
        ("000012,age,29,25", "000012", {"years": 29, "age": 0}),
        ("000001,age_band,30-59,25", "000001", {"age": 1}),
        ("000001,age_band,>=60,25", "000001", {"age": 2}),
        ("000012,age_band,<30,25", "000012", {"age": 0, "gender": 1}),
        ("000003-1,age,70,25", "000003-1", {"years": 70}),
        ("000003-1,age,70,25", "000003", {"years": 24}),
        ("000022,gender,female,25", "000022", {"gender": 1}),
    ],
)
def test_a_line_changes_one_person(table: pd.DataFrame, write, line: str, person: str, want: dict[str, int]) -> None:
    corrected, report = correct(table, write(line))
    for column, value in want.items():
        assert values(corrected, person, column) == {value}
    named = line.split(",")[0]
    others = table["person_id"] != named
    pd.testing.assert_frame_equal(corrected[others], table[others])
    assert (report.applied, report.too_few_agreed) == (1, 0)


@pytest.mark.parametrize(
    ("value", "want"),
    [
        ("normal:incorrect_mask", {"normal": 1, "incorrect_mask": 2, "mask1": 0}),
        ("incorrect_mask:mask3", {"incorrect_mask": 0, "mask3": 1, "normal": 2}),
        ("mask1:mask2", {"mask1": 0, "mask2": 0, "normal": 2}),
    ],
)
def test_swapped_photos_swap_targets(table: pd.DataFrame, write, value: str, want: dict[str, int]) -> None:
    corrected, _ = correct(table, write(f"000005,swap,{value},25"))
    for shot, mask in want.items():
        assert values(corrected, "000005", "mask", shot) == {mask}
    assert values(corrected, "000006", "mask", "normal") == {2}


@pytest.mark.parametrize("photo", ["mask3", "mask3.jpg", "000005_female_Asian_28/mask3.jpg"])
def test_a_single_photo_can_be_relabelled(table: pd.DataFrame, write, photo: str) -> None:
    corrected, _ = correct(table, write(f"000005,mask,{photo}:normal,25"))
    changed = corrected.index[corrected["mask"] != table["mask"]]
    assert table.loc[changed, ["person_id", "shot"]].to_numpy().tolist() == [["000005", "mask3"]]
    assert corrected.loc[changed, "mask"].tolist() == [2]


def test_an_unreviewed_proposal_is_never_applied(table: pd.DataFrame, write) -> None:
    corrected, report = correct(table, write("000001,gender,male,0", "000002,gender,male,1"))
    assert (report.applied, report.too_few_agreed) == (1, 1)
    assert values(corrected, "000001", "gender") == {1}


def test_correcting_does_not_change_its_input(table: pd.DataFrame, write) -> None:
    before = table.copy(deep=True)
    correct(table, write("000001,gender,male,1", "000001,age,60,1", "000005,swap,normal:mask1,1"))
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize(("agreed_by", "applied"), [(1, 3), (2, 2), (10, 2), (25, 1), (26, 0)])
def test_agreed_by_is_a_lower_limit(table: pd.DataFrame, write, agreed_by: int, applied: int) -> None:
    path = write("000001,gender,male,25", "000002,gender,male,10", "000005,gender,male,1")
    corrected, report = correct(table, path, agreed_by=agreed_by)
    assert (report.applied, report.too_few_agreed) == (applied, 3 - applied)
    changed = (corrected["gender"] != table["gender"]).groupby(table["person_id"]).any()
    assert list(changed[changed].index) == ["000001", "000002", "000005"][:applied]


def test_without_the_column_every_line_has_one_reviewer(table: pd.DataFrame, write) -> None:
    path = write("000001,gender,male", header="person_id,field,value")
    assert correct(table, path)[1].applied == 1
    assert correct(table, path, agreed_by=2)[1].applied == 0


def test_lines_that_name_nobody_are_listed(table: pd.DataFrame, write) -> None:
    path = write("999999,gender,male,25", "000001,gender,male,25", ",gender,male,2", "nobody,age,20,1")
    with pytest.raises(SampleTableError, match=r"found 2 lines with others: line 2 \(999999\), line 4 \(empty\); cor"):
        correct(table, path, agreed_by=2)
    _, report = correct(table, write("000001,gender,male,25", "nobody,age,20,1"), agreed_by=2)
    assert str(report) == "1 corrections applied, 1 below agreed_by left out"


@pytest.mark.parametrize(
    ("typed", "want"),
    [
        ("1", "000001"),
        ("1.0", "000001"),
        ("0001", "000001"),
        (" 000001 ", "000001"),
        ("'000001", "000001"),
        ('"=""000001"""', "000001"),
        ("3", "000003"),
        ("3-1", "000003-1"),
        ("000003-1", "000003-1"),
    ],
)
def test_ids_that_a_spreadsheet_has_changed_are_matched_by_value(
    table: pd.DataFrame, write, typed: str, want: str
) -> None:
    corrected, _ = correct(table, write(f"{typed},age,77,1"))
    assert set(corrected.loc[corrected["years"] == 77, "person_id"]) == {want}


def test_an_id_that_may_be_two_people_is_refused(table: pd.DataFrame, write) -> None:
    table = table.assign(person_id=table["person_id"].replace("000002", "01"))
    corrected, _ = correct(table, write("01,age,77,1"))
    assert set(corrected.loc[corrected["years"] == 77, "person_id"]) == {"01"}
    with pytest.raises(SampleTableError, match=r"line 2 \(1 may be any of 000001, 01\)"):
        correct(table, write("1,age,77,1"))


@pytest.mark.parametrize("name", ["NA", "None", "N/A", "nan", "null", "-"])
def test_class_names_that_mean_missing_elsewhere_are_text(table: pd.DataFrame, write, name: str) -> None:
    glasses = Task("glasses", (name, "round"))
    rows = table.assign(glasses=1)
    corrected, _ = correct(rows, write(f"000001,glasses,{name},1"), space=LabelSpace((glasses,)))
    assert values(corrected, "000001", "glasses") == {0}
    assert values(corrected, "000002", "glasses") == {1}


def test_a_class_for_a_person_whose_photos_differ_is_refused(table: pd.DataFrame, write) -> None:
    path = write("000001,mask,normal,1")
    with pytest.raises(
        SampleTableError, match=r"line 2: .*photos are wear and incorrect and normal; name the photo, as"
    ):
        correct(table, path)
    worn = table[table["mask"] == 0]
    corrected, _ = correct(worn, path)
    assert values(corrected, "000001", "mask") == {2}
    assert values(corrected, "000002", "mask") == {0}


def test_corrections_that_people_report(field_cases: Path) -> None:
    table = read_index(field_cases / "zeros")
    corrected, report = correct(table, field_cases / "zeros" / "corrections.csv")
    assert (values(corrected, "000001", "gender"), values(corrected, "000002", "years"), report.applied) == (
        {1},
        {62},
        2,
    )
    with pytest.raises(SampleTableError, match=r"line 2: .*photos are wear and incorrect and normal; name the photo"):
        correct(table, field_cases / "zeros" / "bare_class.csv")


def test_other_separators_headings_and_empty_lines_are_read(table: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "corrections.csv"
    path.write_text("Person ID;Field;Value;Agreed by\r\n\r\n1; gender ;male;1\r\n;;;\r\n2;age;61.0;\r\n")
    corrected, report = correct(table, path)
    assert (report.applied, values(corrected, "000001", "gender"), values(corrected, "000002", "years")) == (
        2,
        {0},
        {61},
    )
    path.write_text("person_id,field,value\n\n1,gender,mann\n")
    with pytest.raises(SampleTableError, match="line 3: gender cannot become 'mann'"):
        correct(table, path)


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (
            ["000001,colour,red,9"],
            ["expected a field of age, age_band, swap, mask, gender", "found 'colour'", "line 2"],
        ),
        (["000001,gender,male,9", "000001,gender,mann,9"], ["gender cannot become 'mann'", "line 3"]),
        (["000001,age,200,9"], ["age cannot become '200'", "0 to 120", "line 2"]),
        (["000001,age,-1,9"], ["age cannot become '-1'", "0 to 120"]),
        (["000001,age,old,9"], ["age cannot become 'old'", "correct the line"]),
        (["000001,age,,9"], ["age cannot become", "line 2"]),
        (["000001,age_band,old,9"], ["age_band cannot become 'old' (expected one of <30, 30-59, >=60)"]),
        (["000001,age_band,61,9"], ["age_band cannot become '61' (expected one of <30, 30-59, >=60)"]),
        (["000001,swap,normal:normal,9"], ["swap cannot become 'normal:normal' (expected two of mask1"]),
        (["000001,gender,mask1.jpg:male,9"], ["all photos of a person have one gender; leave out the photo"]),
        (["000001,gender,male,inf"], ["expected a whole number as agreed_by", "line 2, found inf"]),
        (["000001,gender,male,2.5"], ["expected a whole number as agreed_by", "line 2, found 2.5"]),
        (["000001,gender,male,9", "1,gender,female,9"], ["line 3: gender of 000001 contradicts line 2; remove one"]),
        (["000001,age,61,9", "000001,age_band,<30,9"], ["line 3: age_band of 000001 contradicts line 2"]),
        (
            ["000001,mask,mask1:normal,9", "000001,mask,mask1.jpg:wear,9"],
            ["line 3: mask of 000001 contradicts line 2"],
        ),
        (
            ["000001,swap,normal:mask1,9", "000001,mask,normal:incorrect,9"],
            ["line 3: mask of 000001 contradicts line 2"],
        ),
        (["000001,swap,normal,9"], ["swap cannot become 'normal'", "a colon between"]),
        (["000001,swap,normal:mask9,9"], ["swap cannot become 'normal:mask9'"]),
        (
            ["000001,mask,normal.jpg:normal,9", "000001,mask,worn,9"],
            ["mask cannot become 'worn'", "wear, incorrect, normal", "line 3"],
        ),
        (["000001,mask,mask3.jpg:worn,9"], ["mask cannot become 'mask3.jpg:worn'", "a photo, a colon"]),
        (["000001,mask,mask9:wear,9"], ["this person has no photo mask9"]),
        (["000001,gender,male,many"], ["agreed_by", "many"]),
    ],
)
def test_an_invalid_line_raises_with_its_number(table: pd.DataFrame, write, lines: list[str], parts: list[str]) -> None:
    path = write(*lines)
    with pytest.raises(SampleTableError) as caught:
        correct(table, path)
    for part in (str(path), *parts):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "column", "want"),
    [
        (["000001,Gender,Male,9"], "gender", {0}),
        (["000001,gender,M,9"], "gender", {0}),
        (["000001,age band,60+,9"], "age", {2}),
        (["000001,Age_Band,≥60,9"], "age", {2}),
        (["000001,age_band,30 – 59,9"], "age", {1}),
        (["000001,age,61 years,9"], "years", {61}),
        (["000001,age,61.9,9"], "years", {61}),
        (["000001,age,61,9", "000001,age_band,>=60,9"], "age", {2}),
        (["000001,gender,male,9", "1,gender,male,3"], "gender", {0}),  # repeated
        (["000001,mask,normal : Incorrect,9"], "mask", {0, 1}),
    ],
)
def test_spellings_of_spreadsheets_and_repeated_lines_are_read(
    table: pd.DataFrame, write, lines: list[str], column: str, want: set[int]
) -> None:
    corrected, _ = correct(table, write(*lines))
    assert values(corrected, "000001", column) == want


def test_a_swap_that_is_written_twice_is_made_once(table: pd.DataFrame, write) -> None:
    corrected, _ = correct(table, write("000001,swap,normal:mask1,9", "1,swap,normal:mask1,2"))
    assert (values(corrected, "000001", "mask", "normal"), values(corrected, "000001", "mask", "mask1")) == ({0}, {2})


def test_a_swap_needs_both_photos(table: pd.DataFrame, write) -> None:
    rows = table[(table["person_id"] != "000001") | (table["shot"] != "normal")]
    with pytest.raises(SampleTableError, match="lacks one of the two photos"):
        correct(rows, write("000001,swap,normal:mask1,9"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected a corrections CSV at .*, found none; set data.corrections"),
        ("id,field,value\n1,gender,male\n", "expected columns person_id, field, value .* add person_id"),
        ("", "cannot read .*corrections.csv"),
    ],
)
def test_a_file_that_is_not_a_corrections_csv_raises(
    table: pd.DataFrame, tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "corrections.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SampleTableError, match=message):
        correct(table, path)
