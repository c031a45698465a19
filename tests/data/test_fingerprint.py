from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mask_lightning.data.fingerprint import fingerprint
from mask_lightning.data.index import read_index


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


def test_it_does_not_tell_where_the_photos_lie(competition: Path, copy: Path) -> None:
    name = fingerprint(read_index(competition))
    assert re.fullmatch("[0-9a-f]{16}", name)
    assert fingerprint(read_index(copy)) == name


def test_it_does_not_tell_how_the_photos_were_split(competition: Path) -> None:
    table = read_index(competition)
    assert fingerprint(table.sample(frac=1, random_state=1)) == fingerprint(table)


@pytest.mark.parametrize("change", [longer, older, fewer, converted])
def test_it_tells_when_the_photos_change(competition: Path, copy: Path, change: Callable[[Path], None]) -> None:
    (copy / "train" / "train.csv").unlink()
    change(copy)
    assert fingerprint(read_index(copy)) != fingerprint(read_index(competition))


@pytest.mark.parametrize("task", ["mask", "gender", "age"])
def test_it_tells_when_a_label_is_corrected(competition: Path, task: str) -> None:
    table = read_index(competition)
    corrected: pd.DataFrame = table.copy()
    corrected.loc[5, task] = (corrected.loc[5, task] + 1) % 2
    assert fingerprint(corrected) != fingerprint(table)
