"""Shards of a prediction: a function of the list of photos; which files belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mask_lightning.errors import ConfigError, PredictionsError
from mask_lightning.inference import prediction_file
from mask_lightning.inference.prediction_file import read_chunks, read_predictions, writing_predictions
from mask_lightning.inference.shards import Shard, find_shards, fingerprint
from mask_lightning.labels import FACE
from mask_lightning.metrics.predictions import Predictions, no_targets


def photos(count: int, prefix: str = "") -> pd.DataFrame:
    names = pd.Series([f"{prefix}{i:03d}.jpg" for i in range(count)], dtype="str")
    return pd.DataFrame({"photo": names, "path": "faces/" + names})


def predictions(table: pd.DataFrame) -> Predictions:
    rng = np.random.default_rng(0)
    probs = {task.name: rng.random((len(table), task.num_classes), np.float32) for task in FACE.tasks}
    return Predictions(FACE, table, probs, *no_targets(FACE, len(table)), ())


@pytest.mark.parametrize(("count", "batch_size", "shards"), [(10, 2, 3), (10, 3, 4), (1, 64, 1), (101, 7, 15)])
def test_shards_divide_the_photos_into_whole_batches(count: int, batch_size: int, shards: int) -> None:
    rows = [Shard(i + 1, shards).rows(count, batch_size) for i in range(shards)]
    assert [row for each in rows for row in range(count)[each]] == list(range(count))
    assert all(each.start % batch_size == 0 for each in rows)
    batches = [-(-len(range(count)[each]) // batch_size) for each in rows]
    assert max(batches) - min(batches) <= 1


def test_more_shards_than_batches_are_refused() -> None:
    with pytest.raises(ConfigError, match="found 4 shards for 10 photos in 3 batches; set fewer shards"):
        Shard(1, 4).rows(10, 4)


def test_the_fingerprint_depends_on_names_paths_and_order() -> None:
    table = photos(3)
    others = [table.iloc[::-1], table.assign(path="x"), photos(2), photos(3, "x")]
    assert fingerprint(table) == fingerprint(photos(3))
    assert len({fingerprint(table), *map(fingerprint, others)}) == 5


def write_shards(folder: Path, table: pd.DataFrame, count: int = 3) -> None:
    whole = predictions(table)
    for i in range(1, count + 1):
        shard = Shard(i, count)
        rows = np.arange(len(table))[shard.rows(len(table), 4)]
        with writing_predictions(folder / shard.file_name, shard.metadata(table, 4)) as write:
            write(whole.select(rows))


def test_the_shards_in_order_hold_all_predictions(tmp_path: Path) -> None:
    write_shards(tmp_path, photos(50), count=11)
    found = [name for path in find_shards(tmp_path) for part in read_chunks(path) for name in part.photos["photo"]]
    assert found == photos(50)["photo"].tolist()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: [path.unlink() for path in folder.iterdir()], "found none; name the folder"),
        (lambda folder: (folder / "shard-2-of-3.parquet").unlink(), r"found 2 \(missing: 2\); repeat the command"),
        (lambda folder: write_shards(folder, photos(50), 2), "found shards of 2 predictions"),
        (lambda folder: (folder / "shard-2-of-3.parquet").write_bytes(b"PAR1"), "is not a whole file of predictions"),
        (
            lambda folder: prediction_file.write_predictions(folder / "shard-2-of-3.parquet", predictions(photos(9))),
            "found another file at",
        ),
    ],
)
def test_shards_that_do_not_fit_are_refused(damage, message: str, tmp_path: Path) -> None:
    write_shards(tmp_path, photos(50))
    damage(tmp_path)
    with pytest.raises(PredictionsError, match=message):
        find_shards(tmp_path)


def test_shards_of_other_photos_are_refused(tmp_path: Path) -> None:
    write_shards(tmp_path, photos(50))
    kept = (tmp_path / "shard-2-of-3.parquet").read_bytes()
    write_shards(tmp_path, photos(50, "x"))
    (tmp_path / "shard-2-of-3.parquet").write_bytes(kept)
    with pytest.raises(PredictionsError, match=r"found others in .*shard-2-of-3.parquet; remove it"):
        find_shards(tmp_path)


@pytest.mark.parametrize("parts", [[50], [1] * 50, [7, 30, 13]])
def test_a_file_does_not_depend_on_the_parts_it_was_written_in(
    parts: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_file, "ROW_GROUP", 8)
    whole = predictions(photos(50))
    prediction_file.write_predictions(tmp_path / "whole.parquet", whole)
    with writing_predictions(tmp_path / "parts.parquet") as write:
        for start, size in zip(np.cumsum([0, *parts[:-1]]), parts, strict=True):
            write(whole.select(np.arange(start, start + size)))
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert [len(part) for part in read_chunks(tmp_path / "parts.parquet")] == [8] * 6 + [2]
    assert read_predictions(tmp_path / "parts.parquet").photos.equals(whole.photos)


def test_an_error_leaves_no_file(tmp_path: Path) -> None:
    def fail() -> None:
        with writing_predictions(tmp_path / "x.parquet") as write:
            write(predictions(photos(3)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []
