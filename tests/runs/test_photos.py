"""Fingerprints of photos, and descriptions of their changes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mask_lightning.data.index import read_index
from mask_lightning.runs.photos import describe_changes, fingerprint, identify_photos


@pytest.fixture
def copy(competition: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(competition, tmp_path / "elsewhere"))


def longer(root: Path) -> None:
    with next(root.rglob("mask1.png")).open("ab") as photo:
        photo.write(b"\0")


def older(root: Path) -> None:
    (folder,) = root.rglob("000001_*")
    folder.rename(folder.with_name("000001_female_Asian_19"))


def fewer(root: Path) -> None:
    next(root.rglob("normal.png")).unlink()


def converted(root: Path) -> None:
    photo = next(root.rglob("mask2.jpg"))
    photo.rename(photo.with_suffix(".jpeg"))


def test_the_fingerprint_does_not_depend_on_the_root(competition: Path, copy: Path) -> None:
    name = fingerprint(read_index(competition))
    assert re.fullmatch("[0-9a-f]{16}", name)
    assert fingerprint(read_index(copy)) == name


def test_the_fingerprint_does_not_depend_on_the_split(competition: Path) -> None:
    table = read_index(competition)
    assert fingerprint(table.sample(frac=1, random_state=1)) == fingerprint(table)


@pytest.mark.parametrize("change", [longer, older, fewer, converted])
def test_the_fingerprint_changes_with_the_photos(competition: Path, copy: Path, change: Callable[[Path], None]) -> None:
    (copy / "train" / "train.csv").unlink()
    change(copy)
    assert fingerprint(read_index(copy)) != fingerprint(read_index(competition))


@pytest.mark.parametrize("task", ["mask", "gender", "age"])
def test_the_fingerprint_changes_with_a_label(competition: Path, task: str) -> None:
    table = read_index(competition)
    corrected: pd.DataFrame = table.copy()
    corrected.loc[5, task] = (corrected.loc[5, task] + 1) % 2
    assert fingerprint(corrected) != fingerprint(table)


BEFORE = pd.DataFrame(
    {"photo": ["a/1.jpg", "a/2.jpg", "b/1.jpg"], "bytes": [10, 20, 30], "person_id": ["001", "001", "2"]}
)


@pytest.mark.parametrize(
    ("now", "want"),
    [
        (BEFORE, ""),
        (BEFORE[::-1].assign(side="train"), ""),
        (BEFORE[1:], "1 is missing (a/1.jpg)"),
        (BEFORE[:0], "3 are missing (a/1.jpg, a/2.jpg, b/1.jpg)"),
        (pd.concat([BEFORE, BEFORE.assign(photo=["c/1", "c/2", "c/3"])]), "3 are new (c/1, c/2, c/3)"),
        (BEFORE.assign(bytes=[10, 21, 30]), "1 is another file (a/2.jpg)"),
        (BEFORE.assign(person_id=["001", "1", "2"]), "1 is labelled otherwise in person_id (a/2.jpg)"),
        (BEFORE[1:].assign(bytes=[20, 31]), "1 is missing (a/1.jpg), 1 is another file (b/1.jpg)"),
        (BEFORE.assign(photo=["d/1", "d/2", "d/3"])[:1], "3 are missing (a/1.jpg, a/2.jpg, b/1.jpg), 1 is new (d/1)"),
    ],
)
def test_changes_are_described(now: pd.DataFrame, want: str) -> None:
    assert describe_changes(BEFORE, now) == want


def test_at_most_three_photos_are_named() -> None:
    many = pd.DataFrame({"photo": [f"e/{i}" for i in range(5)], "bytes": 1, "person_id": "1"})
    assert describe_changes(many, BEFORE[:0]) == "5 are missing (e/0, e/1, e/2, ...)"


def test_a_table_read_from_a_file_has_no_changes(competition: Path, tmp_path: Path) -> None:
    table = identify_photos(read_index(competition))
    table.to_csv(tmp_path / "split.csv", index=False)
    read = pd.read_csv(tmp_path / "split.csv", dtype=str, keep_default_na=False)
    assert describe_changes(read, table) == ""
