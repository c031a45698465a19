"""Predict every face of photos, of a video or of a camera, in one pass that decodes and searches each photo once.

Columns of the rows: `photo` and `path`; of a video also `frame`, `time` in seconds and `track`; then `face` (1 is the
largest of its photo), the box (`left`, `top`, `right`, `bottom`), `score`, and x and y of the landmarks, such as
`nose_x`, all in pixels of the upright photo.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from PIL import Image

from mask_lightning.data.images import LARGE, Size, open_photo, raise_if_broken
from mask_lightning.data.prepared import PhotoSize, SizeTally
from mask_lightning.data.transforms import TransformSpec, prepare_with_face
from mask_lightning.errors import PhotoError
from mask_lightning.faces.detector import Face
from mask_lightning.faces.tracking import Tracker
from mask_lightning.inference.exported import Model
from mask_lightning.inference.many_faces import find_faces, require_face_crop
from mask_lightning.inference.predict import predict_prepared
from mask_lightning.inference.tta import stack_pixels, tta_pixels
from mask_lightning.metrics.predictions import Predictions, combine, join_rows
from mask_lightning.settings.inference import Tta
from mask_lightning.utils.system import keep_memory, map_in_order, share_of_cores

log = logging.getLogger(__name__)

LANDMARKS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
FACE_COLUMNS = (
    *("face", "left", "top", "right", "bottom", "score"),
    *(f"{name}_{axis}" for name in LANDMARKS for axis in "xy"),
)
VIDEO_COLUMNS = ("frame", "time", "track")
MAX_WAITING = 32  # photos whose faces wait for a full batch


@dataclass(frozen=True)
class Shot:
    """A photo, or a frame of a video, in which faces are sought.

    Attributes:
        photo: name in the output.
        path: the photo's file, or the video.
        image: upright RGB; None: it is decoded from the file.
        frame, time: number and seconds of a frame in its video; None for a photo.
    """

    photo: str
    path: str
    image: Image.Image | None = None
    frame: int | None = None
    time: float | None = None


@dataclass(frozen=True, eq=False)
class Searched:
    """A shot with its faces.

    Attributes:
        shot: the shot, with its decoded image only if it was asked for.
        size: width and height of the upright photo.
        faces: largest first.
        tracks: number of the track of each face in a video; None for a photo.
        prepared: for each transform, each face.
        error: why the photo cannot be decoded; None if it was.
    """

    shot: Shot
    size: Size
    faces: list[Face]
    tracks: list[int] | None
    prepared: list[list[Image.Image]]
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """Predictions of the next photos.

    Attributes:
        searched: the photos, in order.
        predictions: one row per face, photo by photo.
    """

    searched: list[Searched]
    predictions: Predictions

    def by_photo(self) -> Iterator[tuple[Searched, Predictions]]:
        """Yield each photo with the predictions of its faces."""
        start = 0
        for each in self.searched:
            rows = np.arange(start, start + len(each.faces))
            yield each, self.predictions.select(rows)
            start += len(each.faces)


def predict_faces(
    networks: Sequence[Model],
    shots: Iterable[Shot],
    *,
    tta: Tta = "none",
    batch_size: int = 64,
    threads: int | None = None,
    max_faces: int | None = None,
    min_size: int = 0,
    tracker: Tracker | None = None,
    keep_images: bool = False,
) -> Iterator[Part]:
    """Find and predict the faces of each shot; the networks together predict each task once.

    Args:
        networks: models of `inference.predict.with_options`, trained with the crop "face".
        shots: photos, or the frames of one video.
        tta: test-time augmentation.
        batch_size: faces per batch.
        threads: that decode and search photos; 0: none beside this one; None: one per core.
        max_faces: keep at most this many faces of a photo, the largest; None: all.
        min_size: leave out faces whose box is lower than this, in pixels of the photo.
        tracker: numbers the faces of a video; None for photos.
        keep_images: keep the decoded photos in what is yielded.

    Yields:
        The next photos, at least one, with their faces, in order. After a photo that cannot be decoded nothing more.

    Raises:
        ConfigError: a network was trained with another crop.
        PhotoError: photos that cannot be decoded, all of them named; raised after the pass.
        DetectorError: the extra `faces` is not installed.
        PredictionsError: two networks predict the same task.
    """
    keep_memory()
    specs = list(dict.fromkeys(network.spec for network in networks))
    for spec in specs:
        require_face_crop(spec)
    search = partial(_search, specs=specs, max_faces=max_faces, min_size=min_size, keep_image=keep_images)
    waiting: list[Searched] = []
    errors: dict[str, str] = {}
    tally, count = SizeTally(), 0
    for searched in map_in_order(search, shots, share_of_cores() if threads is None else threads):
        count += 1
        if searched.error is not None:
            errors[searched.shot.path] = searched.error
        if errors:  # the pass will fail: only look for further broken photos
            continue
        for face in searched.faces:
            tally.add(searched.shot.path, PhotoSize(*searched.size, face.longer_side))
        waiting.append(_track(searched, tracker))
        if _is_enough(waiting, batch_size, keep_images):
            yield _predict(networks, waiting, tta, batch_size)
            waiting = []
    raise_if_broken(errors, count)
    if waiting:
        yield _predict(networks, waiting, tta, batch_size)
    for line in tally.notes({network.spec.crop: network.sizes for network in networks}):
        log.warning("%s", line)


def _search(
    shot: Shot, *, specs: Sequence[TransformSpec], max_faces: int | None, min_size: int, keep_image: bool
) -> Searched:
    try:
        image = open_photo(shot.path) if shot.image is None else shot.image
    except PhotoError as error:
        return Searched(shot, (0, 0), [], None, [], str(error))
    faces = find_faces(image, max_faces=max_faces, min_size=min_size)
    prepared = [[prepare_with_face(image, spec, face) for face in faces] for spec in specs]
    return Searched(replace(shot, image=image if keep_image else None), image.size, faces, None, prepared)


def _track(searched: Searched, tracker: Tracker | None) -> Searched:
    if tracker is None:
        return searched
    return replace(searched, tracks=tracker.update([face.box for face in searched.faces], searched.shot.time or 0.0))


def _is_enough(waiting: Sequence[Searched], batch_size: int, keep_images: bool) -> bool:
    """Return True if the faces fill a batch, or the photos with it would take too much memory."""
    pixels = sum(each.size[0] * each.size[1] for each in waiting) if keep_images else 0
    faces = sum(len(each.faces) for each in waiting)
    return faces >= batch_size or len(waiting) >= MAX_WAITING or pixels > LARGE


def _predict(networks: Sequence[Model], searched: list[Searched], tta: Tta, batch_size: int) -> Part:
    rows = face_rows(searched)
    # While the networks are combined, names must differ.
    keys = pd.DataFrame({"photo": rows.index.astype(str), "path": rows["path"]})
    by_spec = [[face for each in searched for face in each.prepared[i]] for i in range(_specs(networks))]
    batches = []
    for start in range(0, len(rows), batch_size):
        chosen = slice(start, start + batch_size)
        # Not in the threads of `_search`: TTA draws from torch's global generator.
        images = [stack_pixels([tta_pixels(face, tta) for face in faces[chosen]]) for faces in by_spec]
        batches.append(combine(predict_prepared(networks, images, keys.iloc[chosen], tta=tta)))
    predictions = join_rows(batches) if batches else no_faces(networks)
    return Part([replace(each, prepared=[]) for each in searched], replace(predictions, photos=rows))


def _specs(networks: Sequence[Model]) -> int:
    return len({network.spec for network in networks})


def no_faces(networks: Sequence[Model]) -> Predictions:
    """Return predictions without a row."""
    parts = []
    for network in networks:
        empty = {task.name: np.empty((0, task.num_classes), np.float32) for task in network.space.tasks}
        targets = {task: np.empty(0, np.int64) for task in empty}
        losses = {task: np.empty(0, np.float32) for task in empty}
        rows = pd.DataFrame({"photo": [], "path": []}, dtype="str")
        parts.append(Predictions(network.space, rows, empty, targets, losses, (network.source,)))
    return combine(parts)


def face_rows(searched: Sequence[Searched]) -> pd.DataFrame:
    """Return one row per face, with the columns that this module lists; pixels are rounded to hundredths."""
    is_video = any(each.shot.frame is not None for each in searched)
    rows = []
    for each in searched:
        for i, face in enumerate(each.faces):
            place = (
                [each.shot.frame, round(each.shot.time or 0.0, 3), each.tracks and each.tracks[i]] if is_video else []
            )
            box, landmarks = np.round(face.box, 2).tolist(), np.round(face.landmarks.ravel().astype(float), 2).tolist()
            rows.append([each.shot.photo, each.shot.path, *place, i + 1, *box, round(face.score, 4), *landmarks])
    names = ["photo", "path", *(VIDEO_COLUMNS if is_video else ()), *FACE_COLUMNS]
    whole = {"photo": "str", "path": "str", "frame": "int64", "track": "int64", "face": "int64"}
    return pd.DataFrame(rows, columns=names).astype({name: whole.get(name, "float64") for name in names})
