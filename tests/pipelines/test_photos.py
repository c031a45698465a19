"""Photos that cannot be decoded: all are named before anything is trained, or a few are replaced."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mask_lightning.data import duplicates
from mask_lightning.data.images import open_photo
from mask_lightning.errors import PhotoError
from mask_lightning.pipelines import train as runs
from mask_lightning.pipelines.labelled import photos_of_run
from mask_lightning.pipelines.photos import Photos, find_photos, replace_rows
from mask_lightning.pipelines.prepare import prepare_run
from mask_lightning.runs.folder import RunFolder
from mask_lightning.runs.photos import short_name
from mask_lightning.settings.train import TrainSettings

CACHES = ["data.cache=on", "data.cache=off"]


@pytest.fixture
def root(competition: Path, tmp_path: Path) -> Path:
    """A copy to break: 168 photos."""
    return Path(shutil.copytree(competition, tmp_path / "faces"))


@pytest.fixture
def settle(compose_train, root: Path) -> Callable[..., tuple[TrainSettings, Photos]]:
    def make(*overrides: str) -> tuple[TrainSettings, Photos]:
        settings = compose_train(f"data.root={root}", *overrides)
        return settings, find_photos(settings)

    return make


def spoil(paths: list[str]) -> list[str]:
    """Break each in another way; no name or size tells it."""
    for i, path in enumerate(paths):
        content = Path(path).read_bytes()
        Path(path).write_bytes((content[: len(content) // 2] if i % 2 else b"no photo").ljust(len(content), b"\0"))
    return paths


@pytest.mark.parametrize("cache", CACHES)
def test_all_are_named_before_anything_is_trained(settle, tmp_path: Path, cache: str) -> None:
    settings, photos = settle(cache)
    broken = spoil([photos.labels["path"][3], photos.split.val["path"][5]])
    with pytest.raises(PhotoError) as caught:
        runs.train_run(settings, tmp_path / "run")
    for part in ("2 of 168 photos cannot be decoded", *broken):
        assert part in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("cache", CACHES)
def test_photos_are_decoded_once_for_thumbnails(settle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache) -> None:
    options = (cache, f"data.cache_dir={tmp_path / 'cache'}")
    _, found = settle(*options)
    monkeypatch.setattr(duplicates, "_sketch", pytest.fail)
    assert settle(*options)[1].split.val["path"].tolist() == found.split.val["path"].tolist()


def test_of_many_the_log_has_all(settle, caplog: pytest.LogCaptureFixture) -> None:
    settings, photos = settle()
    broken = spoil(photos.labels["path"].tolist()[:12])
    with pytest.raises(PhotoError, match=r"12 of 168 photos cannot be decoded: .* and 7 more, listed above"):
        prepare_run(settings, photos)
    assert all(path in caplog.text for path in broken)


def test_whole_photos_are_left_as_they_are(settle) -> None:
    settings, photos = settle("data.on_bad_photo=skip")
    assert prepare_run(settings, photos).photos is photos


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("side", ["train", "val"])
def test_one_is_skipped_and_counted(settle, caplog: pytest.LogCaptureFixture, side: str, cache: str) -> None:
    settings, photos = settle(cache, "data.on_bad_photo=skip")
    (broken,) = spoil([(photos.labels if side == "train" else photos.split.val)["path"][5]])
    usable = prepare_run(settings, photos).photos
    assert f"skipped: cannot decode {broken}" in caplog.text
    assert "1 of 168 photos are skipped" in caplog.text
    assert usable.skipped == (short_name(broken),)
    kept = (usable.labels, usable.targets, usable.split.train, usable.split.val)
    assert not any(broken in rows["path"].tolist() for rows in kept)
    tasks = list(photos.space.names)
    pd.testing.assert_frame_equal(usable.labels[tasks], photos.labels[tasks])
    assert len(usable.split.val) == len(photos.split.val) - (side == "val")
    again = prepare_run(settings, photos).photos
    pd.testing.assert_frame_equal(usable.targets, again.targets)


def test_more_than_one_percent_are_not_skipped(settle) -> None:
    settings, photos = settle("data.on_bad_photo=skip")
    spoil(photos.labels["path"].tolist()[:2])
    with pytest.raises(PhotoError, match="2 of 168 photos cannot be decoded, more than the 1% that"):
        prepare_run(settings, photos)


def test_the_only_photo_of_its_kind_is_left_out() -> None:
    rows = pd.DataFrame({"path": list("abcd"), "mask": [0, 0, 1, 0], "age": [0, 0, 2, 1]})
    kept = replace_rows(rows, {"c", "a"}, ["mask", "age"], seed=0)
    assert kept["path"].tolist() == ["b", "b", "d"]
    assert replace_rows(rows, {"b"}, ["mask"], seed=0)["path"].isin(["a", "d", "c"]).all()


def test_a_run_trains_on_and_its_evaluation_knows(settle, root: Path, tmp_path: Path) -> None:
    settings, photos = settle("data.on_bad_photo=skip", "trainer.max_batches=2")
    (broken,) = spoil([photos.split.val["path"][5]])
    result = runs.train_run(settings, tmp_path / "run")
    assert result.status == "finished"
    assert result.data["skipped"] == [short_name(broken)]
    assert result.data["val"]["photos"] == len(photos.split.val) - 1
    held_out = photos_of_run(RunFolder(tmp_path / "run")).split.val["path"]
    assert broken not in held_out.tolist()
    assert len(held_out) == len(photos.split.val) - 1
    for path in held_out:
        open_photo(path)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("harm", ["deleted", "truncated"])
def test_a_photo_that_breaks_only_later_is_named(settle, tmp_path: Path, monkeypatch, workers: int, harm: str) -> None:
    settings, photos = settle("data.cache=off", f"data.num_workers={workers}", "trainer.max_batches=null")
    path = Path(photos.labels["path"][3])
    record = runs.record_split  # type: ignore[attr-defined]

    def break_it(*arguments: object) -> None:
        """After the look at all photos, before the first batch."""
        record(*arguments)  # type: ignore[arg-type]
        if harm == "deleted":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:60])

    monkeypatch.setattr(runs, "record_split", break_it)
    with pytest.raises(PhotoError, match=f"^[^\n]*{path}[^\n]*$"):
        runs.train_run(settings, tmp_path / "run")
    result = RunFolder(tmp_path / "run").read_result()
    assert result.status == "failed"
    assert str(path) in str(result.error)
