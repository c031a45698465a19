"""Videos and cameras: frames, times, ends, and what cannot be read; the containers are written by OpenCV itself."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask_lightning.data import videos
from mask_lightning.data.videos import Video, writing_video
from mask_lightning.errors import VideoError

cv2 = pytest.importorskip("cv2")
videos.import_opencv()  # ffmpeg reads how much it may print when it is used for the first time

FRAMES = 30


def shade(photo: Image.Image) -> int:
    return round(float(np.asarray(photo)[..., 0].mean()))


def write(path: Path, codec: str, frames: int = FRAMES, fps: float = 10) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (64, 48))
    rng = np.random.default_rng(0)
    for i in range(frames):
        noise = rng.integers(6 * i, 6 * i + 60, (48, 64, 1), dtype=np.uint8)  # of mean 6 i + 29.5
        writer.write(np.repeat(noise, 3, axis=2))
    writer.release()
    return path


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "mp4v"), ("mov", "mp4v"), ("avi", "MJPG"), ("mkv", "mp4v")])
def test_frames_and_times(tmp_path: Path, suffix: str, codec: str) -> None:
    video = Video(write(tmp_path / f"a.{suffix}", codec))
    assert (video.fps, video.count, video.name) == (10, FRAMES, f"a.{suffix}")
    frames = list(video.frames(every=7))
    assert [frame.number for frame in frames] == [0, 7, 14, 21, 28]
    assert [frame.time for frame in frames] == pytest.approx([0, 0.7, 1.4, 2.1, 2.8], abs=0.01)
    assert [shade(frame.photo) for frame in frames] == pytest.approx([6 * frame.number + 30 for frame in frames], abs=6)
    assert frames[0].photo.size == (64, 48)


def test_the_first_seconds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = list(Video(write(tmp_path / "a.mp4", "mp4v")).frames(seconds=1))
    assert [frame.number for frame in frames] == list(range(10))
    assert not caplog.records  # the file is whole


@pytest.mark.parametrize(("suffix", "codec"), [("avi", "MJPG"), ("mkv", "mp4v")])
def test_a_truncated_video_gives_its_frames_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, codec: str
) -> None:
    path = write(tmp_path / f"a.{suffix}", codec)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        frames = list(Video(path).frames())
    assert 5 < len(frames) < FRAMES
    assert f"a.{suffix}: read {len(frames)} of {FRAMES} frames, the file is truncated" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "expected a video at .*a.mp4, found none"), (b"", "cannot decode .*a.mp4"), (b"text", "cannot decode")],
)
def test_no_video(tmp_path: Path, content: bytes | None, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=message):
        Video(tmp_path / "a.mp4")
    assert capfd.readouterr().err == ""


def test_without_opencv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(VideoError, match=r"need the package opencv-python, .*; pip install 'mask_lightning\[faces\]'"):
        Video(tmp_path / "a.mp4")


class Camera:
    """Takes the place of `cv2.VideoCapture`."""

    def __init__(self, frames: int) -> None:
        self.left, self.is_open = frames, frames > 0

    def isOpened(self) -> bool:
        return self.is_open

    def grab(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.zeros((48, 64, 3), np.uint8)

    def get(self, _: int) -> float:
        return float("nan")

    def release(self) -> None:
        self.is_open = False


def test_a_missing_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: Camera(0))
    with pytest.raises(VideoError, match="expected a camera with index 3, found none that gives a frame"):
        Video(3)


def test_a_camera_ends_after_seconds_or_when_it_is_stopped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter(np.arange(0, 100, 0.5).tolist())
    monkeypatch.setattr(videos, "monotonic", lambda: next(clock))
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: Camera(50))
    camera = Video(0)
    assert (camera.name, camera.count, camera.fps) == ("camera:0", None, videos.USUAL_FPS)
    assert [frame.time for frame in camera.frames(seconds=2)] == [0.5, 1.0, 1.5]
    seen: list[int] = []
    for frame in Video(0).frames(stopped=lambda: len(seen) == 4, every=2):
        seen.append(frame.number)
    assert seen == [0, 2, 4, 6]
    assert not caplog.records
    assert len(list(Video(0).frames())) == 50
    assert "camera:0 gives no more frames after 50" in caplog.text


def test_a_written_video_can_be_read(tmp_path: Path) -> None:
    with writing_video(tmp_path / "b.mp4", 5) as add:
        for i in range(4):
            add(Image.new("RGB", (65, 49), (60 * i, 0, 0)))
        assert not (tmp_path / "b.mp4").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["b.mp4"]
    video = Video(tmp_path / "b.mp4")
    frames = list(video.frames())
    assert (video.fps, [frame.photo.size for frame in frames]) == (5, [(64, 48)] * 4)
    assert [shade(frame.photo) for frame in frames] == pytest.approx([0, 60, 120, 180], abs=12)


def fail() -> None:
    raise RuntimeError


def test_a_video_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_one(then: Callable[[], None] = lambda: None) -> None:
        with writing_video(tmp_path / "b.mp4", 5) as add:
            add(Image.new("RGB", (64, 48)))
            then()

    with pytest.raises(RuntimeError):
        write_one(fail)
    monkeypatch.setattr(cv2.VideoWriter, "isOpened", lambda _: False, raising=False)
    with pytest.raises(VideoError, match="cannot write a video of 64x48"):
        write_one()
    assert list(tmp_path.iterdir()) == []
