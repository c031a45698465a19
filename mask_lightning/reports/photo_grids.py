"""Grids of photos: with captions, with predictions, and the contact sheet of an audit.

Titles and captions are plain text: `$` in them is shown, not parsed as mathematics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from textwrap import wrap

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from mask_lightning.data.auditing.audit import describe
from mask_lightning.data.auditing.findings import KINDS, Finding
from mask_lightning.data.images import open_photo
from mask_lightning.data.index import SHOTS
from mask_lightning.data.prepared import read_prepared
from mask_lightning.data.transforms import TransformSpec, crop
from mask_lightning.errors import PhotoError
from mask_lightning.labels import FACE, PERSON_TASKS, UNLABELLED, LabelSpace
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.reports.figures import BLUE, GREY, ORANGE, RED, literal, new_figure, percent
from mask_lightning.reports.html_page import Picture, photo_picture

CARD_WIDTH = 200  # pixels of a photo in the HTML report
TILE_HEIGHT = 192  # pixels of a photo on the contact sheet
FRAMES = (BLUE, ORANGE)  # alternating frame colours that group the photos of one finding

PhotoOpener = Callable[[str], Image.Image]


def plot_photos(
    photos: Sequence[npt.NDArray[np.uint8]],
    captions: Sequence[str],
    *,
    colours: Sequence[str] | None = None,
    title: str = "",
    columns: int = 8,
) -> Figure:
    """Plot photos in rows with captions above.

    Args:
        photos: RGB, each (H, W, 3).
        captions: one caption per photo; may contain line breaks.
        colours: colour of each caption; None: black.
        title: title of the figure; empty: none.
        columns: photos per row.
    """
    columns = min(columns, len(photos))
    rows = math.ceil(len(photos) / columns)
    lines = max(caption.count("\n") for caption in captions)
    figure = new_figure(1.6 * columns, (1.85 + 0.13 * lines) * rows + (0.4 if title else 0))
    for axis in figure.subplots(rows, columns, squeeze=False).flat:
        axis.set_axis_off()
    colours = colours or ["black"] * len(photos)
    for axis, photo, caption, colour in zip(figure.axes, photos, captions, colours, strict=False):
        axis.imshow(photo)
        axis.set(xticks=[], yticks=[])  # invisible ticks cost drawing time too
        axis.set_title(literal(caption), fontsize=7, color=colour)
    if title:
        figure.suptitle(literal(title), fontsize=10)
    return figure


@dataclass(frozen=True)
class TaskPrediction:
    """Prediction of one task for one photo.

    Attributes:
        task: task name.
        pred: predicted class.
        prob: probability of `pred`.
        target: true class; None if not labelled.
        correct: None if not labelled.
    """

    task: str
    pred: str
    prob: float
    target: str | None
    correct: bool | None

    def __str__(self) -> str:
        mark = {True: " (correct)", False: f" (true: {self.target})", None: ""}[self.correct]
        return f"{self.task} {self.pred} {percent(self.prob)}{mark}"


@dataclass(frozen=True)
class PhotoCard:
    """RGB photo with its name and predictions."""

    photo: Image.Image
    name: str
    predictions: tuple[TaskPrediction, ...] = ()

    @cached_property
    def picture(self) -> Picture:
        """The photo for an HTML page; the alt text contains name and predictions."""
        return photo_picture(self.photo, ": ".join(filter(None, [self.name, "; ".join(map(str, self.predictions))])))

    @property
    def has_error(self) -> bool:
        """True if the prediction of any labelled task is wrong."""
        return any(each.correct is False for each in self.predictions)


def make_cards(
    predictions: Predictions, rows: Iterable[int], open_card: PhotoOpener, *, tasks: Sequence[str] | None = None
) -> list[PhotoCard]:
    """Open photos and attach their predictions.

    Args:
        predictions: predictions with the paths of the photos.
        rows: rows of `predictions`.
        open_card: opens a photo by path, see `card_opener`.
        tasks: tasks to show; None: all.
    """
    names = predictions.space.names if tasks is None else tasks
    return [
        PhotoCard(
            open_card(predictions.photos["path"][row]),
            photo_name(predictions, row),
            task_predictions(predictions, row, names),
        )
        for row in map(int, rows)
    ]


def card_opener(spec: TransformSpec) -> PhotoOpener:
    """Return a function that opens the part of a photo that the network sees, CARD_WIDTH pixels wide, with a cache."""

    @cache
    def open_card(path: str) -> Image.Image:
        part = crop(open_photo(path), spec)
        return part.resize((CARD_WIDTH, round(CARD_WIDTH * part.height / part.width)), Image.Resampling.LANCZOS)

    return open_card


def task_predictions(predictions: Predictions, row: int, tasks: Sequence[str]) -> tuple[TaskPrediction, ...]:
    """Return the predictions of some tasks for one photo."""
    found = []
    for name in tasks:
        task, probs = predictions.space[name], predictions.probs[name][row]
        target, pred = int(predictions.targets[name][row]), int(probs.argmax())
        known = target != UNLABELLED
        target_name = task.classes[target] if known else None
        correct = pred == target if known else None
        found.append(TaskPrediction(name, task.classes[pred], float(probs[pred]), target_name, correct))
    return tuple(found)


def photo_name(predictions: Predictions, row: int) -> str:
    """Return person and shot if known, otherwise the file name."""
    photo = predictions.photos.iloc[row]
    if "person_id" not in photo:
        return str(photo["photo"])
    return f"{photo['person_id']} {photo['shot']}" if "shot" in photo else str(photo["person_id"])


def overlay_heat_map(photo: Image.Image, heat: npt.NDArray[np.float32]) -> Image.Image:
    """Draw a heat map (h, w), values 0 to 1, over the grey photo."""
    grey = np.asarray(photo.convert("L").convert("RGB"), np.float32) / 255
    fine = np.asarray(Image.fromarray(heat).resize(photo.size, Image.Resampling.BICUBIC)).clip(0, 1)[..., None]
    colour = colormaps["inferno"](fine[..., 0])[..., :3]
    mixed = (1 - 0.75 * fine) * grey + 0.75 * fine * colour
    return Image.fromarray((255 * mixed).round().astype(np.uint8))


def plot_cards(cards: Sequence[PhotoCard], *, title: str, columns: int = 8) -> Figure:
    """Plot photos with names and predictions; red if a prediction is wrong."""
    captions = ["\n".join([card.name, *map(_caption, card.predictions)]) for card in cards]
    colours = [RED if card.has_error else "black" for card in cards]
    photos = [np.asarray(card.photo) for card in cards]
    return plot_photos(photos, captions, colours=colours, title=title, columns=columns)


def _caption(prediction: TaskPrediction) -> str:
    target = f" (true: {prediction.target})" if prediction.correct is False else ""
    return f"{prediction.pred} {percent(prediction.prob)}{target}"


def plot_results(predictions: Predictions, spec: TransformSpec, *, title: str = "") -> Figure:
    """Plot photos as the network sees them; captions: true classes, then predicted classes, red if any is wrong.

    A missing label is shown as `?` and does not count as wrong.

    Args:
        predictions: predictions with the paths of the photos.
        spec: transform of the trained network.
        title: title of the figure; empty: none.
    """
    photos = [np.asarray(read_prepared(path, [spec]).images[0]) for path in predictions.photos["path"]]
    preds, captions, wrong = predictions.preds, [], np.zeros(len(predictions), bool)
    for row in range(len(predictions)):
        true_names, pred_names = [], []
        for task in predictions.space.tasks:
            target, pred = predictions.targets[task.name][row], preds[task.name][row]
            true_names.append("?" if target == UNLABELLED else task.classes[target])
            pred_names.append(task.classes[pred])
            wrong[row] |= target not in (UNLABELLED, pred)
        captions.append(f"{' '.join(true_names)}\n{' '.join(pred_names)}")
    return plot_photos(photos, captions, colours=[RED if bad else BLUE for bad in wrong], title=title)


@dataclass(frozen=True)
class Tile:
    """Photo on the contact sheet.

    Attributes:
        path: path of the photo; None: "no photo" is shown.
        caption: text above the photo.
        frame: colour of the frame; empty: none.
    """

    path: str | None
    caption: str = ""
    frame: str = ""


@dataclass(frozen=True)
class SheetRow:
    """Row of the contact sheet: a label and at most as many tiles as the sheet has columns."""

    label: str
    tiles: tuple[Tile, ...]
    is_problem: bool = False


def people_rows(
    table: pd.DataFrame, count: int, *, space: LabelSpace = FACE, strata: Sequence[str] = PERSON_TASKS
) -> list[SheetRow]:
    """Choose people for the contact sheet and return their rows.

    Every stratum (by default gender and age band) contributes one person before any contributes a second. If every
    person has only one photo, a row shows several people.

    Args:
        table: sample table.
        count: maximum number of rows.
        space: label space of `table`.
        strata: columns whose combinations are the strata.
    """
    columns = [*strata, *(["years"] if "years" in table else [])]
    if not table["person_id"].duplicated().any():
        people = _choose_people(table, count * len(SHOTS), strata, columns)
        tiles = [Tile(row["path"], describe(row, columns, space)) for row in people.to_dict("records")]
        chunks = [tuple(tiles[start : start + len(SHOTS)]) for start in range(0, len(tiles), len(SHOTS))]
        return [SheetRow("people" if i == 0 else "", chunk) for i, chunk in enumerate(chunks)]
    rows: list[SheetRow] = []
    for person in _choose_people(table, count, strata, columns)[["person_id", *columns]].to_dict("records"):
        photos = table.merge(pd.DataFrame([person]), on=["person_id", *columns])
        label = f"{person['person_id']}\n{describe(person, columns, space)}".replace(", ", "\n")
        rows.append(SheetRow(label, _person_tiles(photos, with_captions=not rows)))
    return rows


def _choose_people(table: pd.DataFrame, count: int, strata: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    people = table.drop_duplicates(["person_id", *columns])
    turn = people.groupby(list(strata)).cumcount() if strata else pd.Series(0, people.index)
    return people.loc[turn.sort_values(kind="stable").index[:count]].sort_values([*columns, "person_id"])


def _person_tiles(photos: pd.DataFrame, *, with_captions: bool) -> tuple[Tile, ...]:
    """Return one tile per standard shot, empty if missing; without standard shots, the first photos."""
    if "shot" not in photos or not photos["shot"].isin(SHOTS).all():
        return tuple(Tile(path) for path in photos["path"][: len(SHOTS)])
    paths = photos.drop_duplicates("shot").set_index("shot")["path"].to_dict()
    return tuple(Tile(paths.get(shot), shot if with_captions else "") for shot in SHOTS)


def problem_rows(found: Mapping[str, Sequence[Finding]], *, columns: int = len(SHOTS)) -> list[SheetRow]:
    """Return a row per kind of finding that has photos, with as many findings as fit."""
    visible = {kind: [one for one in findings if one.photos] for kind, findings in found.items()}
    return [_problem_row(kind, findings, columns) for kind, findings in visible.items() if findings]


def _problem_row(kind: str, findings: Sequence[Finding], columns: int) -> SheetRow:
    tiles: list[Tile] = []
    shown = 0
    for finding in findings:
        photos = finding.photos[:columns]
        if len(tiles) + len(photos) > columns:
            break
        tiles += [Tile(path, _caption_of_path(Path(path)), frame=FRAMES[shown % 2]) for path in photos]
        shown += 1
    label = f"{KINDS[kind].title}\n({shown} of {len(findings)})"
    return SheetRow(label, tuple(tiles), is_problem=True)


def _caption_of_path(photo: Path) -> str:
    """Return folder and file name; a folder in the competition's format is reduced to id, gender and age."""
    parts = photo.parent.name.split("_")
    return f"{' '.join([*parts[:2], parts[3]]) if len(parts) == 4 else photo.parent.name}\n{photo.name}"


def plot_sheet(rows: Sequence[SheetRow], *, title: str, columns: int = len(SHOTS)) -> Figure:
    """Plot the contact sheet: the label of each row on the left, its tiles beside it."""
    figure = new_figure(1.25 * columns + 1.6, 1.75 * len(rows) + 0.5)
    grid = figure.subplots(len(rows), columns + 1, squeeze=False, width_ratios=[1.1, *[1] * columns])
    for axis in grid.flat:
        axis.set_axis_off()
    for row, (label, *axes) in zip(rows, grid, strict=True):
        text = "\n".join(line for part in row.label.split("\n") for line in wrap(part, 18))
        colour = RED if row.is_problem else "black"
        label.text(1, 0.5, literal(text), ha="right", va="center", fontsize=8, color=colour, transform=label.transAxes)
        for axis, tile in zip(axes, row.tiles, strict=False):
            _draw_tile(axis, tile)
    figure.suptitle(literal(title), fontsize=10, wrap=True)
    return figure


def _draw_tile(axis: Axes, tile: Tile) -> None:
    axis.set_title(literal(tile.caption), fontsize=6 if "\n" in tile.caption else 7, pad=2)
    if tile.frame:
        frame = Rectangle((0, 0), 1, 1, fill=False, ec=tile.frame, lw=2.5, clip_on=False, transform=axis.transAxes)
        axis.add_patch(frame)
    photo = _thumbnail(tile.path) if tile.path else None
    if photo is not None:
        axis.imshow(photo)
        return
    axis.imshow(np.full((4, 3, 3), 225, np.uint8))
    text = "cannot be\ndecoded" if tile.path else "no photo"
    axis.text(0.5, 0.5, text, ha="center", va="center", fontsize=7, color=RED if tile.path else GREY,
              transform=axis.transAxes)  # fmt: skip


def _thumbnail(path: str) -> npt.NDArray[np.uint8] | None:
    """Open a photo as RGB (H, W, 3), H at most TILE_HEIGHT; None if it cannot be decoded."""
    try:
        photo = open_photo(path)
    except PhotoError:
        return None
    photo.thumbnail((2 * TILE_HEIGHT, TILE_HEIGHT))
    return np.asarray(photo)
