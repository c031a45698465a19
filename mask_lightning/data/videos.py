"""Video files and cameras: their frames as upright RGB photos, and writing a video. OpenCV decodes and encodes."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mask_lightning.errors import VideoError

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm"})
EXTRA = "pip install 'mask_lightning[faces]'"
USUAL_FPS = 25.0  # of a video or camera that does not tell
MISSING = 0.03  # share of the frames in the header that may be missing: some containers only estimate their number

Size = tuple[int, int]  # width, height


class VideoFrame(NamedTuple):
    """A frame of a video.

    Attributes:
        number: 0, 1, ... in the video, also counting the frames that were left out.
        time: seconds since the beginning.
        photo: upright RGB.
    """

    number: int
    time: float
    photo: Image.Image


def is_video(path: Path) -> bool:
    """Return True for a file name with the suffix of a video.

    Example:
        >>> is_video(Path("clip.MP4")), is_video(Path("photo.gif"))
        (True, False)
    """
    return path.suffix.lower() in VIDEO_SUFFIXES


def camera_index(name: Path) -> int | None:
    """Return the index in `camera:0`; None for other names.

    Example:
        >>> camera_index(Path("camera:1")), camera_index(Path("camera"))
        (1, None)
    """
    match = re.fullmatch(r"camera:(\d+)", str(name))
    return None if match is None else int(match[1])


class Video:
    """A video file or a camera that was opened.

    Args:
        source: the file, or the index of a camera.

    Attributes:
        name: the file's name, or `camera:0`.
        fps: frames per second.
        count: number of frames as the file's header says; None: unknown, or a camera.

    Raises:
        VideoError: OpenCV is not installed, or the file or camera gives no frame.
    """

    def __init__(self, source: Path | int) -> None:
        self.is_camera = isinstance(source, int)
        self.name = source.name if isinstance(source, Path) else f"camera:{source}"
        cv2 = import_opencv()
        if isinstance(source, Path) and not source.is_file():
            raise VideoError(f"expected a video at {source}, found none; set data.root to a video")
        self._capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        if not self._capture.isOpened() or not self._capture.grab():
            self._capture.release()
            if isinstance(source, int):
                raise VideoError(
                    f"expected a camera with index {source}, found none that gives a frame; connect it, close other "
                    "programs that use it, or set data.root=camera:i to the index of another"
                )
            raise VideoError(
                f"cannot decode {source} (no frame can be read: it is damaged, truncated or no video); replace it"
            )
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if 0 < fps <= 1000 else USUAL_FPS  # False for NaN
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = int(count) if not self.is_camera and 0 < count < 2**53 else None
        self._retrieve: Callable[[], tuple[bool, Any]] = self._capture.retrieve
        self._milliseconds = cv2.CAP_PROP_POS_MSEC

    def frames(
        self, *, every: int = 1, seconds: float | None = None, stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[VideoFrame]:
        """Yield the frames 0, N, 2N, ... once; log how many are missing if a file ends early.

        Args:
            every: N.
            seconds: end after so many; None: at the end of the video.
            stopped: called before each frame; True ends the iteration.
        """
        number, time, ended_early, began = 0, 0.0, False, monotonic()
        while True:
            time = max(time, monotonic() - began if self.is_camera else self._time(number))
            if stopped() or (seconds is not None and time >= seconds):
                ended_early = True
                break
            if number % every == 0:
                decoded, pixels = self._retrieve()
                if not decoded:
                    break
                yield VideoFrame(number, time, Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1])))
            number += 1
            if not self._capture.grab():
                break
        self.close()
        if self.is_camera and not ended_early:
            log.warning(
                "%s gives no more frames after %d; the results are those of the frames so far", self.name, number
            )
        if self.count is not None and not ended_early and number < self.count * (1 - MISSING) - 1:
            log.warning(
                "%s: read %d of %d frames, the file is truncated or damaged; the results are those of these frames",
                self.name,
                number,
                self.count,
            )

    def _time(self, number: int) -> float:
        """Return the time in a file of the frame that was grabbed last, in seconds."""
        told = float(self._capture.get(self._milliseconds)) / 1000
        return told if told > 0 or number == 0 else number / self.fps

    def close(self) -> None:
        """Close the file, or let other programs use the camera."""
        self._capture.release()


WriteFrame = Callable[[Image.Image], None]


@contextmanager
def writing_video(path: Path, fps: float) -> Iterator[WriteFrame]:
    """Write RGB frames as mp4 (MPEG-4 Part 2, without sound); the file appears at the end of the block.

    Frames have the size of the first, whose odd sides lose a pixel.

    Yields:
        Function that appends a frame. Raises VideoError if the frames cannot be encoded.
    """
    cv2 = import_opencv()
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.mp4")
    writer: Any = None
    size = (0, 0)

    def write(frame: Image.Image) -> None:
        nonlocal writer, size
        if writer is None:
            size = (frame.width - frame.width % 2, frame.height - frame.height % 2)
            writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
            if not writer.isOpened():
                raise VideoError(f"cannot write a video of {size[0]}x{size[1]} pixels to {path}; set annotate=false")
        writer.write(np.ascontiguousarray(np.asarray(frame.crop((0, 0, *size)))[:, :, ::-1]))

    try:
        yield write
        if writer is not None:
            writer.release()
            temporary.replace(path)
    finally:
        if writer is not None:
            writer.release()
        temporary.unlink(missing_ok=True)


def import_opencv() -> Any:
    """Import OpenCV and let it print nothing. Raises VideoError, which names the extra, if it is not installed."""
    # ffmpeg's own messages about damaged files; read by OpenCV whenever a file is opened. -8 is ffmpeg's "quiet".
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        cv2: Any = import_module("cv2")  # its types differ between versions
    except ImportError:
        raise VideoError(
            f"videos and cameras need the package opencv-python, which is not installed; {EXTRA}"
        ) from None
    set_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # of OpenCV 4, of OpenCV 5
    set_log_level(0)
    return cv2
