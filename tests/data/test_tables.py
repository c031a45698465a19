"""CSVs of labelled photos: reading, inferring label spaces, and errors."""

from __future__ import annotations

import logging
from pathlib import Path
from unicodedata import normalize

import pandas as pd
import pytest

from mask_lightning.data.label_cells import find_target
from mask_lightning.data.tables import MAX_CLASSES, infer_space, person_tasks, read_table
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


@pytest.mark.parametrize("missing", ["", "NA", "nan", "NaN", "N/A", "null", "NULL", "-", "n.a.", "<NA>", "#N/A", " "])
def test_marks_of_missing_values_are_not_labelled(folder: Path, missing: str) -> None:
    text = "path,person_id,glasses,gender,age\na/1.jpg,1,None,{0},{0}\na/2.jpg,2,round,male,61\nb.png,3,{0},female,20\n"
    table, space = read_table(write(folder, text.format(missing)))
    assert space.to_plain() == {"glasses": ["None", "round"], "gender": ["male", "female"], "age": ["<30", ">=60"]}
    assert table[["glasses", "gender", "age"]].to_numpy().tolist() == [[0, -1, -1], [1, 0, 1], [-1, 1, 0]]
    assert table["years"].isna().tolist() == [True, False, False]


@pytest.mark.parametrize("name", ["NA", "-", "null"])
def test_a_class_that_is_named_is_no_missing_value(folder: Path, name: str) -> None:
    text = f"path,person_id,glasses\na/1.jpg,1,{name}\na/2.jpg,2,round\nb.png,3,\n"
    table, _ = read_table(write(folder, text), space=LabelSpace((Task("glasses", ("round", name)),)))
    assert table["glasses"].tolist() == [1, 0, -1]


def test_none_is_a_class_with_a_notice_except_where_it_cannot_be(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "path,person_id,glasses,gender\na/1.jpg,1,None,None\na/2.jpg,2,round,male\nb.png,3,,female\n"
    table, _ = read_table(write(folder, text))
    assert (table["glasses"].tolist(), table["gender"].tolist()) == ([0, 1, -1], [-1, 0, 1])
    assert "glasses: 'None' is read as a class" in caplog.text
    text = "path,person_id,mask\na/1.jpg,1,wear\na/2.jpg,2,None\nb.png,3,incorrect\n"
    with pytest.raises(SampleTableError, match=r"line 3: mask 'None' may mean no mask or no label; write normal"):
        read_table(write(folder, text))


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
        ("gender", ["f", "m", "f", "m"], GENDER.classes),
        ("gender", ["Man", "WOMAN", "m", "female"], GENDER.classes),
        ("gender", ["남", "여", "여", ""], GENDER.classes),
        ("gender", ["Male", "female", "other", ""], ("Male", "female", "other")),
        ("hair", ["Red", "red", "red ", "dark  brown"], ("dark  brown", "red")),
        ("age", ["<30", ">=60", "", "<30"], ("<30", ">=60")),
        ("age", ["25", "30-59", "70", ""], AGE.classes),
        ("age", ["young", "old", "", "old"], ("old", "young")),
        ("age", ["<30", "30 – 59", "≥60", "60+"], AGE.classes),
        ("gender", ["men", "women", "Boys", "girls"], GENDER.classes),
        ("stars", ["1", "1", "1.0", "2"], ("1", "2")),  # numbers that a spreadsheet writes otherwise
        ("mask", ["normal", "wear", "wear", "wear"], ("wear", "normal")),
    ],
)
def test_classes_are_inferred(folder: Path, column: str, cells: list[str], classes: tuple[str, ...]) -> None:
    paths = ["a/1.jpg", "a/2.jpg", "b.png", "sub/c.jpg"]
    rows = [f"{path},{i},{cell}" for i, (path, cell) in enumerate(zip(paths, cells, strict=True))]
    table, space = read_table(write(folder, "\n".join([f"path,person_id,{column}", *rows])))
    assert space == LabelSpace((Task(column, classes),))
    named = [space[column].classes[i] if i >= 0 else "" for i in table[column]]
    if column not in FACE.names and column != "hair" and "1.0" not in cells:
        assert named == cells


def test_columns_that_cannot_be_tasks_are_left_out_with_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    many = [f"{i}.jpg" for i in range(MAX_CLASSES + 2)]
    for name in many:
        (folder / name).touch()
    rows = [f"{i},{name},{i},{i % 2},note {i},same,2{i % 10}" for i, name in enumerate(many)]
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
    (
        "file;person_id;smile\na/1.jpg;1;no\n",
        r"expected a column path .*found file, person_id, smile; add it, or rename",
    ),
    ("path,person_id,smile\n\na/1.jpg,1,no\na/2.jpg,2,maybe\n", r"line 4: smile has no class 'maybe'"),
    ('path,person_id,smile,note\na/1.jpg,1,no,"two\nlines"\na/2.jpg,2,maybe,\n', r"line 4: smile has no class 'maybe'"),
    ("path,person_id,smile\na/1.jpg,NA,no\n", r"line 2: person_id is NA"),
    ("path,Path,person_id,smile\na/1.jpg,a,1,no\n", r"2 columns path \(path, Path\); rename all but one"),
    ("sep=;\npath;person_id;smile\na/1.jpg;1;no\n", r"first line is sep=;, not the headings: remove that line"),
    (
        "path,person_id,smile,years\na/1.jpg,1,no,130\n",
        r"line 2: expected an age of 0 to 120 years, found 130; correct",
    ),
    ("path,person_id,smile,years\na/1.jpg,1,no,old\n", r"line 2: expected a number of years, found 'old'"),
    ("path,person_id,smile\nC:\\faces\\a\\1.jpg,1,no\n", r"line 2: .*a path on Windows; delete what comes before"),
    ("path,person_id,smiles\na/1.jpg,1,no\n", r"expected a column smile .*task.tasks"),
    ("path,person_id,smile\n", r"expected a row per photo"),
    ("", r"cannot read .*faces.csv"),
    (
        "path,person_id,smile\na/1.jpg,1,no,2,3\na/1.jpg,1,no\n",
        r"line 2 has 5 cells, the headings are 3; quote cells that contain a comma",
    ),
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


@pytest.mark.parametrize(
    ("column", "cells", "message"),
    [
        (
            "age",
            ["25", "61", "130", "40"],
            "line 4: expected an age of 0 to 120 years, found 130; correct it, or leave",
        ),
        ("age", ["25", "-1", "61", "40"], "line 3: expected an age of 0 to 120 years, found -1"),
        ("age", ["<30", "999", ">=60", ""], "line 3: expected an age of 0 to 120 years, found 999"),
        ("age", ["25", "61", "old", ""], "line 4: expected years or one of <30, 30-59, >=60, found 'old'"),
        ("age", ["0", "1", "2", "1"], "expected ages in .*, found 0, 1, 2: years, or numbers of classes"),
        ("gender", ["0", "1", "1", ""], r"line 2: .*UTKFace: 0 = male, 1 = female; IMDB-WIKI: 0 = female, 1 = male"),
        ("gender", ["male", "female", "1.0", ""], "line 4: .*found gender 1.0, which has two meanings"),
        (
            "gender",
            ["male", "female", "femal", ""],
            "line 4: expected male or female, as male in line 2, found gender 'fem",
        ),
        (
            "gender",
            ["male", "female", "?", ""],
            "line 4: expected male or female, .*found gender '\\?'; correct it, leave",
        ),
        ("gender", ["unknown", "female", "male", ""], "line 2: expected male or female, .*found gender 'unknown'"),
        ("gender", ["male", "#REF!", "", ""], "line 3: gender is #REF!, an error of the spreadsheet; correct it, or"),
        ("mask", ["wear", "normal", "incorect", ""], "line 4: expected wear or incorrect or normal, .*mask 'incorect'"),
        ("age", ["<30", "middle", ">=60", ""], "line 3: expected <30 or 30-59 or >=60, .*found age 'middle'"),
        ("age", ["03-Sep", "20-29", "10-19", ""], "line 2: expected an age, found '03-Sep', which is a date"),
        ("age", ["20", "1990-01-02", "", ""], "line 3: expected an age, found '1990-01-02', which is a date"),
        (
            "gender",
            ["M", "F", "X", ""],
            "line 4: expected male or female, as M in line 2, found gender 'X'; .*labels.tasks",
        ),
    ],
)
@pytest.mark.parametrize("space", [None, FACE], ids=["inferred", "face"])
def test_what_may_mean_two_things_or_nothing_is_refused(
    folder: Path, column: str, cells: list[str], message: str, space: LabelSpace | None
) -> None:
    paths = ["a/1.jpg", "a/2.jpg", "b.png", "sub/c.jpg"]
    rows = [f"{path},{i},{cell}" for i, (path, cell) in enumerate(zip(paths, cells, strict=True))]
    with pytest.raises(SampleTableError, match=message) as caught:
        read_table(write(folder, "\n".join([f"path,person_id,{column}", *rows])), space=space)
    assert "\n" not in str(caught.value)


def test_further_classes_of_a_known_task_are_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_table(write(folder, "path,person_id,gender\na/1.jpg,1,male\na/2.jpg,2,female\nb.png,3,other\n"))
    assert "gender: classes beside male, female: other" in caplog.text


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("path,person_id,smile,smile\na/1.jpg,1,y,n\n", SampleTableError, r"2 columns smile \(smile, smile\); rename"),
        ("path,person_id,x,X\na/1.jpg,1,y,n\na/2.jpg,2,n,y\n", LabelError, "found x and X; rename or remove one"),
        ("path,person_id,side\na/1.jpg,1,train\na/2.jpg,2,val\n", LabelError, "side: a name with another meaning"),
        ('path,person_id,x\na/1.jpg,1,"y\nb.png,2,n"\na/2.jpg,3,n\n', LabelError, "x: cells of several lines"),
        ("path,person_id,x\na/1.jpg,None,y\n", SampleTableError, "line 2: person_id is None"),
        ("path,person_id,x\na/1.jpg,2.02401E+10,y\n", SampleTableError, "line 2: .*save that column as text"),
        ("path,person_id,x\nA/1.jpg,1,y\nb.png,2,n\n", SampleTableError, "not there .*restore them"),
        ("path,person_id,x\na/1.JPG,1,y\nb.png,2,n\n", SampleTableError, r"the first is called 1.jpg on this disk"),
        ("path,person_id,x\nC:/faces/a/1.jpg,1,y\nb.png,2,n\n", SampleTableError, "line 2: .*a path on Windows"),
        ("path,person_id,x\nnowhere.jpg,1,y\nb.png,2,n\n", SampleTableError, "not there .*gone.jpg.*; restore them"),
        ('path,person_id,x\na/1.jpg,1,"y\n', SampleTableError, r"line 2 \(unexpected end of data\); close its quot"),
        ("path,person_id,x\na/1.jpg,1,y\na/2.jpg,2,n,z\n", SampleTableError, "line 3 has 4 cells, the headings are 3"),
    ],
)
def test_tables_that_are_refused(folder: Path, text: str, error: type[Exception], message: str) -> None:
    (folder / "nowhere.jpg").symlink_to(folder / "gone.jpg")
    with pytest.raises(error, match=message) as caught:
        read_table(write(folder, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "\n,,\npath,person_id,x\n\na/1.jpg,1,y,,\nb.png,2,n\n",  # lines and cells that are empty
        "path\tperson_id\tx\tnotes, if any, or none\na/1.jpg\t1\ty\t\nb.png\t2\tn\t\n",
        "path,person_id,x\ra/1.jpg,1,y\rb.png,2,n\r",
        "path,person_id,x\na/1.jpg,1,y\u200b\nb.png,2,n\n",
        'path,"person\nid",x\na/1.jpg,1,y\nb.png,2,n\n',
    ],
)
def test_tables_of_spreadsheets_are_read(folder: Path, text: str) -> None:
    table, space = read_table(write(folder, text))
    assert (table["person_id"].tolist(), space.to_plain(), table["x"].tolist()) == (
        ["1", "2"],
        {"x": ["n", "y"]},
        [1, 0],
    )


@pytest.mark.parametrize(
    ("ids", "families"),
    [
        (["001", "1", "1.0", "2"], 2),
        (["Ann", "ann", "Ann Lee", "Ann  Lee"], 2),
        ([normalize("NFC", "é"), normalize("NFD", "é"), "e", "f"], 3),
        (["2021-001", "2021-1", "2021-002", "x"], 4),
    ],
)
def test_ids_that_may_be_one_person_are_one_family(
    folder: Path, caplog: pytest.LogCaptureFixture, ids: list[str], families: int
) -> None:
    paths = ["a/1.jpg", "a/2.jpg", "b.png", "sub/c.jpg"]
    rows = [f"{path},{id_},{i % 2}" for i, (path, id_) in enumerate(zip(paths, ids, strict=True))]
    table, _ = read_table(write(folder, "\n".join(["path,person_id,x", *rows])))
    assert table["person_id"].tolist() == ids
    assert table["family"].nunique() == families
    assert ("they are one family each; give one person one person_id" in caplog.text) == (families < 4)


def test_ages_of_one_band_are_no_classes(folder: Path) -> None:
    text = "path,person_id,age\na/1.jpg,1,25\na/2.jpg,2,26\nb.png,3,27\n"
    with pytest.raises(LabelError, match=r"expected a column of labels per task, found age: all are <30"):
        read_table(write(folder, text))


def test_ages_may_have_a_unit_and_a_decimal_comma(folder: Path) -> None:
    text = "path;person_id;age\na/1.jpg;1;25,5\na/2.jpg;2;61 years\nb.png;3;40세\nsub/c.jpg;4;70.0\n"
    table, space = read_table(write(folder, text))
    assert (table["years"].tolist(), space["age"], table["age"].tolist()) == ([25.5, 61, 40, 70], AGE, [0, 2, 1, 2])


def test_synonyms_of_genders_are_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_table(write(folder, "path,person_id,gender\na/1.jpg,1,M\na/2.jpg,2,woman\nb.png,3,Male\n"))
    assert "gender: M is read as male, woman is read as female" in caplog.text


def test_genders_that_are_named_are_classes_of_their_own(folder: Path) -> None:
    space = LabelSpace((Task("gender", ("0", "1")),))
    table, _ = read_table(write(folder, "path,person_id,gender\na/1.jpg,1,1\na/2.jpg,2,0\nb.png,3,\n"), space=space)
    assert table["gender"].tolist() == [1, 0, -1]


def test_spellings_are_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    table, _ = read_table(
        write(folder, "path,person_id,hair\na/1.jpg,1,red\na/2.jpg,2, RED\nb.png,3,red\nsub/c.jpg,4,x\n")
    )
    assert table["hair"].tolist() == [0, 0, 0, 1]
    assert "hair: 'RED' is read as 'red'" in caplog.text


PEOPLE = "path,person_id,성별,note\na/1.jpg,김,여성,가\na/2.jpg,이,남성,\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949", "euc-kr"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_encodings_and_separators_are_recognised(folder: Path, encoding: str, separator: str) -> None:
    (folder / "faces.csv").write_bytes(PEOPLE.replace(",", separator).encode(encoding))
    table, space = read_table(folder / "faces.csv")
    assert table["person_id"].tolist() == ["김", "이"]
    assert space.to_plain() == {"성별": ["남성", "여성"]}


def test_text_in_another_encoding_is_refused(folder: Path) -> None:
    (folder / "faces.csv").write_bytes("path,person_id,hair\na/1.jpg,1,grün\n".encode("latin-1"))
    with pytest.raises(SampleTableError, match=r"cannot read .*faces.csv .*; save it as a CSV in UTF-8"):
        read_table(folder / "faces.csv")
    for encoding in ("shift-jis", "gbk"):  # can be decoded as Korean, to other signs
        (folder / "faces.csv").write_bytes("path,person_id,gender\na/1.jpg,田中,男\nb.png,山本,女\n".encode(encoding))
        with pytest.raises(SampleTableError, match=r"save it as a CSV in UTF-8"):
            read_table(folder / "faces.csv")
    (folder / "faces.csv").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(SampleTableError, match=r"cannot read .*a workbook of a spreadsheet"):
        read_table(folder / "faces.csv")


@pytest.mark.parametrize("headings", ["Path,Person_ID,Smile", "PATH,Person ID,SMILE", "path ,person-id, smile"])
def test_headings_may_be_in_any_case(folder: Path, headings: str) -> None:
    table, space = read_table(
        write(folder, f"{headings}\na/1.jpg,1,no\na/2.jpg,2,yes\n"), space=SMILE, needed=["smile"]
    )
    assert (space, table["smile"].tolist()) == (SMILE, [0, 1])


@pytest.mark.parametrize("name", [r"a\1.jpg", "{folder}/a/1.jpg", "./a//1.jpg"])
def test_other_ways_to_write_a_path(folder: Path, name: str) -> None:
    typed = name.format(folder=folder)
    table, _ = read_table(write(folder, f"path,person_id,smile\n{typed},1,no\nb.png,2,yes\n"))
    assert table["path"][0] == str(folder.resolve() / "a" / "1.jpg")


@pytest.mark.parametrize(("on_disk", "typed"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD"), ("NFC", "NFC")])
def test_names_are_found_however_they_are_composed(folder: Path, on_disk: str, typed: str) -> None:
    for name in ("사진/é.jpg", "사진/2.jpg"):
        path = folder / normalize(on_disk, name)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    names = [normalize(typed, name) for name in ("사진/é.jpg", "사진/2.jpg")]
    table, _ = read_table(write(folder, f"path,person_id,smile\n{names[0]},1,no\n{names[1]},2,yes\n"))
    assert all(Path(path).is_file() for path in table["path"])
    table, _ = read_table(
        write(folder, "path,person_id,smile\né.jpg,1,no\n2.jpg,2,yes\n"), folder / normalize(typed, "사진")
    )
    assert all(Path(path).is_file() for path in table["path"])


def test_symlinks_that_leave_the_folder_are_followed_on_request(folder: Path, tmp_path: Path) -> None:
    (folder / "link.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    csv = write(folder, "path,person_id,smile\nlink.jpg,1,no\na/1.jpg,2,yes\n")
    with pytest.raises(SampleTableError, match=r"line 2: .*a symlink to .*elsewhere.jpg; .*data.follow_symlinks=true"):
        read_table(csv)
    table, _ = read_table(csv, follow_symlinks=True)
    assert table["path"][0] == str(folder.resolve() / "link.jpg")
    with pytest.raises(SampleTableError, match="expected a path inside"):
        read_table(write(folder, "path,person_id,smile\n../elsewhere.jpg,1,no\nb.png,2,yes\n"), follow_symlinks=True)


def test_an_absolute_path_outside_names_the_folder_to_set(folder: Path, tmp_path: Path) -> None:
    csv = write(folder, f"path,person_id,smile\n{tmp_path}/elsewhere.jpg,1,no\n{folder}/a/1.jpg,2,yes\n")
    with pytest.raises(SampleTableError, match=rf"such as data.root={tmp_path}$"):
        read_table(csv)
    assert len(read_table(csv, tmp_path)[0]) == 2


TABLES = {  # name: classes of gender and of age, or an error
    "missing_na.csv": (GENDER.classes, AGE.classes),
    "headings.csv": (GENDER.classes, AGE.classes),
    "gender_m_f.csv": (GENDER.classes, AGE.classes),
    "backslashes.csv": (GENDER.classes, AGE.classes),
    "semicolon_cp949.csv": (GENDER.classes, AGE.classes),
    "tabs.tsv": (GENDER.classes, AGE.classes),
    "age_130.csv": "line 8: expected an age of 0 to 120 years, found 130",
    "gender_0_1.csv": "line 2: .*UTKFace: 0 = male.*IMDB-WIKI: 0 = female",
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_people_report(field_cases: Path, name: str) -> None:
    want = TABLES[name]
    if isinstance(want, str):
        with pytest.raises(SampleTableError, match=want):
            read_table(field_cases / "tables" / name)
        return
    table, space = read_table(field_cases / "tables" / name)
    assert (space["gender"].classes, space["age"].classes) == want
    missing = table[table["person_id"].isin(["p00", "p01", "p02"])]["gender"]
    assert (missing == -1).all() == (name == "missing_na.csv")


def test_nan_and_inf_can_be_class_names() -> None:
    space = infer_space(pd.DataFrame({"end": ["inf", "nan", "2", ""]}))
    assert space["end"].classes == ("2", "inf", "nan")
