"""Which labelled photos a trained network is asked about, from real, tiny runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_runs import ONE_EPOCH, TINY_RUN, settings_for

from mask_lightning.cli.compose import compose
from mask_lightning.data.sources import LabelledPhotos, read_photos
from mask_lightning.errors import CheckpointError, LabelError, MaskLightningError, RunFolderError
from mask_lightning.inference.trained import choose_device, load_trained
from mask_lightning.labels import FACE, UNLABELLED, LabelSpace, Task
from mask_lightning.pipelines import train as runs
from mask_lightning.pipelines.labelled import (
    LabelledPredictions,
    _count_leaked,
    _count_seen,
    check_labels,
    predict_labelled,
)
from mask_lightning.pipelines.photos import find_photos, record_extra
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.runs.photos import identify_photos
from mask_lightning.settings.base import check
from mask_lightning.settings.data import DataSettings
from mask_lightning.settings.inference import InferenceSettings
from mask_lightning.settings.train import TrainSettings

TINY = (*TINY_RUN, *ONE_EPOCH, "trainer.max_batches=1")
RUNS = {
    "all": ("trainer.max_batches=null", "loss=cross_entropy"),
    "age": ("task=age", "data.split_seed=5"),
    "nobody": ("data.val_fraction=0",),
}

Ask = Callable[..., LabelledPredictions]


@pytest.fixture(scope="module")
def trained(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three runs: all tasks, age alone on another split, and one that held nobody out."""
    folder = tmp_path_factory.mktemp("labelled")
    for name, overrides in RUNS.items():
        settings = settings_for(
            "train", TrainSettings, *TINY, *overrides, f"data.root={competition}", f"outputs={folder}"
        )
        runs.train_run(settings, folder / name)
    return folder


def photos(**changes: Any) -> DataSettings:
    composed = compose("train", TrainSettings, [*TINY, "data=competition", "data.root=x"])
    return check(DataSettings, {**composed["data"], **changes})


OPTIONS = InferenceSettings(num_workers=0, accelerator="cpu", progress=False)


def ask(ckpt: Path, **options: Any) -> LabelledPredictions:
    return predict_labelled([ckpt], OPTIONS, **options)[0]


@pytest.mark.parametrize("named", ["all", "all/checkpoints/best.ckpt"])
def test_the_people_whom_the_run_held_out(trained: Path, named: str) -> None:
    said = ask(trained / named)
    folder = RunFolder(trained / "all")
    settings = check(TrainSettings, folder.read_config())
    held_out = find_photos(settings).split.val
    assert said.predictions.photos["photo"].tolist() == held_out["path"].tolist()
    assert (said.folder, said.held_out, said.seen, said.root) == (folder, True, 0, settings.data.root)
    for task in FACE.names:
        assert said.predictions.targets[task].tolist() == held_out[task].tolist()
    assert {"person_id", "race", "years"} <= set(said.predictions.photos)


def test_losses_are_those_that_the_training_recorded(trained: Path) -> None:
    losses, best = ask(trained / "all").predictions.losses, RunFolder(trained / "all").read_result().best
    for task in FACE.names:
        assert losses[task].mean() == pytest.approx(best[f"val/{task}/loss"], rel=1e-4)


def test_labels_of_other_tasks_stand_as_names(trained: Path) -> None:
    predictions = ask(trained / "age").predictions
    assert predictions.space.names == ("age",)
    assert set(predictions.photos["gender"]) <= {"male", "female"}
    assert set(predictions.photos["mask"]) == {"wear", "incorrect", "normal"}


def test_photos_that_it_was_trained_on_are_counted(trained: Path, competition: Path, tmp_path: Path) -> None:
    shutil.copytree(competition, tmp_path / "copy")
    said = ask(trained / "all", data=photos(root=tmp_path / "copy"))
    trained_on = RunFolder(trained / "all").read_result().data["train"]["photos"]
    assert (said.held_out, said.seen, len(said.predictions)) == (False, trained_on, 24 * 7)


@pytest.mark.parametrize(
    ("roles", "skipped", "extra", "want"),
    [
        (["train", "train", "train", "val"], [], 0, 3),
        (["train", "left out", "train", "val"], [], 0, 2),  # a member of an ensemble, or labels.age.leave_out
        (["train", "left out", "train", "val"], ["p0/a.jpg"], 0, 1),  # could not be decoded
        (["left out", "left out", "left out", "val"], [], 0, 0),
        (["train", "train", "train", "val"], [], 1, 4),  # the last one was in data.extra
    ],
)
def test_only_rows_that_trained_count_as_seen(
    tmp_path: Path, roles: list[str], skipped: list[str], extra: int, want: int
) -> None:
    paths = [tmp_path / f"p{i}" / "a.jpg" for i in range(5)]  # the last one is not in split.csv
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(b"photo")
    folder = RunFolder(tmp_path / "run")
    folder.claim({}, RunResult("finished", "val/f1", data={"skipped": skipped}))
    rows = pd.DataFrame({"path": [str(path) for path in paths], "age": 0})
    identify_photos(rows.head(4)).assign(role=roles).to_csv(folder.split, index=False)
    record_extra(folder, rows[["path"]].tail(extra))
    assert _count_seen(rows, folder) == want
    folder.split.unlink()
    assert _count_seen(rows, folder) is None


def test_a_checkpoint_elsewhere_is_asked_about_named_photos(trained: Path, competition: Path, tmp_path: Path) -> None:
    alone = shutil.copy(trained / "all" / "checkpoints" / "best.ckpt", tmp_path / "alone.ckpt")
    said = ask(alone, data=photos(root=competition))
    assert (said.folder, said.seen) == (None, None)
    with pytest.raises(RunFolderError, match=r"alone\.ckpt in the folder of its run, .* data\.root=PHOTOS"):
        ask(alone)


def test_two_networks_are_asked_about_the_same_photos(trained: Path) -> None:
    first, second = predict_labelled([trained / "all", trained / "age"], OPTIONS)
    assert first.predictions.photos["photo"].equals(second.predictions.photos["photo"])
    assert first.seen == 0
    assert second.seen  # it has another split


def test_a_table_is_read_with_the_networks_classes(trained: Path, competition: Path, tmp_path: Path) -> None:
    rows = read_photos("competition", competition).table.iloc[::7][:4]
    table = rows[["path", "person_id"]].assign(age=["<30", ">=60", "", "30-59"])
    table.to_csv(tmp_path / "faces.csv", index=False)
    named = photos(name="table", table=tmp_path / "faces.csv", root=competition)
    said = ask(trained / "all", data=named).predictions
    assert said.targets["age"].tolist() == [0, 2, UNLABELLED, 1]
    assert (said.targets["mask"] == UNLABELLED).all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"age": ["old"] * 2}, r"line 2: .*old"),
        ({"beard": ["yes", "no"]}, "expected a column mask or gender or age in .*, found path, person_id, beard"),
        ({"age": ["", ""]}, "expected photos labelled with mask or gender or age"),
    ],
)
def test_photos_without_the_networks_labels(
    trained: Path, tmp_path: Path, columns: dict[str, list[str]], message: str
) -> None:
    for i in range(2):
        Image.fromarray(np.full((64, 64, 3), 90 * i, np.uint8)).save(tmp_path / f"{i}.png")
    table = pd.DataFrame({"path": ["0.png", "1.png"], "person_id": ["a", "b"], **columns})
    table.to_csv(tmp_path / "faces.csv", index=False)
    with pytest.raises(MaskLightningError, match=message):
        ask(trained / "all", data=photos(name="table", table=tmp_path / "faces.csv", root=None))


def test_a_network_of_another_label_space(trained: Path, tmp_path: Path) -> None:
    network = load_trained(trained / "age", choose_device("cpu"))
    rows = pd.DataFrame({"path": ["a"], "age": [0]})
    for space, message in (
        (
            LabelSpace((Task("age", ("young", "old")),)),
            "age as <30, 30-59, >=60, the photos .* labelled young, old",
        ),
        (LabelSpace((Task("beard", ("no", "yes")),)), "labelled with age in .*, found labels of beard"),
    ):
        with pytest.raises(LabelError, match=message):
            check_labels(LabelledPhotos(rows, space, (), tmp_path), [network])


def test_a_run_that_held_nobody_out(trained: Path) -> None:
    with pytest.raises(RunFolderError, match=r"nobody held nobody out .*: data\.root=PHOTOS"):
        ask(trained / "nobody")


def test_photos_that_vanished_since_training(trained: Path, competition: Path, tmp_path: Path) -> None:
    root = shutil.copytree(competition, tmp_path / "data")
    run = RunFolder(shutil.copytree(trained / "all", tmp_path / "run"))
    run.config.write_text(run.config.read_text().replace(str(competition), str(root)))
    assert ask(run.path).root == root
    (root / "train" / "images" / "000001_female_Asian_18" / "mask1.jpg").unlink()
    missing = r"was trained on, found others: 1 is missing \(000001_female_Asian_18/mask1.jpg\); restore them"
    with pytest.raises(RunFolderError, match=missing):
        ask(run.path)
    run.split.unlink()  # as of a run before it was recorded
    with pytest.raises(RunFolderError, match="was trained on, found others; restore them"):
        ask(run.path)


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"run's folder or a \.ckpt at .*nowhere, found nothing"):
        ask(tmp_path / "nowhere")


ROLES_OF = {  # run -> role of the photos 0 to 7
    "a": ["train"] * 3 + ["val"] * 5,
    "b": ["val"] * 2 + ["train"] * 3 + ["val"] * 3,
    "c": ["val"] * 5 + ["train", "left out", "val"],
}


@pytest.mark.parametrize(
    ("records", "seen"),
    [
        ({"a": {}}, 3),
        ({"a": {"data": {"skipped": ["p/0.jpg"]}}}, 2),
        ({"a": {"pretrained": {"weights": "ImageNet"}}}, 3),
        ({"a": {"pretrained": {"run": "b"}}, "b": {}}, 5),
        ({"a": {"data": {"soft_targets": {"networks": ["b"]}}}, "b": {"pretrained": {"run": "c"}}, "c": {}}, 6),
        ({"a": {"pretrained": {"run": "deleted"}}}, None),
    ],
)
def test_photos_of_earlier_runs_count_as_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: dict[str, Any], seen: int | None
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = pd.DataFrame({"path": [f"p/{i}.jpg" for i in range(8)], "bytes": range(8)})
    for name, record in records.items():
        RunFolder(Path(name)).claim({}, RunResult("finished", "val/f1", **record))
        identify_photos(rows).assign(role=ROLES_OF[name]).to_csv(Path(name) / "split.csv", index=False)
    assert _count_seen(rows, RunFolder(Path("a"))) == seen


@pytest.mark.parametrize(
    ("record", "leaked"),
    [
        ({}, 0),
        ({"pretrained": {"leaked_photos": 2}}, 2),
        ({"pretrained": {"leaked_photos": 1}, "data": {"soft_targets": {"leaked_photos": 4}}}, 4),
    ],
)
def test_held_out_photos_that_earlier_networks_know_are_counted(
    tmp_path: Path, record: dict[str, Any], leaked: int
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.claim({}, RunResult("finished", "val/f1", **record))
    assert _count_leaked(folder) == leaked
