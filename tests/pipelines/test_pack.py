"""Photos are packed, trained on, evaluated and predicted, in a folder and in S3."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image

pytest.importorskip("litdata", reason="needs the extra `packed`")
from s3_server import Proxy, serving, use
from tiny_runs import TINY_RUN, interrupt, settings_for, without_figures

from mask_lightning.data import s3
from mask_lightning.data.cache import cached_photos
from mask_lightning.data.packed import open_packed, read_manifest
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.errors import ConfigError, MaskLightningError, PackedError, PhotoError, Terminated
from mask_lightning.inference.prediction_file import read_predictions
from mask_lightning.pipelines import pack
from mask_lightning.pipelines.labelled import predict_labelled
from mask_lightning.pipelines.pack import pack_photos
from mask_lightning.pipelines.photos import find_photos
from mask_lightning.pipelines.predict import predict_photos
from mask_lightning.pipelines.prepare import prepare_run
from mask_lightning.pipelines.train import resume_run, train_run
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.evaluation import EvaluateSettings, ReportSettings
from mask_lightning.settings.inference import PredictSettings
from mask_lightning.settings.pack import PackSettings
from mask_lightning.settings.train import TrainSettings

CROP = ("data.crop_height=96", "data.crop_width=64")
PER_CHUNK = 16
TWO_EPOCHS = ("finetune=none", "finetune.epochs=2", "data.batch_size=16", "data.clean_train_photos=28")
Compose = Callable[..., TrainSettings]


def pack_settings(root: Path, out: Path | str, outputs: Path, *overrides: str) -> PackSettings:
    fixed = (f"data.root={root}", f"out={out}", f"outputs={outputs}", "image_size=32", "data.val_fraction=0.25")
    return settings_for("pack", PackSettings, *fixed, *CROP, "data.num_workers=0", "progress=false", *overrides)


@pytest.fixture(scope="module", autouse=True)
def small_chunks():
    """Several chunks of a few photos."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "photos_per_chunk", lambda *_: PER_CHUNK)
        yield


@pytest.fixture(scope="module")
def packed(competition: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The competition folder, packed."""
    folder = tmp_path_factory.mktemp("pack")
    pack_photos(pack_settings(competition, folder / "packed", folder))
    return folder / "packed"


@pytest.fixture
def compose(compose_train: Compose, packed: Path) -> Compose:
    """Settings of a tiny run on the packed photos."""
    return lambda *overrides: compose_train("data=packed", f"data.root={packed}", *overrides)


def test_the_photos_of_the_cache_and_the_split_are_packed(
    packed: Path, compose_train: Compose, competition: Path, tmp_path: Path
) -> None:
    files = find_photos(compose_train())
    spec = TransformSpec(crop_height=96, crop_width=64, size=32)
    cache = cached_photos(files.everyone["path"].tolist(), spec, root=competition, folder=tmp_path, progress=False)
    found = open_packed(packed, folder=tmp_path, cache_gb=1)
    table = found.sample_table()
    assert len(table) == 24 * 7
    for path in table["path"]:
        original = path.replace(str(packed), str(competition.resolve()))
        assert (found.find(path) == cache.find(original)).all()
        with Image.open(original) as photo:
            assert tuple(found.size_of(path))[:2] == photo.size
    held_out = set(table.loc[table["side"] == "val", "person_id"])
    assert held_out == set(files.split.val["person_id"])
    assert len(read_manifest(packed).chunks) == -(-168 // PER_CHUNK)


@pytest.fixture(scope="module")
def whole(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of two epochs on the packed photos."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "whole")
    fixed = (*TINY_RUN, *TWO_EPOCHS, f"outputs={folder.path.parent}", "data=packed", f"data.root={packed}")
    with without_figures():
        train_run(settings_for("train", TrainSettings, *fixed), folder.path)
    return folder


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_interrupted_in_an_epoch_ends_as_the_whole_one(
    compose: Compose, whole: RunFolder, tmp_path: Path, monkeypatch, workers: int
) -> None:
    """The first process has no loading workers, as the whole run; the second may have some."""
    settings, cut = compose(*TWO_EPOCHS), RunFolder(tmp_path / "cut")
    with monkeypatch.context() as patch:
        interrupt(patch, 10, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            train_run(settings, cut.path)
    other = compose(*TWO_EPOCHS, f"data.num_workers={workers}") if workers else None
    assert resume_run(cut.path, settings=other).status == "finished"
    pd.testing.assert_frame_equal(pd.read_csv(cut.metrics), pd.read_csv(whole.metrics), check_exact=True)
    weights = [torch.load(run.last, weights_only=True)["state_dict"] for run in (whole, cut)]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_two_processes_interrupted_in_an_epoch_end_as_one(compose: Compose, tmp_path: Path, monkeypatch) -> None:
    """Two processes (gloo) are interrupted; one process with two loading workers continues the run."""
    # LayerNorm, as a BatchNorm would see other batches; 14 steps in an epoch, and a signal is obeyed after the tenth.
    options = ("model.backbone=test_convnext", "finetune=none", "finetune.epochs=2", "data.batch_size=9")
    one, two = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")
    train_run(compose(*options), one.path)
    step = MultiTaskModule.training_step

    def signalled(self: MultiTaskModule, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch == 1 and batch_idx == 2:
            os.kill(os.getpid(), signal.SIGTERM)  # only to this process
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(MultiTaskModule, "training_step", signalled)
        with pytest.raises(Terminated):
            train_run(compose(*options, "trainer.devices=2"), two.path)
    assert torch.load(two.last, weights_only=True)["global_step"] == 14 + 10
    assert resume_run(two.path, settings=compose(*options, "data.num_workers=2")).status == "finished"
    weights = [torch.load(run.last, weights_only=True)["state_dict"] for run in (one, two)]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-3, atol=2e-5, msg=name)
    histories = [pd.read_csv(run.metrics) for run in (one, two)]
    pd.testing.assert_frame_equal(histories[1], histories[0], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_predictions_are_those_of_the_files(whole: RunFolder, packed: Path, competition: Path, tmp_path: Path) -> None:
    fixed = (f"ckpt={whole.path}", f"outputs={tmp_path}", "accelerator=cpu", "progress=false", "num_workers=0")
    choices = {"held_out": (), "packed": ("data=packed", f"data.root={packed}"), "files": (f"data.root={competition}",)}
    found = {}
    for name, data in choices.items():
        settings = settings_for("evaluate", EvaluateSettings, *data, *fixed, "batch_size=24")
        (found[name],) = predict_labelled([whole.path], settings, data=settings.photos)
    seen = {name: (len(each.predictions), each.seen) for name, each in found.items()}
    assert seen == {"held_out": (42, 0), "packed": (168, 126), "files": (168, 126)}
    roots = {"held_out": packed, "packed": packed, "files": competition.resolve()}
    names = {
        name: [path.removeprefix(str(roots[name])) for path in found[name].predictions.photos["path"]] for name in found
    }
    for name in ("held_out", "packed"):
        place = pd.Index(names["files"]).get_indexer(names[name])
        assert (place >= 0).all()
        for task, probs in found[name].predictions.probs.items():
            expected = found["files"].predictions.probs[task][place]
            torch.testing.assert_close(torch.from_numpy(probs), torch.from_numpy(expected))
    predict_photos(settings_for("predict", PredictSettings, f"data.root={packed}", *fixed), tmp_path / "predicted")
    predicted = read_predictions(tmp_path / "predicted")
    assert predicted.photos["photo"].map("/{}".format).tolist() == names["packed"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data.split_seed=5",), "with data.split_seed=0, found 5"),
        (("data.val_fraction=0.3",), r"with data.val_fraction=0.25, found 0.3; set data.val_fraction=0.25"),
        (("data.folds=4", "data.fold=0"), "with data.folds=null, found 4"),
        (("model.image_size=64",), "expected photos of 64 pixels.*found 32 .*image_size=32"),
        (("data.crop_height=64",), "cropped by .*crop_height=64.*found .*crop_height=96"),
        (("data.root=nowhere",), "found no readable packed.json"),
        (("data.cache=off",), "data.cache is for photos in files, found off beside data=packed"),
        (("data.corrections=a.csv",), "data.corrections is for photos in files"),
        (("labels.tasks={smile: [no, yes]}",), "labels.tasks are for .*found them beside data=packed"),
        (("data.extra=a.csv",), "data.extra is for photos in files"),
    ],
)
def test_what_does_not_fit_is_refused(compose: Compose, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(MaskLightningError, match=message) as caught:
        prepare_run(compose(*overrides))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_crop_of_the_packing_holds_and_members_and_pairs_can_be_trained(compose: Compose) -> None:
    unnamed = ("data.crop_height=null", "data.crop_width=null")
    run = prepare_run(compose(*unnamed, "data.clean_train_photos=2"))
    assert (run.transform.crop_height, run.transform.crop_width) == (96, 64)
    assert run.sizes["photo"][0] > 0
    data = run.build_data()
    assert run.cache.chunks_of(data.clean_rows["path"]).max() == 0
    keys = list(data.train_dataloader().batch_sampler.sampler)
    assert sorted(row for _, row in keys) == list(range(126))
    member = prepare_run(compose("member=mask0"))
    assert set(member.photos.labels["path"]) < set(run.photos.labels["path"])
    assert len(next(iter(member.build_data().train_dataloader()))["image"]) == 32
    pairs = prepare_run(compose("data.two_per_person=true")).build_data().train_dataloader()
    people = next(iter(pairs))["person"].tolist()
    assert people[::2] == people[1::2]


@pytest.mark.slow
def test_a_photo_that_cannot_be_decoded_is_named_or_left_out(competition: Path, tmp_path: Path, monkeypatch) -> None:
    root = Path(shutil.copytree(competition, tmp_path / "photos"))
    broken = next((root / "train" / "images").rglob("mask2.*"))
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(PhotoError, match=r"1 of 168 photos cannot be decoded: .*pack the others"):
        pack_photos(pack_settings(root, tmp_path / "out", tmp_path))
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".packing*"))
    assert pack_photos(pack_settings(root, tmp_path / "out", tmp_path, "data.on_bad_photo=skip")).photos == 167
    with pytest.raises(PackedError, match="exists already"):
        pack_photos(pack_settings(root, tmp_path / "out", tmp_path))


@pytest.mark.parametrize(
    ("command", "kind", "overrides", "message"),
    [
        ("pack", PackSettings, ("data=packed", "data.root=a", "out=b"), "pack reads photo files, found data=packed"),
        ("pack", PackSettings, ("data.root=a",), "out is not set; name a new folder"),
        ("report", ReportSettings, ("data=packed", "data.root=a", "ckpt=b"), "report shows photo files"),
    ],
)
def test_commands_that_need_files_say_so(command, kind, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_for(command, kind, *overrides)


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_photos_in_s3_are_packed_and_trained_through_an_outage(
    competition: Path, compose_train: Compose, packed: Path, whole: RunFolder, tmp_path: Path, monkeypatch
) -> None:
    """The local copies hold a part of the chunks; the server is slow, loses connections, and disappears."""
    (tmp_path / "s3" / "bucket").mkdir(parents=True)
    monkeypatch.setattr(s3, "FIRST_WAIT", 0.01)
    address = "s3://bucket/faces"
    largest = max(chunk.size for chunk in read_manifest(packed).chunks)
    with serving(tmp_path / "s3") as port:
        proxy = Proxy(port)
        use(monkeypatch, proxy.port)
        pack_photos(pack_settings(competition, address, tmp_path / "packing"))
        assert read_manifest(Path(address)).chunks == read_manifest(packed).chunks
        with pytest.raises(PackedError, match="there are files below s3://bucket/faces already"):
            pack_photos(pack_settings(competition, address, tmp_path / "packing"))
        monkeypatch.setattr("mask_lightning.data.packed.CHUNKS_IN_USE", 4)
        settings = compose_train(
            "data=packed",
            f"data.root={address}",
            f"data.cache_gb={4.1 * largest / 1e9}",
            "data.num_workers=2",
            *TWO_EPOCHS,
        )
        proxy.delay, proxy.cut = 0.001, 5
        threading.Thread(target=_close_when, args=[proxy, tmp_path / "cut" / "checkpoints" / "last.ckpt"]).start()
        with pytest.raises(PackedError, match=r"cannot access s3://bucket/faces/chunk.* after 6 attempts") as caught:
            train_run(settings, tmp_path / "cut")
        assert "\n" not in str(caught.value)
        assert RunFolder(tmp_path / "cut").read_result().status == "failed"
        proxy = Proxy(port)
        use(monkeypatch, proxy.port)
        assert resume_run(tmp_path / "cut").best == whole.read_result().best
        (copies,) = (tmp_path / "cache").glob("packed-faces-*")
        assert sum(path.stat().st_size for path in copies.glob("*.bin")) <= 4.1 * largest


def _close_when(proxy: Proxy, file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)
    proxy.close()
