"""Predict every face of photos, of a video or of a camera (predict faces=all)."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

import pandas as pd
from PIL import Image
from rich.console import Console
from rich.progress import track

from mask_lightning.data.images import name_some
from mask_lightning.data.videos import Video, camera_index, is_video, writing_video
from mask_lightning.errors import ConfigError, VideoError
from mask_lightning.faces.tracking import MAX_GAP, Tracker
from mask_lightning.inference import people, prediction_file
from mask_lightning.inference.exported import Model
from mask_lightning.inference.many_faces import require_face_crop
from mask_lightning.inference.people import PeopleTally
from mask_lightning.inference.photo_list import read_photo_list
from mask_lightning.inference.predict_faces import FACE_COLUMNS, VIDEO_COLUMNS, Searched, Shot, no_faces, predict_faces
from mask_lightning.metrics.predictions import ClassTally, Predictions
from mask_lightning.pipelines.output import refuse_existing, writable
from mask_lightning.reports import predictions as reports
from mask_lightning.reports.annotations import Note, annotate
from mask_lightning.settings.inference import PredictSettings
from mask_lightning.utils.files import find_path, write_atomically
from mask_lightning.utils.system import stop_on_interrupt

log = logging.getLogger(__name__)

CSV_NAME = "predictions.csv"  # for people and spreadsheets
WITHOUT_FACE = "without_face.csv"
ANNOTATED, ANNOTATED_VIDEO = "annotated", "annotated.mp4"
OUTPUT_NAMES = (prediction_file.FILE_NAME, CSV_NAME, WITHOUT_FACE, people.FILE_NAME, ANNOTATED, ANNOTATED_VIDEO)
ANIMATIONS = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG"}  # formats that may have several frames
JPEG_QUALITY = 92

LoadNetworks = Callable[[PredictSettings, int], list[Model]]
Draw = Callable[[Searched, Predictions], None]


@dataclass(frozen=True)
class Footage:
    """Photos or a video in which faces are sought.

    Attributes:
        shots: photos, or frames, each once.
        count: number of shots; None: unknown.
        video: None for photos.
    """

    shots: Iterator[Shot]
    count: int | None
    video: Video | None = None


def predict_all_faces(settings: PredictSettings, folder: Path, load_networks: LoadNetworks) -> None:
    """Predict every face, and write one row for each into `folder`, beside the photos without a face.

    A video also gets people.csv, with the means over the frames of each person. Memory does not grow with the number of
    photos, except for their list and the tracks.

    Args:
        settings: options with faces=all.
        folder: of the results.
        load_networks: called with the settings and the number of photos.

    Raises:
        MaskLightningError: the user can correct the cause; raised before anything is written.
    """
    refuse_existing(folder, OUTPUT_NAMES)
    with stop_on_interrupt() if _camera(settings) is not None else _never() as stopped:
        footage = open_footage(settings, stopped)
        try:
            networks = load_networks(settings, footage.count or 0)
            for network in networks:
                require_face_crop(network.spec)
            _predict(settings, footage, networks, folder)
        finally:
            if footage.video is not None:
                footage.video.close()


def open_footage(settings: PredictSettings, stopped: Callable[[], bool] = lambda: False) -> Footage:
    """List the photos of data.root, or open its video or camera.

    Args:
        settings: options.
        stopped: True ends the frames of a video or camera.

    Raises:
        PhotoError, SampleTableError: as `read_photo_list`.
        VideoError: the video or camera gives no frame, or OpenCV is not installed.
        ConfigError: an option for videos beside photos.
    """
    root = settings.data.root
    assert root is not None
    camera = _camera(settings)
    if camera is None and not is_video(root):
        for name, value, default in (("every", settings.every, 1), ("seconds", settings.seconds, None)):
            if value != default:
                raise ConfigError(f"{name} is for a video or a camera, found {name}={value} beside {root}; remove it")
        table = read_photo_list(root, follow_symlinks=settings.data.follow_symlinks).table
        _note_animations([Path(path) for path in table["path"]])
        return Footage(
            (Shot(photo, path) for photo, path in zip(table["photo"], table["path"], strict=True)), len(table)
        )
    path = find_path(root)
    video = Video(path if camera is None else camera)
    shots = (
        Shot(video.name, str(path), frame.photo, frame.number, frame.time)
        for frame in video.frames(every=settings.every, seconds=settings.seconds, stopped=stopped)
    )
    return Footage(shots, None if video.count is None else -(-video.count // settings.every), video)


def _camera(settings: PredictSettings) -> int | None:
    return None if settings.data.root is None else camera_index(settings.data.root)


@contextmanager
def _never() -> Iterator[Callable[[], bool]]:
    yield lambda: False


def _note_animations(paths: Sequence[Path]) -> None:
    animated = [path for path in paths if path.suffix.lower() in ANIMATIONS and _is_animated(path)]
    if animated:
        log.warning("only the first frame of an animation is used, a video shows all: %s", name_some(animated))


def _is_animated(path: Path) -> bool:
    try:
        with Image.open(path, formats=[ANIMATIONS[path.suffix.lower()]]) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # damaged, or of another format than its suffix; decoding it reports what is wrong
        return False


def _predict(settings: PredictSettings, footage: Footage, networks: list[Model], folder: Path) -> None:
    space = no_faces(networks).space
    tally, persons = ClassTally(space), PeopleTally(space)
    shots = track(
        footage.shots,
        description="predicting faces",
        total=footage.count,
        console=Console(stderr=True),
        disable=not settings.progress or footage.count is None,
    )
    parts = predict_faces(
        networks,
        shots,
        tta=settings.tta,
        batch_size=settings.batch_size,
        threads=settings.num_workers,
        max_faces=settings.max_faces,
        min_size=settings.min_size,
        tracker=None if footage.video is None else Tracker(max_gap=_max_gap(footage.video, settings.every)),
        keep_images=settings.annotate,
    )
    without: list[Shot] = []
    count = 0
    with writing_faces(folder, footage.video, settings) as (write, draw):
        for part in parts:
            write(part.predictions)
            tally.add(part.predictions)
            if footage.video is not None:
                persons.add(part.predictions)
            for searched, predictions in part.by_photo():
                count += 1
                draw(searched, predictions)
                without += [] if searched.faces else [searched.shot]
        if not count and footage.video is not None:
            raise VideoError(f"expected a frame of {footage.video.name}, found none before the end; set seconds higher")
        _write_table(folder / WITHOUT_FACE, list_without_face(without, is_video=footage.video is not None))
        if footage.video is not None:
            _write_table(folder / people.FILE_NAME, persons.table())
    _report(folder, tally, persons, networks, without, count, footage.video)


def _max_gap(video: Video, every: int) -> float:
    """Return how long a face may be hidden: at least for two of the frames that are searched."""
    return max(MAX_GAP, 2.5 * every / video.fps)


@contextmanager
def writing_faces(
    folder: Path, video: Video | None, settings: PredictSettings
) -> Iterator[tuple[Callable[[Predictions], None], Draw]]:
    """Write the rows, and the annotated copies if they are asked for; all appear at the end of the block.

    Yields:
        Function that writes predictions, and function that draws those of one photo.
    """
    columns = ("photo", *(VIDEO_COLUMNS if video else ()), *FACE_COLUMNS)
    try:
        with writable(folder), ExitStack() as stack:
            write_rows = stack.enter_context(prediction_file.writing_csv(folder / CSV_NAME, columns))
            write_table = stack.enter_context(prediction_file.writing_predictions(folder / prediction_file.FILE_NAME))
            draw: Draw = lambda _searched, _predictions: None  # noqa: E731
            if settings.annotate and video is not None:
                draw = stack.enter_context(_drawing_video(folder / ANNOTATED_VIDEO, video, settings.every))
            elif settings.annotate:
                draw = stack.enter_context(_drawing_photos(folder / ANNOTATED))

            def write(predictions: Predictions) -> None:
                write_table(predictions)
                write_rows(predictions)

            yield write, draw
    except BaseException:
        with suppress(OSError):
            folder.rmdir()
        raise


@contextmanager
def _drawing_photos(folder: Path) -> Iterator[Draw]:
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")

    def draw(searched: Searched, predictions: Predictions) -> None:
        assert searched.shot.image is not None
        path = temporary / copy_name(searched.shot.photo)
        path.parent.mkdir(parents=True, exist_ok=True)
        annotate(searched.shot.image, notes_of(searched, predictions)).save(path, "JPEG", quality=JPEG_QUALITY)

    try:
        temporary.mkdir()
        yield draw
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def copy_name(photo: str) -> PurePath:
    """Return the relative path of a photo's annotated copy, a JPEG; a CSV may name photos by absolute paths.

    Example:
        >>> [str(copy_name(name)) for name in ("a/1.jpg", "/data/2.png", "../3.JPEG")]
        ['a/1.jpg', 'data/2.png.jpg', '3.JPEG']
    """
    parts = [part for part in PurePath(photo).parts if part not in ("..", PurePath(photo).anchor)]
    path = PurePath(*parts)
    return path if path.suffix.lower() in (".jpg", ".jpeg") else path.with_name(f"{path.name}.jpg")


@contextmanager
def _drawing_video(path: Path, video: Video, every: int) -> Iterator[Draw]:
    """Draw frames into a video that lasts as long as the original; frames of a camera are repeated until the next."""
    fps = video.fps if video.is_camera else max(video.fps / every, 1.0)
    written = 0
    with writing_video(path, fps) as write:

        def draw(searched: Searched, predictions: Predictions) -> None:
            nonlocal written
            assert searched.shot.image is not None
            time = searched.shot.time or 0.0
            drawn = annotate(searched.shot.image, notes_of(searched, predictions))
            copies = max(round(time * fps) - written, 1) if video.is_camera else 1
            for _ in range(copies):
                write(drawn)
            written += copies

        yield draw


def notes_of(searched: Searched, predictions: Predictions) -> list[Note]:
    """Return what is drawn on a photo: for each face the pred of each task with its probability."""
    preds = predictions.preds
    probs = {task: predictions.prob_of_preds(task) for task in predictions.space.names}
    notes = []
    for i, face in enumerate(searched.faces):
        lines = [f"{task.classes[preds[task.name][i]]} {probs[task.name][i]:.2f}" for task in predictions.space.tasks]
        colour = int(preds[predictions.space.names[0]][i])
        if searched.tracks is not None:
            lines, colour = [f"#{searched.tracks[i]}", *lines], searched.tracks[i] - 1
        notes.append(Note(face.box, tuple(lines), colour))
    return notes


def list_without_face(shots: Sequence[Shot], *, is_video: bool) -> pd.DataFrame:
    """Return the photos, or the frames of a video, in which no face was found."""
    columns = ["photo", "frame", "time"] if is_video else ["photo"]
    rows = [[shot.photo, shot.frame, round(shot.time or 0.0, 3)] if is_video else [shot.photo] for shot in shots]
    return pd.DataFrame(rows, columns=columns)


def _write_table(path: Path, table: pd.DataFrame) -> None:
    write_atomically(path, table.to_csv(index=False, lineterminator="\n").encode())


def _report(
    folder: Path,
    tally: ClassTally,
    persons: PeopleTally,
    networks: Sequence[Model],
    without: Sequence[Shot],
    count: int,
    video: Video | None,
) -> None:
    noun = "photos" if video is None else "frames"
    if without:
        names = "" if video is not None else f": {name_some([Path(shot.photo) for shot in without])}"
        log.warning("%d of %d %s show no face, see %s%s", len(without), count, noun, WITHOUT_FACE, names)
    if tally.photos:
        reports.print_summary(tally, "faces")
        reports.print_probabilities([network.source for network in networks])
    where = f"{count} {noun}" + ("" if video is None else f", {len(persons)} tracks")
    Console(stderr=True).print(f"{tally.photos} faces in {where}", highlight=False)
    reports.print_files(folder, None)
