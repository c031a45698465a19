import pandas as pd
import pytest

from mask_lightning.errors import SampleTableError
from mask_lightning.synthetic.masks.faces import read_people


def test_photos_are_gathered_by_person(face_set):
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
def test_a_table_that_contradicts_itself_is_refused(face_set, column, value, message):
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
def test_labels_that_nobody_can_have_are_refused(face_set, column, value, message):
    with pytest.raises(SampleTableError, match=message):
        read_people(face_set.assign(**{column: value}))


def test_missing_columns_and_empty_tables_are_named(face_set):
    with pytest.raises(SampleTableError, match="age missing"):
        read_people(face_set.drop(columns="age"))
    with pytest.raises(SampleTableError, match="empty table"):
        read_people(pd.DataFrame(columns=face_set.columns))
