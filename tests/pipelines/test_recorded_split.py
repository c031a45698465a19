"""Sides of a run are recorded in split.csv: what reads a run later takes them from there and splits nothing again."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_runs import interrupt

from mask_lightning.data import splits
from mask_lightning.data.index import read_index
from mask_lightning.errors import RunFolderError
from mask_lightning.inference.predict import predict_many
from mask_lightning.pipelines import labelled
from mask_lightning.pipelines.audit import audit_run
from mask_lightning.pipelines.labelled import photos_of_run, predict_labelled
from mask_lightning.pipelines.photos import Photos, find_photos, record_split, restore_photos
from mask_lightning.pipelines.train import resume_run, train_run
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.runs.photos import fingerprint
from mask_lightning.settings.evaluation import AuditSettings
from mask_lightning.settings.inference import InferenceSettings
from mask_lightning.settings.train import TrainSettings

OPTIONS = InferenceSettings(num_workers=0, accelerator="cpu", progress=False)
Settings = Callable[..., TrainSettings]


@pytest.fixture
def root(competition: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(competition, tmp_path / "faces"))


@pytest.fixture
def settle(compose_train: Settings, root: Path) -> Settings:
    return lambda *overrides: compose_train(f"data.root={root}", *overrides)


def record(settings: TrainSettings, found: Photos, path: Path) -> RunFolder:
    """Write the records of a run that is not trained."""
    folder = RunFolder(path)
    marked = RunResult("interrupted", settings.monitor, data={"fingerprint": fingerprint(found.everyone)})
    folder.claim(settings.model_dump(mode="json"), marked)
    record_split(folder, found)
    return folder


def split_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split as another version might: in the reverse order of the hash."""
    ordered = splits._hash_order
    monkeypatch.setattr(splits, "_hash_order", lambda *arguments: ordered(*arguments)[::-1])


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("data.folds=3", "data.fold=2"),
        ("data.limit_people=8",),
        ("labels.age.leave_out=[[27,29]]",),
        ("labels.age.train_cuts=[30,58]",),
        ("member=age4",),
        ("member=mask3",),
        ("member=gender1",),
        ("member=balanced0", "task=gender"),
        ("data.val_fraction=0",),
    ],
)
def test_sides_and_training_rows_are_restored(
    settle: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    settings = settle(*overrides)
    found = find_photos(settings)
    folder = record(settings, found, tmp_path / "run")
    split_otherwise(monkeypatch)
    if settings.data.val_fraction:
        assert set(find_photos(settings).split.val["path"]) != set(found.split.val["path"])
    restored = restore_photos(settings, folder)
    for name in ("labels", "targets"):
        pd.testing.assert_frame_equal(getattr(restored, name), getattr(found, name))
    for side in ("train", "val"):
        pd.testing.assert_frame_equal(
            getattr(restored.split, side), getattr(found.split, side), check_dtype=bool(len(found.split.val))
        )
    assert (restored.space, restored.fold, restored.root) == (found.space, found.fold, found.root)


def test_a_run_is_resumed_and_evaluated_on_its_sides(
    settle: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settle("finetune.epochs=2", "trainer.max_batches=2", "checkpoint.keep=both")
    found = find_photos(settings)
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            train_run(settings, tmp_path / "run")
    split_otherwise(monkeypatch)
    used: list[str] = []
    prepare = predict_many
    monkeypatch.setattr(
        labelled,
        "predict_many",
        lambda networks, rows, **kw: used.extend(rows["path"]) or prepare(networks, rows, **kw),
    )
    result = resume_run(tmp_path / "run")
    assert result.status == "finished"
    predicted = predict_labelled([tmp_path / "run"], OPTIONS)[0]
    assert used == found.split.val["path"].tolist()
    assert predicted.predictions.losses["age"].mean() == pytest.approx(result.best["val/age/loss"], rel=1e-4)


Change = Callable[[Path], object]
PERSON = "train/images/000001_female_Asian_18"


def relabel(root: Path) -> None:
    (root / PERSON).rename(root / "train/images/000001_female_Asian_19")
    (root / "train/train.csv").unlink()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda root: (root / PERSON / "mask1.jpg").unlink(), r"1 is missing \(000001_female_Asian_18/mask1.jpg\)"),
        (lambda root: shutil.copytree(root / PERSON, root / "train/images/9_male_Asian_20"), "7 are new .9_male"),
        (lambda root: (root / PERSON / "mask1.jpg").write_bytes(b"x"), "1 is another file"),
        (relabel, "7 are missing .*7 are new"),
    ],
)
def test_changed_photos_are_named(settle: Settings, root: Path, tmp_path: Path, change: Change, found: str) -> None:
    settings = settle()
    folder = record(settings, find_photos(settings), tmp_path / "run")
    assert photos_of_run(folder)
    change(root)
    with pytest.raises(
        RunFolderError, match=f"was trained on, found others: {found}.*; restore them, or name labelled"
    ):
        photos_of_run(folder)


def test_a_changed_correction_is_named(settle: Settings, tmp_path: Path) -> None:
    corrections = tmp_path / "corrections.csv"
    corrections.write_text("person_id,field,value\n000001,gender,male\n")
    settings = settle(f"data.corrections={corrections}")
    found = find_photos(settings)
    folder = record(settings, found, tmp_path / "run")
    pd.testing.assert_frame_equal(photos_of_run(folder).split.val, found.split.val)
    corrections.write_text("person_id,field,value\n000002,gender,male\n")
    with pytest.raises(RunFolderError, match="14 are labelled otherwise"):
        photos_of_run(folder)


def test_new_photos_are_like_those_that_a_limit_left_out(settle: Settings, root: Path, tmp_path: Path) -> None:
    settings = settle("data.limit_people=8")
    found = find_photos(settings)
    folder = record(settings, found, tmp_path / "run")
    shutil.copytree(root / PERSON, root / "train/images/9_male_Asian_20")
    pd.testing.assert_frame_equal(photos_of_run(folder).split.train, found.split.train)


def test_without_split_csv_nobody_knows_who_was_held_out(settle: Settings, tmp_path: Path) -> None:
    settings = settle()
    folder = record(settings, find_photos(settings), tmp_path / "run")
    folder.split.unlink()
    with pytest.raises(RunFolderError, match=r"expected .*split\.csv, which records who was held out, found none"):
        photos_of_run(folder)
    folder.split.write_text("photo,role\na,val\n")
    with pytest.raises(
        RunFolderError, match=r"expected photo, bytes and role .* in .*split.csv, found others; restore"
    ):
        photos_of_run(folder)


def test_families_are_those_of_the_record(settle: Settings, tmp_path: Path) -> None:
    """0.1.0 knew other families: who belongs together today may have been on both sides."""
    settings = settle()
    found = find_photos(settings)
    folder = record(settings, found, tmp_path / "run")
    recorded = pd.read_csv(folder.split, dtype=str, keep_default_na=False)
    recorded["family"] = recorded["person_id"]
    sibling = recorded["person_id"] == "000003-1"
    recorded.loc[sibling, "role"] = "val" if recorded.loc[sibling, "role"].iloc[0] == "train" else "train"
    recorded = recorded.sort_values("role", key=lambda role: role == "val", kind="stable")
    recorded.to_csv(folder.split, index=False)
    everyone = found.everyone.assign(family=found.everyone["person_id"])
    folder.update_result(data={"fingerprint": fingerprint(everyone)})
    restored = restore_photos(settings, folder)
    sides = [set(rows["person_id"]) & {"000003", "000003-1"} for rows in (restored.split.train, restored.split.val)]
    assert sorted(map(len, sides)) == [1, 1]


def test_photos_of_one_name_are_told_apart(settings: Settings, tmp_path: Path) -> None:
    """A table may name photos whose file and last folder are called alike."""
    rng, rows = np.random.default_rng(0), []
    for i in range(24):
        path = tmp_path / "faces" / f"day{i}" / "camera" / "1.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(path)
        rows.append({"path": path, "person_id": f"p{i}", "smile": ("no", "yes")[i % 2]})
    pd.DataFrame(rows).to_csv(tmp_path / "faces.csv", index=False)
    options = settings("data=table", f"data.table={tmp_path / 'faces.csv'}", f"data.root={tmp_path / 'faces'}")
    found = find_photos(options)
    restored = restore_photos(options, record(options, found, tmp_path / "run"))
    assert restored.split.val["person_id"].tolist() == found.split.val["person_id"].tolist()
    assert restored.split.val["path"].tolist() == found.split.val["path"].tolist()


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_people_who_share_a_photo_are_on_one_side(
    settle: Settings, root: Path, suffix: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Byte for byte, or saved again in another format: with each of several ids, so that chance does not hide it."""
    images = root / "train" / "images"
    (root / "train" / "train.csv").unlink()
    for i, folder in enumerate(sorted(images.glob("0*"))[:6]):
        gender, race, years = folder.name.split("_")[1:]
        copy = images / f"9{i}_{gender}_{race}_{years}"
        copy.mkdir()
        for photo in sorted(folder.glob("normal.*")):
            Image.open(photo).save(copy / f"normal{suffix}") if suffix == ".png" else shutil.copy(photo, copy)
    with caplog.at_level(logging.WARNING):
        split = find_photos(settle()).split
    assert "people share photos with others (" in caplog.text
    assert "22 families" in caplog.text or "28 families become 22" in caplog.text
    sides = {person: side for side in ("train", "val") for person in getattr(split, side)["person_id"]}
    table = read_index(root)
    ids = sorted(folder.name.split("_")[0] for folder in images.glob("0*"))[:6]
    assert [sides[f"9{i}"] for i in range(6)] == [sides[person] for person in ids]
    assert table["family"].nunique() == 28
    audit = audit_run(check_audit(root, tmp_path), tmp_path / "audit")
    (finding,) = [each for each in audit.findings if each.kind == "leakage"]
    assert "12 people share photos with others" in finding.text


def check_audit(root: Path, tmp_path: Path) -> AuditSettings:
    from tiny_runs import settings_for

    return settings_for("audit", AuditSettings, f"data.root={root}", f"outputs={tmp_path / 'outputs'}", "workers=0")
