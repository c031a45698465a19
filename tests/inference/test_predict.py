"""Predictions against plain NumPy around the network itself; what is decoded, and how broken photos are reported."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from time import sleep

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from prediction_fixtures import SPEC
from red_faces import draw_face, install

from mask_lightning.data import prepared
from mask_lightning.data.cache import cached_photos
from mask_lightning.data.images import decode_photo
from mask_lightning.data.transforms import TransformSpec, eval_pipeline
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.errors import LabelError, PhotoError
from mask_lightning.exporting.runtimes import Images, Probs
from mask_lightning.inference.dataset import CacheLocation, PredictionDataset
from mask_lightning.inference.exported import ExportedModel
from mask_lightning.inference.photo_list import read_photo_list
from mask_lightning.inference.predict import predict, predict_many
from mask_lightning.inference.trained import load_trained
from mask_lightning.labels import FACE, UNLABELLED
from mask_lightning.metrics.predictions import Source

CPU = torch.device("cpu")


@pytest.fixture
def rows(eval_folder: Path) -> pd.DataFrame:
    return read_photo_list(eval_folder).table


def logits_of(checkpoint: Path, path: str) -> dict[str, np.ndarray]:
    """Crop 48 x 32 from the middle, resize to 32 x 32, normalise; predict with the network as Lightning loads it."""
    module = MultiTaskModule.load_from_checkpoint(checkpoint, weights_only=True, map_location="cpu").eval()
    photo = Image.open(path).convert("RGB").crop((8, 8, 40, 56)).resize((32, 32), Image.Resampling.BILINEAR)
    pixels = (np.asarray(photo) / 255 - np.array([0.4, 0.5, 0.6])) / np.array([0.2, 0.3, 0.25])
    with torch.no_grad():
        logits = module(torch.tensor(pixels.transpose(2, 0, 1)[None], dtype=torch.float32))
    return {task: values[0].double().numpy() for task, values in logits.items()}


@pytest.mark.parametrize(("batch_size", "num_workers"), [(2, 0), (64, 1)])
def test_probabilities_and_losses(make_checkpoint, rows: pd.DataFrame, batch_size: int, num_workers: int) -> None:
    checkpoint = make_checkpoint()
    targets = {"mask": [0, 2, UNLABELLED, 1, 1], "age": [2.0, np.nan, 0.0, 1.0, 1.0]}
    found = predict(
        load_trained(checkpoint, CPU), rows.assign(**targets), batch_size=batch_size, num_workers=num_workers
    )
    assert found.photos.equals(rows)
    for i, path in enumerate(rows["path"]):
        for task, logits in logits_of(checkpoint, path).items():
            probs = np.exp(logits) / np.exp(logits).sum()
            np.testing.assert_allclose(found.probs[task][i], probs, atol=1e-5)
            target = targets.get(task, [np.nan] * 5)[i]
            known = target >= 0
            assert found.targets[task][i] == (target if known else UNLABELLED)
            np.testing.assert_allclose(
                found.losses[task][i], -np.log(probs[int(target)]) if known else np.nan, atol=1e-4
            )


@pytest.mark.parametrize(
    "head",
    [
        {"name": "regression", "top": 60.0, "borders": [29.5, 59.5]},
        {"name": "classes_and_regression", "top": 60.0},
        {"name": "coral"},
        {"name": "corn"},
    ],
)
def test_every_head_gives_probabilities(make_checkpoint, rows: pd.DataFrame, head: dict) -> None:
    """A checkpoint with any head is rebuilt, and predicts probabilities, also with TTA."""
    trained = load_trained(make_checkpoint(heads={"age": head}), CPU)
    found = predict(trained, rows.assign(age=[0, 1, 2, 0, 1]), tta="flip", num_workers=0)
    assert found.probs["age"].shape == (5, 3)
    np.testing.assert_allclose(found.probs["age"].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found.losses["age"], -np.log(found.probs["age"][range(5), [0, 1, 2, 0, 1]]), rtol=1e-4)


def test_the_class_of_a_regressed_age_is_its_band(make_checkpoint, rows: pd.DataFrame) -> None:
    head = {"name": "regression", "top": 60.0, "borders": [29.5, 59.5]}
    trained = load_trained(make_checkpoint(heads={"age": head}), CPU)
    for bias, want in ((-2.0, 0), (0.5, 1), (6.0, 2)):  # about 7, 37 and 59.9 years
        linear = trained.module.network.heads["age"].linear
        torch.nn.init.constant_(linear.bias, bias)
        torch.nn.init.zeros_(linear.weight)
        assert (predict(trained, rows, num_workers=0).preds["age"] == want).all()


def test_a_probability_of_0_has_a_finite_loss(make_checkpoint, rows: pd.DataFrame) -> None:
    trained = load_trained(make_checkpoint(), CPU)
    with torch.no_grad():
        trained.module.network.heads["mask"].linear.bias.copy_(torch.tensor([500.0, 0.0, 0.0]))
    found = predict(trained, rows.assign(mask=1), num_workers=0)
    assert (found.probs["mask"][:, 1] == 0).all()
    np.testing.assert_allclose(found.losses["mask"], 500, rtol=0.05)


def test_rows_without_names_are_named_by_their_path(make_checkpoint, rows: pd.DataFrame) -> None:
    found = predict(load_trained(make_checkpoint(), CPU), rows.drop(columns="photo").assign(shot="x"), num_workers=0)
    assert found.photos["photo"].tolist() == rows["path"].tolist()
    assert found.photos["shot"].eq("x").all()
    assert found.codes.tolist() == FACE.encode({task: found.probs[task].argmax(1) for task in FACE.names}).tolist()


def test_wrong_targets_and_missing_photos_are_refused(make_checkpoint, rows: pd.DataFrame) -> None:
    trained = load_trained(make_checkpoint(), CPU)
    with pytest.raises(LabelError, match="targets of gender below 2, found 2"):
        predict(trained, rows.assign(gender=2), num_workers=0)
    Path(rows["path"][1]).unlink()
    with pytest.raises(PhotoError, match=r"a1\.png, found none"):
        predict(trained, rows, num_workers=0)


def test_several_networks_predict_as_each_alone_and_every_photo_is_decoded_once(
    make_checkpoint, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = [load_trained(make_checkpoint(f"{seed}.ckpt", seed=seed), CPU) for seed in range(3)]
    other = replace(networks[0], spec=replace(networks[0].spec, size=48))
    alone = [predict(network, rows, num_workers=0) for network in (*networks, other)]
    opened: list[str] = []
    monkeypatch.setattr(prepared, "decode_photo", lambda path, *args: opened.append(path) or decode_photo(path, *args))
    together = predict_many([networks[0], other, *networks[1:]], rows, batch_size=2, num_workers=0)
    assert opened == rows["path"].tolist()  # although there are two TransformSpecs
    for found, want in zip(together, [alone[0], alone[3], alone[1], alone[2]], strict=True):
        assert found.sources == want.sources
        for task in FACE.names:
            np.testing.assert_allclose(found.probs[task], want.probs[task], atol=1e-6)


def test_a_broken_photo_in_a_worker_is_reported_in_one_line(make_checkpoint, rows: pd.DataFrame) -> None:
    Path(rows["path"][1]).write_bytes(b"no photo")
    with pytest.raises(PhotoError, match=r"^cannot decode \S*a1\.png[^\n]*$"):
        predict(load_trained(make_checkpoint(), CPU), rows, num_workers=1)


@pytest.mark.parametrize("batch_size", [2, 64])
def test_a_flip_averages_the_probabilities_of_photo_and_mirror_image(
    make_checkpoint, rows: pd.DataFrame, tmp_path: Path, batch_size: int
) -> None:
    mirrored = []
    for i, path in enumerate(rows["path"]):
        mirrored.append(str(tmp_path / f"{i}.png"))
        Image.open(path).convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored[-1])
    trained = load_trained(make_checkpoint(), CPU)
    plain, other = (predict(trained, each, num_workers=0) for each in (rows, rows.assign(path=mirrored)))
    found = predict(trained, rows.assign(age=1), tta="flip", batch_size=batch_size, num_workers=0)
    for task in FACE.names:
        np.testing.assert_allclose(found.probs[task], (plain.probs[task] + other.probs[task]) / 2, atol=1e-6)
    np.testing.assert_allclose(found.losses["age"], -np.log(found.probs["age"][:, 1]), rtol=1e-4)


@pytest.mark.gpu
def test_a_gpu_predicts_the_same(make_checkpoint, rows: pd.DataFrame) -> None:
    checkpoint = make_checkpoint()
    on_cpu, on_gpu = (
        predict(load_trained(checkpoint, torch.device(device)), rows, num_workers=0) for device in ("cpu", "cuda")
    )
    for task in FACE.names:
        np.testing.assert_allclose(on_gpu.probs[task], on_cpu.probs[task], atol=2e-3)


def test_every_broken_photo_is_named(make_checkpoint, rows: pd.DataFrame, caplog: pytest.LogCaptureFixture) -> None:
    trained = load_trained(make_checkpoint(), CPU)
    caplog.clear()
    first, second = Path(rows["path"][2]), Path(rows["path"][3])
    first.write_bytes(first.read_bytes()[:300])
    with pytest.raises(PhotoError, match=r"^cannot decode .*e5\.jpg"):
        predict(trained, rows, num_workers=0)
    second.write_text("no photo")
    with pytest.raises(PhotoError, match=r"2 of 5 photos .*e5\.jpg.*b2\.jpg"):
        predict(trained, rows, num_workers=0)
    assert not caplog.records


@pytest.mark.parametrize("num_workers", [0, 1])
def test_all_broken_photos_are_named_after_one_pass(
    make_checkpoint, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    broken = [rows["path"][1], rows["path"][3]]
    Path(broken[0]).write_bytes(b"no photo")
    Path(broken[1]).unlink()
    opened: list[str] = []
    monkeypatch.setattr(prepared, "decode_photo", lambda path, *args: opened.append(path) or decode_photo(path, *args))
    with pytest.raises(PhotoError, match=r"^2 of 5 photos cannot be decoded: [^\n]*a1\.png[^\n]*b2\.jpg[^\n]*$"):
        predict(load_trained(make_checkpoint(), CPU), rows, batch_size=2, num_workers=num_workers)
    assert opened == (rows["path"].tolist() if num_workers == 0 else [])  # a worker's calls are not seen here


class Brightness:
    """A runtime whose probabilities are the mean brightness of an image; records the threads that call its copy."""

    name = "onnx"

    def __init__(self, called_by: set[str] | None = None) -> None:
        self.called_by = called_by

    def __call__(self, images: Images) -> Probs:
        if self.called_by is not None:
            sleep(0.01)  # so that other threads take the next batches
            self.called_by.add(threading.current_thread().name)
        bright = images.mean(axis=(1, 2, 3)).astype(np.float32) / 255
        return {"gender": np.stack([bright, 1 - bright], axis=1)}

    def side_by_side(self, _: int) -> Brightness:
        return Brightness(set() if self.called_by is None else self.called_by)


def brightness(called_by: set[str]) -> ExportedModel:
    source = Source("model.onnx", "0" * 64, "none", ("gender",), SPEC.to_plain())
    return ExportedModel(Brightness(called_by), FACE.only(["gender"]), SPEC, source)


@pytest.mark.parametrize(("workers", "side_by_side"), [(None, True), (0, False)])
def test_exported_models_decode_and_compute_side_by_side(
    rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, workers: int | None, side_by_side: bool
) -> None:
    monkeypatch.setattr("mask_lightning.inference.predict.share_of_cores", lambda: 3)
    called_by: set[str] = set()
    rows = pd.concat([rows] * 4, ignore_index=True)
    found = predict(brightness(called_by), rows, batch_size=2, num_workers=workers)
    assert (threading.current_thread().name in called_by) == (not side_by_side)
    assert (len(called_by) > 1) == side_by_side
    for path, probs in zip(rows["path"], found.probs["gender"], strict=True):
        photo = Image.open(path).convert("RGB").crop((8, 8, 40, 56)).resize((32, 32), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(probs[0], np.asarray(photo).mean() / 255, atol=1e-6)


def test_all_broken_photos_are_named_side_by_side(rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mask_lightning.inference.predict.share_of_cores", lambda: 2)
    for row in (1, 3):
        Path(rows["path"][row]).write_bytes(b"no photo")
    with pytest.raises(PhotoError, match=r"^2 of 5 photos cannot be decoded: [^\n]*a1\.png[^\n]*b2\.jpg[^\n]*$"):
        predict(brightness(set()), rows, batch_size=1)


def test_photos_of_the_training_cache_are_not_decoded(
    make_checkpoint, rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = load_trained(make_checkpoint(), CPU)
    want = predict(trained, rows, tta="flip", num_workers=0)
    root, folder = tmp_path / "data", tmp_path / "cache"
    cached_photos(rows["path"][:4], trained.spec, root=root, folder=folder, workers=0, progress=False)
    opened: list[str] = []
    monkeypatch.setattr(prepared, "decode_photo", lambda path, *args: opened.append(path) or decode_photo(path, *args))
    for location, decoded in (
        (CacheLocation(folder, root), rows["path"][4:]),
        (CacheLocation(folder, tmp_path / "other"), rows["path"]),
        (CacheLocation(tmp_path / "nowhere", root), rows["path"]),
    ):
        opened.clear()
        found = predict(trained, rows, tta="flip", num_workers=0, cache=location)
        assert opened == decoded.tolist()
        for task in FACE.names:
            np.testing.assert_array_equal(found.probs[task], want.probs[task])
    other = replace(trained, spec=replace(trained.spec, size=48))
    opened.clear()
    predict_many([trained, other], rows, num_workers=0, cache=CacheLocation(folder, root))
    assert opened == rows["path"].tolist()  # the other size has no cache


def test_a_photo_that_changed_after_it_was_cached_is_decoded_again(
    make_checkpoint, rows: pd.DataFrame, tmp_path: Path
) -> None:
    trained, location = load_trained(make_checkpoint(), CPU), CacheLocation(tmp_path / "cache", tmp_path / "data")
    cached_photos(rows["path"], trained.spec, root=location.root, folder=location.folder, workers=0, progress=False)
    Image.new("RGB", (70, 90), "white").save(rows["path"][1])
    found, want = (predict(trained, rows, num_workers=0, cache=cache) for cache in (location, None))
    np.testing.assert_array_equal(found.probs["mask"], want.probs["mask"])
    Path(rows["path"][2]).unlink()
    with pytest.raises(PhotoError, match=r"e5\.jpg, found none"):
        predict(trained, rows, num_workers=0, cache=location)


def test_a_photo_is_decoded_once_for_all_its_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    photo.save(tmp_path / "a.png")
    opened: list[str] = []
    monkeypatch.setattr(prepared, "decode_photo", lambda path, *args: opened.append(path) or decode_photo(path, *args))
    spec = TransformSpec(crop_height=24, crop_width=16, size=8)
    (images,), error, _ = PredictionDataset([str(tmp_path / "a.png")], [spec], "blend")[0]
    assert (len(opened), error) == (1, None)
    assert (images.shape, images.dtype) == ((5, 3, 8, 8), torch.uint8)
    want = np.asarray(eval_pipeline(spec)(photo))
    np.testing.assert_array_equal(images[0].permute(1, 2, 0).numpy(), want)


def test_photos_unlike_those_of_the_training_are_noticed(
    make_checkpoint, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(monkeypatch)
    draw_face((48, 64), (10, 10, 30, 30)).save(rows["path"][1])
    checkpoint = make_checkpoint()
    content = torch.load(checkpoint, weights_only=True)
    for crop, sizes in (
        ("centre", {"photo": [50] * 5}),
        ("centre", {"photo": [500] * 5}),
        ("face", {"face": [90] * 5}),
    ):
        content["hyper_parameters"]["transform"].update(crop=crop, crop_height=None, crop_width=None)
        content["hyper_parameters"]["sizes"] = sizes
        torch.save(content, checkpoint)
        caplog.clear()
        predict(load_trained(checkpoint, CPU), rows, num_workers=0)
        lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        if crop == "face":
            assert lines.pop(0).startswith("4 of 5 photos have no detected face, the middle of the photo is used: ")
            assert "found faces of about 20 pixels (longer side of the face), trained on 90 to 90" in lines.pop()
        if sizes.get("photo") == [500] * 5:
            assert "found photos of about 55 pixels (root of width x height), trained on 500 to 500" in lines.pop()
        assert lines == []
