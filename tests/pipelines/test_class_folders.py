"""data=folder in whole runs: a given split, its record, evaluation on other folders, audit, the hint of data=auto."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_runs import ONE_EPOCH, TINY_RUN, settings_for, without_figures

from mask_lightning import notebook
from mask_lightning.errors import DatasetNotFoundError, LabelError, RunFolderError
from mask_lightning.pipelines import train as runs
from mask_lightning.pipelines.audit import audit_run
from mask_lightning.pipelines.labelled import photos_of_run, predict_labelled
from mask_lightning.pipelines.photos import find_photos
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.base import check
from mask_lightning.settings.data import DataSettings
from mask_lightning.settings.evaluation import AuditSettings
from mask_lightning.settings.inference import InferenceSettings
from mask_lightning.settings.train import TrainSettings

OPTIONS = InferenceSettings(num_workers=0, accelerator="cpu", progress=False)


def write(folder: Path, count: int, *, seed: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        pixels = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((48, 64), Image.Resampling.BILINEAR).save(folder / f"{i}.png")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ with 8 photos per class, val/ with 3; one photo of train/ is in val/ again."""
    root = tmp_path_factory.mktemp("folders")
    for i, (side, count) in enumerate((("train", 8), ("val", 3))):
        for j, name in enumerate(("With Mask", "without_mask")):
            write(root / side / name, count, seed=2 * i + j)
    Image.open(root / "train" / "With Mask" / "7.png").save(root / "val" / "With Mask" / "again.bmp")
    return root


@pytest.fixture(scope="module")
def trained(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("run")
    settings = settings_for(
        "train",
        TrainSettings,
        *TINY_RUN,
        *ONE_EPOCH,
        "data=folder",
        f"data.root={faces}",
        f"outputs={folder}",
        "data.crop_height=null",
        "data.crop_width=null",
    )
    with without_figures():
        runs.train_run(settings, folder / "run")
    return RunFolder(folder / "run")


def named(root: Path) -> DataSettings:
    config = settings_for("train", TrainSettings, "data=folder", f"data.root={root}").data
    return check(DataSettings, config.model_dump())


def test_the_given_split_is_trained_on_and_recorded(trained: RunFolder) -> None:
    data = trained.read_result().data
    assert (data["train"]["photos"], data["val"]["photos"]) == (15, 7)  # without the photo that is in val/ again
    photos = photos_of_run(trained)
    assert {Path(path).parts[-3] for path in photos.split.val["path"]} == {"val"}
    assert photos.space.to_plain() == {"mask": ["wear", "normal"]}


def test_scores_of_two_classes_do_not_count_the_third(trained: RunFolder) -> None:
    (held_out,) = predict_labelled([trained.path], OPTIONS)
    assert held_out.predictions.probs["mask"].shape == (7, 2)
    assert (held_out.held_out, held_out.seen) == (True, 0)


def test_other_folders_are_mapped_by_class_names(trained: RunFolder, tmp_path: Path) -> None:
    write(tmp_path / "one" / "masked", 2, seed=9)
    (labelled,) = predict_labelled([trained.path], OPTIONS, data=named(tmp_path / "one"))
    assert labelled.predictions.targets["mask"].tolist() == [0, 0]
    write(tmp_path / "three" / "incorrect_mask", 1, seed=10)
    with pytest.raises(LabelError, match=r"one task .mask: wear, normal. in .*three, found incorrect_mask"):
        predict_labelled([trained.path], OPTIONS, data=named(tmp_path / "three"))


def test_a_moved_photo_is_noticed(trained: RunFolder, faces: Path) -> None:
    photo = faces / "val" / "With Mask" / "0.png"
    moved = photo.rename(photo.with_name("renamed.png"))
    try:
        with pytest.raises(RunFolderError, match=r"1 is missing .With Mask/0.png"):
            photos_of_run(trained)
    finally:
        moved.rename(photo)


def test_audit_and_notebook_read_the_folders(
    faces: Path, tmp_path: Path, compose_train: Callable[..., TrainSettings], caplog: pytest.LogCaptureFixture
) -> None:
    options = ("data=folder", f"data.root={faces}", f"outputs={tmp_path}")
    audit = audit_run(settings_for("audit", AuditSettings, *options, "workers=0"), tmp_path / "audit")
    assert not audit.stops_training
    assert "2 photos look like others" in caplog.text
    found = find_photos(compose_train(*options, "data.crop_height=null", "data.crop_width=null"))
    assert (len(found.split.train), len(found.split.val)) == (15, 7)
    data = notebook.load_data(faces, "data=folder", f"outputs={tmp_path}", "trainer.accelerator=cpu", model="lite0")
    assert data.photos.space.names == ("mask",)


def test_auto_names_the_option_for_class_folders(faces: Path, compose_train: Callable[..., TrainSettings]) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"found folders with photos; add data=folder if each is a class"):
        find_photos(compose_train(f"data.root={faces}"))
