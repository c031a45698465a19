"""Photos with their answers, as the report shows them: what was said, how surely, and what is true."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from mask_lightning.data.images import open_photo
from mask_lightning.data.transforms import TransformSpec, crop
from mask_lightning.inference.predictions import Predictions
from mask_lightning.labels import UNLABELLED
from mask_lightning.reports.figures import RED
from mask_lightning.reports.page import Picture, photo_picture
from mask_lightning.reports.photos import plot_photos
from mask_lightning.reports.wording import percent

WIDTH = 200  # pixels of a photo on the page

Opener = Callable[[str], Image.Image]


@dataclass(frozen=True)
class Answer:
    """What was said of one photo in one task; `right` is None where the truth is not known."""

    task: str
    said: str
    probability: float
    truth: str | None
    right: bool | None

    def __str__(self) -> str:
        mark = {True: " (right)", False: f", truly {self.truth}", None: ""}[self.right]
        return f"{self.task} {self.said} {percent(self.probability)}{mark}"


@dataclass(frozen=True)
class Face:
    """An RGB photo, its name, and its answers."""

    photo: Image.Image
    name: str
    answers: tuple[Answer, ...] = ()

    @cached_property
    def picture(self) -> Picture:
        """The photo for the page; its alt text says what the caption says."""
        return photo_picture(self.photo, ": ".join(filter(None, [self.name, "; ".join(map(str, self.answers))])))

    @property
    def mistaken(self) -> bool:
        """Whether an answer is known to be wrong."""
        return any(answer.right is False for answer in self.answers)


def opener(spec: TransformSpec) -> Opener:
    """A function path -> the part of the photo that the network sees, WIDTH pixels wide; each is decoded once."""

    @cache
    def open_tile(path: str) -> Image.Image:
        part = crop(open_photo(path), spec)
        return part.resize((WIDTH, round(WIDTH * part.height / part.width)), Image.Resampling.LANCZOS)

    return open_tile


def answers(predictions: Predictions, row: int, tasks: Sequence[str]) -> tuple[Answer, ...]:
    """What was said of photo `row` in some tasks."""
    given = []
    for name in tasks:
        task, probs = predictions.space[name], predictions.probs[name][row]
        target, said = int(predictions.targets[name][row]), int(probs.argmax())
        known = target != UNLABELLED
        truth = task.classes[target] if known else None
        given.append(Answer(name, task.classes[said], float(probs[said]), truth, said == target if known else None))
    return tuple(given)


def faces(
    predictions: Predictions, rows: Iterable[int], tile: Opener, *, tasks: Sequence[str] | None = None
) -> list[Face]:
    """The photos of `rows` with their answers in `tasks`, None: in all."""
    chosen = predictions.space.names if tasks is None else tasks
    return [
        Face(tile(predictions.photos["path"][row]), photo_name(predictions, row), answers(predictions, row, chosen))
        for row in map(int, rows)
    ]


def photo_name(predictions: Predictions, row: int) -> str:
    """Person and shot, as far as they are known; else the photo's own name."""
    photo = predictions.photos.iloc[row]
    if "person_id" not in photo:
        return str(photo["photo"])
    return f"{photo['person_id']} {photo['shot']}" if "shot" in photo else str(photo["person_id"])


def lay_over(photo: Image.Image, heat: npt.NDArray[np.float32]) -> Image.Image:
    """A heat map (h, w) in 0..1 over the grey photo: the warmer, the more that place spoke for the class."""
    grey = np.asarray(photo.convert("L").convert("RGB"), np.float32) / 255
    fine = np.asarray(Image.fromarray(heat).resize(photo.size, Image.Resampling.BICUBIC)).clip(0, 1)[..., None]
    colour = colormaps["inferno"](fine[..., 0])[..., :3]
    mixed = (1 - 0.75 * fine) * grey + 0.75 * fine * colour
    return Image.fromarray((255 * mixed).round().astype(np.uint8))


def plot_faces(shown: Sequence[Face], *, title: str, columns: int = 8) -> Figure:
    """Photos in rows of `columns` under their names and answers; red where an answer is wrong."""
    captions = ["\n".join([face.name, *map(_caption, face.answers)]) for face in shown]
    colours = [RED if face.mistaken else "black" for face in shown]
    photos = [np.asarray(face.photo) for face in shown]
    return plot_photos(photos, captions, colours=colours, title=title, columns=columns)


def _caption(answer: Answer) -> str:
    truth = f" (is {answer.truth})" if answer.right is False else ""
    return f"{answer.said} {percent(answer.probability)}{truth}"
