"""CSVs of labelled photos: reading, inferring label spaces, and errors."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest

from mask_lightning.data.tables import MAX_CLASSES, find_target, infer_space, person_tasks, read_table
from mask_lightning.errors import ConfigError, LabelError, SampleTableError
from mask_lightning.labels import AGE, FACE, GENDER, LabelSpace, Task

SMILE = LabelSpace((Task("smile", ("no", "yes")),))

GOOD = """path,person_id,smile,gender,age,note
a/1.jpg,ann,yes,female,34,seen at the fair
a/2.jpg,ann,no,female,34,
b.png,007,,Male,,blurred
sub/c.jpg,cem,yes,male,61,
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/1.jpg", "a/2.jpg", "b.png", "sub/c.jpg"):
        (tmp_path / "faces" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "faces" / name).touch()
    (tmp_path / "elsewhere.jpg").touch()
    return tmp_path / "faces"


def write(folder: Path, text: str, name: str = "faces.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_a_row_per_photo_and_a_target_per_cell(folder: Path) -> None:
    table, space = read_table(write(folder, GOOD))
    assert table["path"].tolist() == [str(folder.resolve() / n) for n in ("a/1.jpg", "a/2.jpg", "b.png", "sub/c.jpg")]
    assert table["person_id"].tolist() == table["family"].tolist() == ["ann", "ann", "007", "cem"]
    assert space["smile"].classes == ("no", "yes")
    assert table["smile"].tolist() == [1, 0, -1, 1]
    assert table["gender"].tolist() == [1, 1, 0, 0]
    assert table["years"].tolist()[:2] == [34, 34]
    assert all(table[name].dtype == "int64" for name in space.names)


def test_ages_in_years_become_the_age_bands_that_occur(folder: Path) -> None:
    table, space = read_table(write(folder, GOOD))
    assert space["age"] == Task("age", ("30-59", ">=60"))
    assert table["age"].tolist() == [0, 0, -1, 1]


def test_a_given_space_determines_the_columns_that_are_read(folder: Path) -> None:
    table, space = read_table(write(folder, GOOD), space=FACE, needed=["gender", "age"])
    assert space == FACE.only(["gender", "age"])
    assert table["age"].tolist() == [1, 1, -1, 2]
    assert "smile" not in table
    assert "mask" not in table


def test_paths_may_be_relative_to_another_folder(folder: Path, tmp_path: Path) -> None:
    csv = write(tmp_path, GOOD)
    table, _ = read_table(csv, folder)
    assert Path(table["path"][0]) == folder.resolve() / "a" / "1.jpg"


@pytest.mark.parametrize("text", ["\ufeff" + GOOD, GOOD.replace("\n", "\r\n"), GOOD.replace(",", " , "), GOOD + "\n\n"])
def test_csv_variants_of_other_programs_are_read(folder: Path, text: str) -> None:
    pd.testing.assert_frame_equal(read_table(write(folder, text))[0], read_table(write(folder, GOOD, "good.csv"))[0])


def test_only_an_empty_cell_is_not_labelled(folder: Path) -> None:
    text = "path,person_id,glasses\na/1.jpg,1,None\na/2.jpg,2,NA\nb.png,3,\nsub/c.jpg,4,None\n"
    table, space = read_table(write(folder, text))
    assert space["glasses"].classes == ("NA", "None")
    assert table["glasses"].tolist() == [1, 0, -1, 1]


def test_a_family_column_is_kept_and_filled(folder: Path) -> None:
    text = "path,person_id,family,x,race,shot\na/1.jpg,1,f,a,White,s\na/2.jpg,2,,b,Black,t\n"
    table, space = read_table(write(folder, text), space=LabelSpace((Task("x", ("a", "b")),)))
    assert table["family"].tolist() == ["f", "2"]
    assert (table["race"].tolist(), table["shot"].tolist()) == (["White", "Black"], ["s", "t"])
    assert space.names == ("x",)


@pytest.mark.parametrize(
    ("column", "cells", "classes"),
    [
        ("stars", ["10", "9", "1", "9"], ("1", "9", "10")),  # numbers in numerical order
        ("hair", ["red", "Brown", "", "red"], ("Brown", "red")),
        ("gender", ["Female", "MALE", "female", ""], GENDER.classes),
        ("gender", ["f", "m", "f", "m"], ("f", "m")),  # not FACE's class names: another task
        ("age", ["<30", ">=60", "", "<30"], ("<30", ">=60")),
        ("age", ["25", "30-59", "70", ""], AGE.classes),
        ("age", ["young", "old", "", "old"], ("old", "young")),
        ("mask", ["normal", "wear", "wear", "wear"], ("wear", "normal")),
    ],
)
def test_classes_are_inferred(folder: Path, column: str, cells: list[str], classes: tuple[str, ...]) -> None:
    paths = ["a/1.jpg", "a/2.jpg", "b.png", "sub/c.jpg"]
    rows = [f"{path},{i},{cell}" for i, (path, cell) in enumerate(zip(paths, cells, strict=True))]
    table, space = read_table(write(folder, "\n".join([f"path,person_id,{column}", *rows])))
    assert space == LabelSpace((Task(column, classes),))
    named = [space[column].classes[i] if i >= 0 else "" for i in table[column]]
    if column not in FACE.names:
        assert named == cells


def test_columns_that_cannot_be_tasks_are_left_out_with_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    many = [f"{i}.jpg" for i in range(MAX_CLASSES + 2)]
    for name in many:
        (folder / name).touch()
    rows = [f"{i},{name},{i},{i % 2},note {i},same,20{i % 10}" for i, name in enumerate(many)]
    csv = write(folder, "\n".join([",path,person_id,odd,note,constant,years", *rows]))
    with caplog.at_level(logging.WARNING):
        table, space = read_table(csv)
    assert space.names == ("odd",)
    assert "note (52 different values, more than 50), constant (one class only)" in caplog.text
    assert "years" in table
    with pytest.raises(LabelError, match=r"column note cannot be a task: 52 different values.*labels.tasks"):
        read_table(csv, needed=["note"])


WRONG = [
    ("path,person_id,smile\na/1.jpg,1,maybe\n", r"faces.csv, line 2: smile has no class 'maybe'; choose from no, yes"),
    ("path,person_id,smile\na/1.jpg,1,no\na/2.jpg,2,yess\n", r"line 3: smile has no class 'yess'; did you mean yes"),
    ("path,person_id,smile\n../elsewhere.jpg,1,no\n", r"line 2: expected a path inside .*found ../elsewhere.jpg"),
    ("path,person_id,smile\n/etc/passwd,1,no\n", r"line 2: expected a path inside"),
    ("path,person_id,smile\nnowhere.jpg,1,no\n", r"names 1 photos that are not there \(.*nowhere.jpg"),
    ("path,person_id,smile\na/1.jpg,1,no\n./a/1.jpg,2,no\n", r"names 1 photos twice"),
    ("path,person_id,smile\na/1.jpg,,no\n", r"line 2: person_id is empty"),
    ("path,person_id,smile\n,1,no\n", r"line 2: path is empty"),
    ("path,smile\na/1.jpg,no\n", r"expected a column person_id in .*found path, smile"),
    ("path;person_id;smile\na/1.jpg;1;no\n", r"expected a column path .*separated by commas"),
    ("path,person_id,smiles\na/1.jpg,1,no\n", r"expected a column smile .*task.tasks"),
    ("path,person_id,smile\n", r"expected a row per photo"),
    ("", r"cannot read .*faces.csv"),
    ("path,person_id,smile\na/1.jpg,1,no,2,3\na/1.jpg,1,no\n", r"more cells than headings; quote"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_line_raises_with_its_number(folder: Path, text: str, message: str) -> None:
    with pytest.raises(SampleTableError, match=message) as caught:
        read_table(write(folder, text), space=SMILE, needed=["smile"])
    assert "\n" not in str(caught.value)


def test_a_missing_csv_folder_or_task_raises(folder: Path) -> None:
    with pytest.raises(SampleTableError, match=r"expected a CSV at .*nothing.csv, found none; set data.table"):
        read_table(folder / "nothing.csv")
    with pytest.raises(ConfigError, match=r"expected the folder of the photos at .*nothing.*data.root"):
        read_table(write(folder, GOOD), folder / "nothing")
    with pytest.raises(LabelError, match="expected a column of labels per task, found none"):
        read_table(write(folder, "path,person_id\na/1.jpg,1\n"))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["25", "61"], "expected one age per person in .*found <30 and >=60 for person 1"),
        (["<30", ">=60"], "expected one age per person in .*found <30 and >=60"),
        (["", "61"], None),
        (["31", "38"], None),
    ],
)
def test_a_person_has_one_age_band(
    folder: Path, caplog: pytest.LogCaptureFixture, cells: list[str], message: str | None
) -> None:
    text = f"path,person_id,age\na/1.jpg,1,{cells[0]}\na/2.jpg,1,{cells[1]}\nb.png,2,44\n"
    csv = write(folder, text)
    if message is None:
        with caplog.at_level(logging.WARNING):
            read_table(csv, space=FACE)
        assert ("1 people have photos at several ages: 1" in caplog.text) == ("31" in cells)
    else:
        with pytest.raises(SampleTableError, match=message):
            read_table(csv, space=FACE)


def test_few_contradictions_are_a_warning_and_many_a_task_of_the_photo(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ["path,person_id,beard,smile"]
    for i in range(40):
        for shot in "ab":
            (folder / f"{i}{shot}.jpg").touch()
            beard = "yes" if i % 2 or (i == 0 and shot == "b") else "no"
            lines.append(f"{i}{shot}.jpg,p{i},{beard},{'yes' if shot == 'b' else 'no'}")
    with caplog.at_level(logging.WARNING):
        table, space = read_table(write(folder, "\n".join(lines)))
    assert "1 of 40 people have two labels of beard (p0)" in caplog.text
    assert "smile" not in caplog.text
    assert person_tasks(table, space) == ()
    assert person_tasks(table[table["person_id"] != "p0"], space) == ("beard",)


@pytest.mark.parametrize(
    ("task", "value", "want"),
    [
        (AGE, "29.9", 0),
        (AGE, "60", 2),
        (AGE, "-1", None),
        (AGE, "130", None),
        (AGE, "nan", None),
        (Task("age", ("young", "old")), "20", None),
        (Task("stars", ("1", "2")), "2", 1),
        (Task("size", ("s", "S")), "S", 1),
        (Task("size", ("s", "S", "xl")), "XL", 2),
        (Task("size", ("ss", "Ss")), "sS", None),  # ambiguous
    ],
)
def test_find_target(task: Task, value: str, want: int | None) -> None:
    assert find_target(task, value) == want


def test_nan_and_inf_can_be_class_names() -> None:
    space = infer_space(pd.DataFrame({"end": ["inf", "nan", "2", ""]}))
    assert space["end"].classes == ("2", "inf", "nan")
