"""Predictions on disk: complete after a round trip, and protected against misreading."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mask_lightning.errors import PredictionsError
from mask_lightning.inference.prediction_file import (
    FORMAT,
    FORMAT_DECIDED,
    read_predictions,
    write_csv,
    write_predictions,
)
from mask_lightning.inference.submission import submission_of
from mask_lightning.labels import FACE, UNLABELLED, LabelSpace, Task

ODD = LabelSpace((Task("target", ("a/b", "loss", "ü 1")), Task("loss", ("no", "yes"))))


@pytest.mark.parametrize("space", [FACE, FACE.only(["age"]), ODD])
def test_round_trip(make_predictions, tmp_path: Path, space: LabelSpace) -> None:
    predictions = make_predictions(space=space)
    first = space.names[0]
    predictions.targets[first][:] = [1, UNLABELLED, 0]
    predictions.losses[first][:] = [0.5, np.nan, 1e-9]
    predictions = type(predictions)(
        predictions.space,
        predictions.photos.assign(person_id=["007", None, "1"], years=[20, 30, 40]),
        predictions.probs,
        predictions.targets,
        predictions.losses,
        predictions.sources,
    )
    write_predictions(tmp_path / "predictions.parquet", predictions)
    for path in (tmp_path, tmp_path / "predictions.parquet"):
        back = read_predictions(path, space)
        assert (back.space, back.sources) == (predictions.space, predictions.sources)
        pd.testing.assert_frame_equal(back.photos, predictions.photos)
        for task in space.names:
            np.testing.assert_array_equal(back.probs[task], predictions.probs[task], strict=True)
            np.testing.assert_array_equal(back.targets[task], predictions.targets[task], strict=True)
            np.testing.assert_array_equal(back.losses[task], predictions.losses[task], strict=True)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.parquet"]


def test_other_programs_can_read_it(make_predictions, tmp_path: Path) -> None:
    predictions = make_predictions()
    write_predictions(tmp_path / "p.parquet", predictions)
    table = pd.read_parquet(tmp_path / "p.parquet")
    assert table["probs/age/>=60"].tolist() == predictions.probs["age"][:, 2].tolist()
    assert table["target/mask"].isna().all()
    assert table["path"].tolist() == ["/photos/a.jpg", "/photos/b.jpg", "/photos/c.jpg"]
    about = json.loads(pq.read_schema(tmp_path / "p.parquet").metadata[b"mask_lightning"])
    assert about["format"] == FORMAT
    assert about["labels"] == FACE.to_plain()
    assert about["sources"][0]["transform"]["crop_height"] == 48


def test_decisions_are_kept_and_shown(make_predictions, tmp_path: Path) -> None:
    raw = make_predictions()
    decisions = {task.name: 1 - raw.preds[task.name].clip(max=1) for task in FACE.tasks}
    decided = replace(raw, decisions=decisions)
    write_predictions(tmp_path / "p.parquet", decided)
    about = json.loads(pq.read_schema(tmp_path / "p.parquet").metadata[b"mask_lightning"])
    assert about["format"] == FORMAT_DECIDED  # an older reader would take argmax for the answers
    back = read_predictions(tmp_path / "p.parquet")
    np.testing.assert_array_equal(back.codes, FACE.encode(decisions))
    np.testing.assert_array_equal(back.probs["age"], raw.probs["age"])
    pd.testing.assert_frame_equal(back.photos, raw.photos)
    write_csv(tmp_path / "p.csv", decided)
    table = pd.read_csv(tmp_path / "p.csv")
    assert table["gender"].tolist() == [FACE["gender"].classes[i] for i in decisions["gender"]]
    np.testing.assert_allclose(table["age_probability"], raw.probs["age"][range(3), decisions["age"]], atol=1e-4)
    np.testing.assert_array_equal(submission_of(back).codes, FACE.encode(decisions))


def test_a_table_for_people(make_predictions, tmp_path: Path) -> None:
    predictions = make_predictions(("a, b.jpg", "c.jpg"))
    write_csv(tmp_path / "p.csv", predictions)
    table = pd.read_csv(tmp_path / "p.csv")
    assert table["photo"].tolist() == ["a, b.jpg", "c.jpg"]
    best = predictions.probs["age"].argmax(1)
    assert table["age"].tolist() == [("<30", "30-59", ">=60")[i] for i in best]
    np.testing.assert_allclose(table["age_probability"], predictions.probs["age"].max(1), atol=5e-5)


def damage(path: Path, how: str) -> None:
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[b"mask_lightning"])
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif how == "text":
        path.write_text("photo,mask")
    elif how == "foreign":
        pq.write_table(pa.table({"photo": ["a"]}), path)
    elif how == "newer":
        pq.write_table(table.replace_schema_metadata({"mask_lightning": json.dumps({**about, "format": 99})}), path)
    elif how == "columns":
        pq.write_table(table.drop_columns(["probs/age/<30"]), path)
    elif how == "labels":
        pq.write_table(table.replace_schema_metadata({"mask_lightning": json.dumps({"format": FORMAT})}), path)
    elif how == "missing":
        path.unlink()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "is not a whole file of predictions"),
        ("text", "is not a whole file of predictions"),
        ("foreign", "is not a whole file of predictions"),
        ("newer", f"expected predictions of format {FORMAT} or {FORMAT_DECIDED}, found 99"),
        ("columns", "is not a whole file of predictions"),
        ("labels", "is not a whole file of predictions"),
        ("missing", "expected predictions at .*, found none"),
    ],
)
def test_damaged_and_foreign_files(make_predictions, tmp_path: Path, how: str, message: str) -> None:
    path = tmp_path / "p.parquet"
    write_predictions(path, make_predictions())
    damage(path, how)
    with pytest.raises(PredictionsError, match=message):
        read_predictions(path)


def test_another_label_space_is_refused(make_predictions, tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.parquet", make_predictions(space=FACE.only(["age"])))
    with pytest.raises(PredictionsError, match=r"expected predictions of mask \(.*found age \(<30, 30-59, >=60\)"):
        read_predictions(tmp_path / "p.parquet", FACE)
