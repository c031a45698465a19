"""Tables of soft targets: complete after a round trip, checked when they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mask_lightning.data.soft_targets import (
    SoftTargets,
    extra_rows,
    join_soft_targets,
    no_soft_targets,
    read_extra,
    write_extra,
)
from mask_lightning.errors import LabelError, MaskLightningError, PhotoError, SampleTableError
from mask_lightning.labels import FACE, UNLABELLED, LabelSpace, Task
from mask_lightning.metrics.predictions import Source

GENDER = FACE.only(["gender"])


@pytest.fixture
def photos(tmp_path: Path) -> pd.DataFrame:
    for name in "abc":
        (tmp_path / f"{name}.jpg").touch()
    paths = [str(tmp_path / f"{name}.jpg") for name in "abc"]
    return pd.DataFrame({"photo": list("abc"), "path": paths, "person_id": ["1", "02", "3"]})


def soft(space: LabelSpace = FACE, seed: int = 0) -> SoftTargets:
    rng = np.random.default_rng(seed)
    probs = {task.name: rng.dirichlet(np.ones(task.num_classes), 3).astype(np.float32) for task in space.tasks}
    return SoftTargets(probs, {task: np.array([0.5, 0, 2], np.float32) for task in space.names})


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_round_trip(photos: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    source = Source("runs/a/checkpoints/best.ckpt", "0", "resnet", FACE.names, {})
    table = write_extra(tmp_path / "p.parquet", photos, FACE, soft(), [source])
    table.to_csv(tmp_path / "p.csv", index=False)
    found = read_extra(tmp_path / f"p.{suffix}", FACE)
    assert found.rows["path"].tolist() == photos["path"].tolist()
    assert found.rows["person_id"].tolist() == ["1", "02", "3"]
    assert found.checkpoints == (("runs/a/checkpoints/best.ckpt",) if suffix == "parquet" else None)
    assert found.soft is not None
    for task in FACE.names:
        np.testing.assert_allclose(found.soft.probs[task], soft().probs[task], rtol=1e-6)
        np.testing.assert_array_equal(found.soft.weights[task], [0.5, 0, 2])


def test_tables_of_users(photos: pd.DataFrame, tmp_path: Path) -> None:
    """Paths beside the table, one weight for all tasks or none, and tasks that the run does not learn."""
    lines = "path,probs/gender/male,probs/gender/female,probs/smile/no,weight\n"
    (tmp_path / "t.csv").write_text(f"{lines}a.jpg,0.2,0.8,x,3\nb.jpg,1,0,x,1\n")
    found = read_extra(tmp_path / "t.csv", FACE)
    assert found.soft is not None
    assert found.soft.weights["gender"].tolist() == [3, 1]
    assert found.soft.weights["age"].tolist() == [0, 0]
    assert found.rows["path"].tolist() == photos["path"][:2].tolist()
    (tmp_path / "t.csv").write_text("path\na.jpg\n")  # for teachers
    assert read_extra(tmp_path / "t.csv", FACE).soft is None


ROWS = "a.jpg,0.2,0.8\n"
HEAD = "path,probs/gender/male,probs/gender/female\n"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, SampleTableError, "expected a table of further photos at .*, found none; set data.extra"),
        ("photo\na.jpg\n", SampleTableError, "expected photos in a column `path` .*, found photo"),
        (HEAD, SampleTableError, "expected photos in a column `path` .*, found no line"),
        (HEAD + ROWS + ROWS, SampleTableError, "names 1 photos more than once"),
        (HEAD + "x.jpg,0.2,0.8\n", PhotoError, "names 1 of 1 photos that do not exist"),
        (HEAD + "a.jpg,0.2,0.7\n", SampleTableError, "expected probabilities of gender that sum to 1"),
        (HEAD + "a.jpg,-0.2,1.2\n", SampleTableError, "expected probabilities of gender that sum to 1"),
        (HEAD + "a.jpg,0.2,many\n", SampleTableError, "expected numbers in probs/gender/male"),
        (HEAD + "a.jpg,0.2,\n", SampleTableError, "expected numbers in probs/gender/male"),
        ("path,probs/gender/man,probs/gender/woman\n" + ROWS, LabelError, "as male, female, .* has man, woman"),
        ("path,probs/gender/male\na.jpg,1\n", LabelError, "as male, female, .* has male"),
        ("path,probs/smile/no,probs/smile/yes\n" + ROWS, LabelError, "expected probabilities with a weight for gender"),
    ],
)
def test_what_is_refused(
    photos: pd.DataFrame, tmp_path: Path, text: str | None, error: type[MaskLightningError], message: str
) -> None:
    if text is not None:
        (tmp_path / "t.csv").write_text(text)
    with pytest.raises(error, match=message):
        read_extra(tmp_path / "t.csv", GENDER)


def test_a_damaged_parquet_file_is_refused(photos: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    write_extra(path, photos, FACE, soft(), [])
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(SampleTableError, match=r"cannot read .*; write it again with pseudo_label"):
        read_extra(path, FACE)


def test_rows_are_unlabelled_and_of_nobody(photos: pd.DataFrame) -> None:
    space = LabelSpace((*FACE.tasks, Task("smile", ("no", "yes"))))
    rows = extra_rows(photos, space)
    assert (rows[list(space.names)] == UNLABELLED).all(axis=None)
    assert rows["family"].is_unique
    assert not set(rows["family"]) & set(photos["person_id"])


def test_parts_are_scaled_selected_and_joined() -> None:
    joined = join_soft_targets([no_soft_targets(FACE, 2), soft().scaled(2)])
    assert joined.weights["age"].tolist() == [0, 0, 1, 0, 4]
    np.testing.assert_array_equal(joined.select(np.array([4, 2])).probs["age"], soft().probs["age"][[2, 0]])
