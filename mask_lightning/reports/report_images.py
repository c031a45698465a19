"""Charts and photos of the HTML report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from mask_lightning.data.auditing.audit import count_classes, count_codes
from mask_lightning.data.dataset import FaceDataset
from mask_lightning.data.index import SHOTS
from mask_lightning.data.transforms import TransformSpec, eval_pipeline, train_pipeline
from mask_lightning.metrics import mistakes
from mask_lightning.metrics.evaluation import Evaluation
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.metrics.scores import JOINT
from mask_lightning.reports.evaluation_report import tasks_of
from mask_lightning.reports.photo_grids import (
    CARD_WIDTH,
    PhotoCard,
    PhotoOpener,
    card_opener,
    make_cards,
    overlay_heat_map,
    photo_name,
    task_predictions,
)
from mask_lightning.reports.plots import plot_balance, plot_confusion, plot_reliability, plot_slices
from mask_lightning.settings.augment import AugmentSettings

MAX_MATRIX_CLASSES = 40  # larger confusion matrices are unreadable

# Numbers of photos, pairs and people shown.
TOP_LOSSES, SUREST, EXAMPLES, PEOPLE = 24, 6, 6, 6
PAIRS_WITH_EXAMPLES = 3
EXPLAINED_WRONG, EXPLAINED_CORRECT = 8, 4
AUGMENTED_PHOTOS, AUGMENTATIONS = 4, 6

HeatMaps = Mapping[str, npt.NDArray[np.float32]]  # task -> (N, h, w), values 0 to 1


class Chart(NamedTuple):
    """Figure with its alt text."""

    figure: Figure
    alt: str


def draw_charts(predictions: Predictions, evaluation: Evaluation) -> dict[str, Chart]:
    """Draw the charts of the report; the keys are file names without suffix."""
    everyone = evaluation.intervals[evaluation.headline]["accuracy"]
    return {
        **_draw_confusion_matrices(evaluation),
        "slices": Chart(
            plot_slices(evaluation.slices, everyone, evaluation.worst),
            "Accuracy of each slice with its interval; the table below has the numbers",
        ),
        "reliability": Chart(
            plot_reliability(evaluation.calibration), "Reliability diagrams: accuracy by predicted probability"
        ),
        "classes": Chart(_draw_balance(predictions, evaluation), "Bars: number of photos and people of each class"),
    }


def _draw_confusion_matrices(evaluation: Evaluation) -> Mapping[str, Chart]:
    charts = {}
    for name, scores in evaluation.scores.items():
        if len(scores.classes) > MAX_MATRIX_CLASSES:
            continue
        what = " x ".join(tasks_of(evaluation)) if name == JOINT else name
        stem = "confusion" if name == JOINT else f"confusion_{name}"
        for suffix, show in (("", "counts"), ("_rates", "rates")):
            title = f"{what}: {'photos' if show == 'counts' else 'share of the true class'}"
            figure = plot_confusion(scores.confusion, scores.classes, title, show=show)  # type: ignore[arg-type]
            charts[stem + suffix] = Chart(
                figure, f"Confusion matrix of {title}; the table of confused pairs lists the largest cells"
            )
    return charts


def _draw_balance(predictions: Predictions, evaluation: Evaluation) -> Figure:
    space = predictions.space.only(tasks_of(evaluation))
    table = predictions.photos.assign(**{task: predictions.targets[task] for task in space.names})
    if "person_id" not in table:
        table["person_id"] = table["photo"]
    tasks = {task.name: count_classes(table, task) for task in space.tasks}
    title = f"{len(table):,} photos of {evaluation.people:,} people in this evaluation"
    return plot_balance(tasks, count_codes(table, space), title=title)


@dataclass(frozen=True)
class Group:
    """Photos under one heading, `columns` per row."""

    heading: str
    cards: Sequence[PhotoCard]
    columns: int = 6


@dataclass(frozen=True)
class Album:
    """All photos of the report.

    Attributes:
        top_losses: photos with the largest loss, one per person.
        confused: examples of the most frequently confused pairs.
        surest_wrong: per task, the wrong predictions with the highest probability.
        surest_correct: photos that are correct in every task, smallest loss first.
        explained_wrong, explained_correct: per photo, the photo and its heat map for each task.
        divided: people whose photos got different predictions, with all their photos.
        augmented: photos without and with augmentation; None if the checkpoint does not store the augmentation.
    """

    top_losses: Group
    confused: Sequence[Group]
    surest_wrong: Sequence[Group]
    surest_correct: Group
    explained_wrong: Sequence[Group]
    explained_correct: Sequence[Group]
    divided: Sequence[Group]
    augmented: Group | None

    @property
    def sheets(self) -> dict[str, Group]:
        """Return the groups that are also written as PNG: file name without suffix -> photos; none is empty."""
        parts: dict[str, Sequence[Group]] = {
            "top_losses": [self.top_losses],
            "confused": self.confused,
            "surest_wrong": self.surest_wrong,
            "surest_right": [self.surest_correct],
            "heat_maps": [*self.explained_wrong, *self.explained_correct],
            "disagreements": self.divided,
            "augmentation": [self.augmented] if self.augmented else [],
        }
        sheets = {}
        for name, groups in parts.items():
            cards = [card for group in groups for card in group.cards]
            if cards:
                sheets[name] = Group(name.replace("_", " "), cards, groups[0].columns)
        return sheets


def rows_to_explain(predictions: Predictions) -> list[int]:
    """Choose the photos that get heat maps: the largest losses, then the surest correct ones."""
    wrong = mistakes.top_losses(predictions, EXPLAINED_WRONG)
    right = [row for row in mistakes.surest_right(predictions, EXPLAINED_CORRECT) if row not in wrong]
    return [int(row) for row in [*wrong, *right]]


def make_album(
    predictions: Predictions,
    found: mistakes.Mistakes,
    maps: HeatMaps,
    spec: TransformSpec,
    augment: AugmentSettings | None,
) -> Album:
    """Choose and open the photos of the report.

    Args:
        predictions: predictions with the paths of the photos.
        found: mistakes of these predictions.
        maps: heat maps of the photos of `rows_to_explain`, in its order; empty if there are none.
        spec: transform of the trained network.
        augment: augmentation of the training; None if unknown.
    """
    open_card = card_opener(spec)
    explained = _explained(predictions, maps, open_card) if maps else []
    wrong = len(mistakes.top_losses(predictions, EXPLAINED_WRONG))
    right, losses = mistakes.surest_right(predictions, SUREST), mistakes.top_losses(predictions, TOP_LOSSES)
    return Album(
        top_losses=Group("largest losses", make_cards(predictions, losses, open_card)),
        confused=[_examples(predictions, pair, open_card) for pair in found.pairs[:PAIRS_WITH_EXAMPLES]],
        surest_wrong=_surest_wrong(predictions, open_card),
        surest_correct=Group("Highest probabilities, correct in every task", make_cards(predictions, right, open_card)),
        explained_wrong=explained[:wrong],
        explained_correct=explained[wrong:],
        divided=[_divided_person(predictions, each, open_card) for each in found.divided[:PEOPLE]],
        augmented=_augmented(_spread_paths(predictions), spec, augment) if augment else None,
    )


def _examples(predictions: Predictions, pair: mistakes.ConfusedPair, open_card: PhotoOpener) -> Group:
    rows = mistakes.one_each(predictions, pair.rows, EXAMPLES)
    heading = f"{pair.tasks[0]}: {pair.target} predicted as {pair.pred}"
    return Group(heading, make_cards(predictions, rows, open_card, tasks=pair.tasks))


def _surest_wrong(predictions: Predictions, open_card: PhotoOpener) -> list[Group]:
    rows = {task: mistakes.surest_wrong(predictions, task, SUREST) for task in predictions.space.names}
    return [
        Group(f"Highest probabilities, wrong in {task}", make_cards(predictions, chosen, open_card, tasks=[task]))
        for task, chosen in rows.items()
        if len(chosen)
    ]


def _divided_person(predictions: Predictions, divided: mistakes.DividedPerson, open_card: PhotoOpener) -> Group:
    """Return all photos of a person, in the order of the standard shots if known."""
    names = [str(shot) for shot in predictions.photos.get("shot", predictions.photos["photo"])]
    rows = sorted(divided.rows, key=lambda row: SHOTS.index(names[row]) if names[row] in SHOTS else len(SHOTS))
    tasks = mistakes.person_tasks(predictions)
    targets = [each.target for each in task_predictions(predictions, rows[0], tasks)]
    cards = make_cards(predictions, rows, open_card)
    return Group(f"{divided.person}: {', '.join(name or 'not labelled' for name in targets)}", cards, len(SHOTS))


def _explained(predictions: Predictions, maps: HeatMaps, open_card: PhotoOpener) -> list[Group]:
    groups = []
    for i, row in enumerate(rows_to_explain(predictions)):
        photo, name = open_card(predictions.photos["path"][row]), photo_name(predictions, row)
        heated = [
            PhotoCard(overlay_heat_map(photo, heat[i]), "", task_predictions(predictions, row, [task]))
            for task, heat in maps.items()
        ]
        groups.append(Group(name, [PhotoCard(photo, name), *heated], 1 + len(maps)))
    return groups


def _spread_paths(predictions: Predictions) -> list[str]:
    """Return the paths of a few photos, evenly spread over the table."""
    rows = np.linspace(0, len(predictions) - 1, min(AUGMENTED_PHOTOS, len(predictions))).round().astype(int)
    return [str(predictions.photos["path"][row]) for row in rows]


def _augmented(paths: Sequence[str], spec: TransformSpec, augment: AugmentSettings) -> Group:
    """Return rows of a photo without augmentation followed by augmented versions; the draws are reproducible."""
    rows = pd.DataFrame({"path": list(paths)})
    plain = FaceDataset(rows, (), eval_pipeline(spec))
    augmented = FaceDataset(rows, (), train_pipeline(spec, augment))
    cards = []
    for i in range(len(rows)):
        cards.append(PhotoCard(_to_photo(plain[i]["image"]), "without augmentation"))
        draws = range(AUGMENTATIONS * i, AUGMENTATIONS * (i + 1))
        cards += [PhotoCard(_to_photo(augmented[draw, i]["image"]), "augmented") for draw in draws]
    return Group("augmentation", cards, 1 + AUGMENTATIONS)


def _to_photo(image: Tensor) -> Image.Image:
    """Convert uint8 (3, H, W) to a photo CARD_WIDTH pixels wide."""
    photo = Image.fromarray(image.permute(1, 2, 0).numpy())
    return photo.resize((CARD_WIDTH, round(CARD_WIDTH * photo.height / photo.width)), Image.Resampling.BILINEAR)
