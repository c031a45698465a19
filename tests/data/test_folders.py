"""One folder per class: layouts, names of mask states, given splits, and mistakes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mask_lightning.data.folders import has_class_folders, mask_state, read_folders
from mask_lightning.data.splits import hold_out
from mask_lightning.errors import DatasetNotFoundError, LabelError, MaskLightningError, SampleTableError, SplitError
from mask_lightning.labels import FACE, LabelSpace

TWO = ("with_mask/1.jpg", "with_mask/2.jpg", "without_mask/1.jpg", "without_mask/2.jpg")
SIDES = tuple(f"{side}/{photo}" for side in ("train", "val") for photo in TWO)


def make(root: Path, files: Sequence[str]) -> Path:
    """Write files with different bytes; a name that ends in a slash is a folder."""
    for file in files:
        if file.endswith("/"):
            (root / file).mkdir(parents=True)
        else:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(file)
    return root


def labels(root: Path, space: LabelSpace | None = None) -> tuple[str, dict[str, list[str]]]:
    """Return the task, and the photos of each class, relative to the root."""
    found = read_folders(root, space=space)
    (task,) = found.space.tasks
    groups: dict[str, list[str]] = {name: [] for name in task.classes}
    for path, target in found.table[["path", task.name]].itertuples(index=False):
        groups[task.classes[target]].append(Path(path).relative_to(root.resolve()).as_posix())
    return task.name, groups


@pytest.mark.parametrize(
    ("state", "names"),
    [
        ("wear", ["with_mask", "WithMask", "Mask", "masked", "CMFD", "AFDB_masked_face_dataset", "wear"]),
        ("incorrect", ["incorrect_mask", "mask_weared_incorrect", "IMFD", "Incorrectly masked", "incorrect"]),
        ("normal", ["without_mask", "WithoutMask", "No Mask", "no-mask", "unmasked", "AFDB_face_dataset", "normal"]),
        (None, ["cats", "masks_of_clay", ""]),
    ],
)
def test_names_of_mask_states(state: str | None, names: list[str]) -> None:
    assert {mask_state(name) for name in names} == {state}


@pytest.mark.parametrize(
    ("files", "want"),
    [
        (TWO, ("mask", {"wear": ["with_mask/1.jpg", "with_mask/2.jpg"], "normal": [*TWO[2:]]})),
        (
            ["no mask/1.png", "mask/1.jpg", "mask_weared_incorrect/a.webp", "masked/2.jpg"],
            (
                "mask",
                {
                    "wear": ["mask/1.jpg", "masked/2.jpg"],
                    "incorrect": ["mask_weared_incorrect/a.webp"],
                    "normal": ["no mask/1.png"],
                },
            ),
        ),
        (["10/a.jpg", "9/b.jpg"], ("class", {"9": ["9/b.jpg"], "10": ["10/a.jpg"]})),
        (["dogs/a.jpg", "cats/b.jpg"], ("class", {"cats": ["cats/b.jpg"], "dogs": ["dogs/a.jpg"]})),
        (["masked/a.jpg", "scarf/b.jpg"], ("class", {"masked": ["masked/a.jpg"], "scarf": ["scarf/b.jpg"]})),
        (["train/a/1.jpg", "train/b/1.jpg"], ("class", {"a": ["train/a/1.jpg"], "b": ["train/b/1.jpg"]})),
        (
            ["CMFD/00000/00001_Mask.jpg", "IMFD/0/00001_Mask_Chin.jpg", "IMFD/0/00002_Mask_Nose_Mouth.jpg"],
            (
                "mask",
                {
                    "wear": ["CMFD/00000/00001_Mask.jpg"],
                    "incorrect": ["IMFD/0/00001_Mask_Chin.jpg", "IMFD/0/00002_Mask_Nose_Mouth.jpg"],
                },
            ),
        ),
        (
            ["00001_Mask.jpg", "00002_Mask_Mouth_Chin.jpg"],
            ("mask", {"wear": ["00001_Mask.jpg"], "incorrect": ["00002_Mask_Mouth_Chin.jpg"]}),
        ),
    ],
)
def test_layouts(tmp_path: Path, files: list[str], want: tuple[str, dict[str, list[str]]]) -> None:
    assert labels(make(tmp_path, files)) == want


@pytest.mark.parametrize(
    ("space", "files", "want"),
    [
        (FACE, TWO, ("mask", {"wear": [*TWO[:2]], "incorrect": [], "normal": [*TWO[2:]]})),
        (FACE, ["Male/1.jpg", "female/1.jpg"], ("gender", {"male": ["Male/1.jpg"], "female": ["female/1.jpg"]})),
        (FACE, ["masked/1.jpg"], ("mask", {"wear": ["masked/1.jpg"], "incorrect": [], "normal": []})),
        (
            LabelSpace.from_plain({"smile": ["no", "yes"]}),
            ["YES/1.jpg", "no/1.jpg"],
            ("smile", {"no": ["no/1.jpg"], "yes": ["YES/1.jpg"]}),
        ),
    ],
)
def test_a_label_space_gives_the_classes_their_numbers(
    tmp_path: Path, space: LabelSpace, files: list[str], want: tuple[str, dict[str, list[str]]]
) -> None:
    assert labels(make(tmp_path, files), space) == want


def test_an_unknown_class_of_a_label_space_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"expected class folders of one task .*mask: wear, incorrect, normal.* cats"):
        read_folders(make(tmp_path, ["masked/1.jpg", "cats/1.jpg"]), space=FACE)


@pytest.mark.parametrize(
    ("files", "people", "known"),
    [
        (["a/1.jpg", "b/1.jpg"], ["a/1.jpg", "b/1.jpg"], False),
        (["a/anna/1.jpg", "a/ben/1.jpg", "b/anna/2.jpg"], ["anna", "ben", "anna"], True),
        (["CMFD/00001_Mask.jpg", "IMFD/x/00001_Mask_Chin.jpg", "no_mask/00001.png"], ["00001"] * 3, True),
    ],
)
def test_people(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, files: list[str], people: list[str], known: bool
) -> None:
    found = read_folders(make(tmp_path, files))
    assert found.table["person_id"].tolist() == people
    assert found.people_known is known
    assert ("the score may be optimistic" in caplog.text) is not known


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ([], DatasetNotFoundError, "expected one folder per class.*found nothing"),
        (["1.jpg", "2.jpg"], DatasetNotFoundError, r"expected one folder per class.*found 1\.jpg, 2\.jpg"),
        (["with_mask/1.jpg"], SampleTableError, "folders of two or more classes.*found with_mask only"),
        (["with_mask/1.jpg", "masked/2.jpg"], SampleTableError, "folders of two or more classes.*masked, with_mask"),
        ([*TWO, "other/"], SampleTableError, "expected photos in every class folder, found none in .*other"),
        (["a/1.jpg", "a/anna/1.jpg", "b/1.jpg"], SampleTableError, "found both: .*1.jpg and .*anna.1.jpg; give every"),
        (["a/1.jpg", "b/anna/1.jpg"], SampleTableError, "in all class folders or in one folder per person below all"),
        (["a/x/y/1.jpg", "b/x/y/1.jpg"], SampleTableError, "<class>/<person>/1.jpg, found .*a.x.y.1.jpg; move them up"),
        (["train/a/1.jpg", "train/b/1.jpg", "a/1.jpg"], SampleTableError, "found both: train/ and a/; set data.root"),
        (["val/a/1.jpg", "test/a/1.jpg"], SampleTableError, "expected train/ beside test/ and val/"),
        (["train/a/1.jpg", "Training/a/1.jpg"], SampleTableError, "one folder per side.*found Training/ and train/"),
        (
            ["train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg"],
            SampleTableError,
            "expected the same class folders in .*train and .*val, found b only in train/",
        ),
        (
            ["dogs/00001_Mask.jpg", "cats/1.jpg"],
            SampleTableError,
            "expected photos named as in MaskedFace-Net .*found .*cats.1.jpg",
        ),
    ],
)
def test_mistakes_are_named_in_one_line(
    tmp_path: Path, files: list[str], error: type[MaskLightningError], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        read_folders(make(tmp_path, files))
    assert "\n" not in str(raised.value)


def test_what_is_left_out_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, [*TWO, "loose.jpg", "with_mask/notes.txt", "annotations/1.xml", "with_mask/.DS_Store"])
    assert len(read_folders(tmp_path).table) == 4
    assert "1 photos in" in caplog.text
    assert "in no class folder and left out: loose.jpg" in caplog.text
    assert "2 files left out, no photos: 1.xml, notes.txt" in caplog.text


def test_a_photo_in_two_classes_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, TWO)
    for folder in ("with_mask", "without_mask"):
        (tmp_path / folder / "same.jpg").write_text("twice")
    assert len(read_folders(tmp_path).table) == 4
    assert "1 photos are in two classes (with_mask/same.jpg and without_mask/same.jpg) and left out" in caplog.text
    for photo in TWO:
        (tmp_path / photo).unlink()
    with pytest.raises(SampleTableError, match=r"all photos of with_mask in .* are in another class, too"):
        read_folders(tmp_path)


@pytest.mark.parametrize(
    ("extra", "held_out", "logged"),
    [
        ([], "val", "photos in train/ are trained on, those in val/ held out"),
        (
            ["test/with_mask/9.jpg", "test/without_mask/9.jpg"],
            "val",
            "test is not used; evaluate on it with data.root=",
        ),
    ],
)
def test_a_given_split_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, extra: list[str], held_out: str, logged: str
) -> None:
    with caplog.at_level(logging.INFO):
        table = read_folders(make(tmp_path, [*SIDES, *extra])).table
    assert logged in caplog.text
    split = hold_out(table, val_fraction=0.2, seed=0)
    assert [Path(path).parts[-3] for path in split.val["path"]] == [held_out] * 4
    assert len(split.train) == 4


def test_test_is_the_held_out_side_without_val(tmp_path: Path) -> None:
    table = read_folders(make(tmp_path, [photo.replace("val/", "Test/") for photo in SIDES])).table
    assert table["side"].value_counts().to_dict() == {"train": 4, "val": 4}


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"val_fraction": 0.2}, (4, 4)),
        ({"val_fraction": 0}, (8, 0)),
        ({"val_fraction": 0.25, "folds": 4, "fold": 1}, (6, 2)),
        ({"val_fraction": 0.2, "limit": 1}, (1, 4)),
    ],
)
def test_folds_and_no_validation_use_all_photos(
    tmp_path: Path, options: dict[str, Any], sizes: tuple[int, int]
) -> None:
    split = hold_out(read_folders(make(tmp_path, SIDES)).table, seed=0, strata=["mask"], **options)
    assert (len(split.train), len(split.val)) == sizes


def test_a_person_on_both_given_sides_is_named(tmp_path: Path) -> None:
    make(tmp_path, [f"{side}/{name}/anna/{side}.jpg" for side in ("train", "val") for name in "ab"])
    with pytest.raises(SplitError, match=r"expected each person in train/ or in val/, found 1 in both \(anna\)"):
        hold_out(read_folders(tmp_path).table, val_fraction=0.2, seed=0)


def test_near_duplicates_of_held_out_photos_are_not_trained_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = read_folders(make(tmp_path, SIDES)).table
    table.loc[table["person_id"].str.endswith("with_mask/1.jpg"), "family"] = "joined"
    split = hold_out(table, val_fraction=0.2, seed=0)
    assert (len(split.train), len(split.val)) == (3, 4)
    assert "1 training photos that look like held-out ones are left out (train/with_mask/1.jpg)" in caplog.text


@pytest.mark.parametrize(
    ("files", "want"),
    [(TWO, True), (SIDES, True), (["a/1.jpg", "2.jpg"], False), (["000001_male_Asian_20/x.txt"], False)],
)
def test_class_folders_are_recognised(tmp_path: Path, files: list[str], want: bool) -> None:
    assert has_class_folders(make(tmp_path, files)) is want
