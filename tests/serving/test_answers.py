"""Answers of a worker: the probabilities of `predict`, for every face or for the crop of the training."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from mask_lightning.data.transforms import TransformSpec
from mask_lightning.errors import CheckpointError
from mask_lightning.inference.many_faces import FaceCrop
from mask_lightning.inference.predict import predict
from mask_lightning.inference.trained import load_trained
from mask_lightning.labels import FACE
from mask_lightning.serving import answers, uploads
from mask_lightning.serving.answers import ModelOptions, Predictor, answer_all, crop_box, decode_or_refuse
from mask_lightning.serving.uploads import Limits, RefusedError, Upload, open_upload

CPU = torch.device("cpu")


def photo(seed: int = 0, size: tuple[int, int] = (64, 90)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8))


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def sideways() -> bytes:
    """A JPEG whose EXIF says that it must be turned by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(photo(4), "JPEG", exif=exif)


CONTENTS = {
    "a.png": encode(photo(0)),
    "b.jpg": encode(photo(1), "JPEG"),
    "c.png": encode(photo(2).convert("RGBA")),
    "large.jpg": encode(photo(3, (600, 800)), "JPEG"),
    "sideways.jpg": sideways(),
}


@pytest.fixture
def make(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Callable[..., Predictor]:
    def build(**options: Any) -> Predictor:
        fixed = {"ckpt": make_checkpoint(), "cache": tmp_path / "cache", "engine": "torch"}
        return Predictor(ModelOptions(**{**fixed, **options}), CPU)

    return build


def test_answers_are_those_of_predict(make: Callable[..., Predictor], tmp_path: Path) -> None:
    predictor = make()
    paths = []
    for name, content in CONTENTS.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(content)
    trained = load_trained(predictor.options.ckpt, CPU)
    expected = predict(trained, pd.DataFrame({"path": [str(path) for path in paths]}), num_workers=0)
    (answer,) = predictor.answer([predictor.decode([Upload(*each) for each in CONTENTS.items()])])
    assert [each.name for each in answer.photos] == list(CONTENTS)
    for i, each in enumerate(answer.photos):
        with Image.open(paths[i]) as image:
            size = image.size[::-1] if each.name == "sideways.jpg" else image.size
        assert (each.width, each.height) == size
        (face,) = each.faces
        assert (face.score, face.landmarks) == (None, None)
        for task in FACE.tasks:
            found = face.tasks[task.name]
            assert list(found.probabilities) == list(task.classes)
            assert list(found.probabilities.values()) == pytest.approx(expected.probs[task.name][i], abs=2e-6)
            assert found.label == task.classes[int(expected.probs[task.name][i].argmax())]
            assert found.probability == found.probabilities[found.label]


def test_temperatures_soften_the_probabilities(make: Callable[..., Predictor], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make()
    monkeypatch.setattr("mask_lightning.inference.predict.fitting_temperatures", lambda *_: {"age": 2.0})
    soft = make()
    pixels = np.stack([np.asarray(photo(i, (32, 32))) for i in range(3)])
    before, after = plain.probabilities(pixels), soft.probabilities(pixels)
    roots = np.sqrt(before["age"])  # temperature 2
    assert after["age"] == pytest.approx(roots / roots.sum(axis=1, keepdims=True), abs=1e-6)
    assert np.array_equal(after["mask"], before["mask"])
    assert (plain.info().calibrated, soft.info().calibrated) == (False, True)
    assert not make(calibrated=False).info().calibrated


def test_requests_of_a_batch_keep_their_faces(make: Callable[..., Predictor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos with 2, 0 and 1 faces in two requests, and a request that is refused between them."""
    predictor = make()
    counts = {"two": 2, "none": 0, "one": 1}
    pixels = {name: [np.array(photo(i + len(name), (32, 32))) for i in range(n)] for name, n in counts.items()}
    seen = iter(counts)
    asked = []

    def crop_faces(image: Image.Image, spec: TransformSpec, **options: Any) -> list[FaceCrop]:
        asked.append(options)
        landmarks = np.full((5, 2), 1.26, np.float32)
        return [FaceCrop((1.04, 2.0, 30.0, 40.0), 0.91236, landmarks, each) for each in pixels[next(seen)]]

    monkeypatch.setattr(answers, "crop_faces", crop_faces)
    monkeypatch.setattr(Predictor, "spec", TransformSpec(None, None, 32, crop="face"))
    content = CONTENTS["a.png"]
    requests = [
        decode_or_refuse(predictor, [Upload("two", content), Upload("none", content)]),
        decode_or_refuse(predictor, [Upload("bad", content[:100])]),
        decode_or_refuse(predictor, [Upload("one", content)]),
    ]
    first, refused, second = answer_all(predictor, requests)
    assert isinstance(refused, RefusedError)
    assert (refused.status, refused.code) == (422, "damaged_photo")
    assert not isinstance(first, RefusedError)
    assert not isinstance(second, RefusedError)
    assert [len(each.faces) for each in (*first.photos, *second.photos)] == [2, 0, 1]
    for name, face in zip(("two", "two", "one"), (*first.photos[0].faces, *second.photos[0].faces), strict=True):
        i = 1 if face is first.photos[0].faces[1] else 0
        expected = predictor.probabilities(pixels[name][i][None])["gender"][0]
        assert list(face.tasks["gender"].probabilities.values()) == pytest.approx(expected, abs=2e-6)
        assert (face.box, face.score, face.landmarks) == ((1.0, 2.0, 30.0, 40.0), 0.9124, [(1.3, 1.3)] * 5)
    assert asked == [{"max_faces": 50, "min_size": 20}] * 3


def test_no_faces_at_all_are_no_error(make: Callable[..., Predictor]) -> None:
    assert answer_all(make(), [[]])[0].photos == []  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("size", "spec", "box"),
    [
        ((384, 512), TransformSpec(380, 256), (64, 66, 320, 446)),  # the competition's photos
        ((300, 200), TransformSpec(None, None), (50, 0, 250, 200)),
        ((200, 100), TransformSpec(None, None, crop="share", share_height=0.5, share_width=0.5), (50, 25, 150, 75)),
        ((50, 60), TransformSpec(380, 256), (0, 0, 50, 60)),
    ],
)
def test_the_box_of_a_crop_is_what_the_network_sees(
    size: tuple[int, int], spec: TransformSpec, box: tuple[int, ...]
) -> None:
    assert crop_box(*size, spec) == box


TRUNCATED = CONTENTS["large.jpg"][: len(CONTENTS["large.jpg"]) // 2]
DAMAGED = bytearray(CONTENTS["a.png"])
DAMAGED[200] ^= 255  # in the pixels, so that the checksum is wrong


@pytest.mark.parametrize(
    ("content", "limits", "status", "code"),
    [
        (TRUNCATED, Limits(), 422, "damaged_photo"),
        (bytes(DAMAGED), Limits(), 422, "damaged_photo"),
        (CONTENTS["large.jpg"], Limits(megapixels=0.4), 413, "too_many_pixels"),
        (encode(photo(), "TIFF"), Limits(), 415, "wrong_type"),
        (b"\0\0\0\x18ftypheic" + bytes(12), Limits(), (415, 422), None),  # with and without the extra `heic`
    ],
)
def test_a_photo_that_cannot_be_decoded_is_refused(
    make: Callable[..., Predictor], content: bytes, limits: Limits, status: Any, code: str | None, tmp_path: Path
) -> None:
    keep = tmp_path / "keep"
    found = decode_or_refuse(make(limits=limits, keep=keep), [Upload("x.jpg", content)])
    assert isinstance(found, RefusedError)
    assert found.status in (status if isinstance(status, tuple) else (status,))
    assert code is None or found.code == code
    assert "x.jpg" in found.message
    assert not keep.exists()


def test_photos_are_kept_only_if_asked(make: Callable[..., Predictor], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    make().decode([Upload("a.png", CONTENTS["a.png"])])
    assert set(tmp_path.rglob("*")) - set(before) <= {tmp_path / "tiny.ckpt"}
    keep = tmp_path / "keep"
    keep.mkdir()
    make(keep=keep).decode([Upload(name, CONTENTS[name]) for name in ("a.png", "b.jpg")])
    kept = sorted(keep.iterdir())
    assert [path.suffix for path in kept] == [".png", ".jpg"]
    assert [path.read_bytes() for path in kept] == [CONTENTS["a.png"], CONTENTS["b.jpg"]]
    assert not any(name in path.name for path in kept for name in ("a.", "b."))


def test_a_photo_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as error:
        uploads.keep_photo(Upload("a.png", b"x"), "PNG", tmp_path / "nowhere")
    assert (error.value.status, error.value.code) == (507, "cannot_keep")


@pytest.mark.parametrize(("name", "run"), [("run7/checkpoints/best.ckpt", "run7"), ("folder/own.ckpt", "folder")])
def test_info_names_the_run_and_no_path(
    make: Callable[..., Predictor], make_checkpoint: Callable[..., Path], name: str, run: str, tmp_path: Path
) -> None:
    info = make(ckpt=make_checkpoint(name), keep=tmp_path).info()
    assert (info.run, info.engine, info.crop, info.image_size) == (run, "torch", "centre", 32)
    assert info.tasks == {task.name: list(task.classes) for task in FACE.tasks}
    assert info.keeps_photos
    assert str(tmp_path) not in info.model_dump_json()


def test_a_missing_checkpoint_is_named(make: Callable[..., Predictor], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a run's folder or a"):
        make(ckpt=tmp_path / "nowhere")


def test_the_type_of_a_photo_is_its_content() -> None:
    assert open_upload(Upload("a.gif", CONTENTS["b.jpg"]), Limits())[1] == "JPEG"
