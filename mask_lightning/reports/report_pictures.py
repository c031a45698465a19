"""The photos of the report, in groups: the worst mistakes, the surest answers, where the network looked, ..."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from torch import Tensor

from mask_lightning.data.dataset import FaceDataset
from mask_lightning.data.index import SHOTS
from mask_lightning.data.transforms import AugmentSpec, TransformSpec, eval_pipeline, train_pipeline
from mask_lightning.inference.predictions import Predictions
from mask_lightning.metrics import mistakes
from mask_lightning.reports.faces import WIDTH, Face, Opener, answers, faces, lay_over, opener, photo_name

TOP_LOSSES, SUREST, EXAMPLES, PEOPLE = 24, 6, 6, 6  # how many are shown of each kind
PAIRS = 3  # that have examples
LOOKED_WRONG, LOOKED_RIGHT = 8, 4
AUGMENTED, DRAWS = 4, 6

Maps = Mapping[str, npt.NDArray[np.float32]]  # task -> heat maps (N, h, w)


@dataclass(frozen=True)
class Group:
    """Photos under one heading; `columns` where they stand in rows."""

    heading: str
    faces: Sequence[Face]
    columns: int = 6


@dataclass(frozen=True)
class Album:
    """All photos of the report.

    Attributes:
        top_losses: one of each person.
        confused: examples of the most frequent confusions, and surest_wrong: of each task.
        surest_right: right in every task.
        looked_wrong, looked_right: rows of a photo, and of it under the heat map of each task.
        divided: people with all their photos.
        augmented: None where the checkpoint does not tell how it was trained.
    """

    top_losses: Group
    confused: Sequence[Group]
    surest_wrong: Sequence[Group]
    surest_right: Group
    looked_wrong: Sequence[Group]
    looked_right: Sequence[Group]
    divided: Sequence[Group]
    augmented: Group | None

    @property
    def sheets(self) -> dict[str, Group]:
        """Name of a file, without its suffix -> the photos that it shows; none that would be empty."""
        parts: dict[str, Sequence[Group]] = {
            "top_losses": [self.top_losses],
            "confused": self.confused,
            "surest_wrong": self.surest_wrong,
            "surest_right": [self.surest_right],
            "heat_maps": [*self.looked_wrong, *self.looked_right],
            "disagreements": self.divided,
            "augmentation": [self.augmented] if self.augmented else [],
        }
        sheets = {}
        for name, groups in parts.items():
            shown = [face for group in groups for face in group.faces]
            if shown:
                sheets[name] = Group(name.replace("_", " "), shown, groups[0].columns)
        return sheets


def rows_to_explain(predictions: Predictions) -> list[int]:
    """The photos whose heat maps are shown: LOOKED_WRONG of the largest losses, and LOOKED_RIGHT that are right."""
    wrong = mistakes.top_losses(predictions, LOOKED_WRONG)
    right = [row for row in mistakes.surest_right(predictions, LOOKED_RIGHT) if row not in wrong]
    return [int(row) for row in [*wrong, *right]]


def make_album(
    predictions: Predictions, found: mistakes.Mistakes, maps: Maps, spec: TransformSpec, augment: AugmentSpec | None
) -> Album:
    """Choose and open the photos.

    Args:
        predictions: with the photos' paths.
        found: the mistakes of these predictions.
        maps: the heat maps of `rows_to_explain`, in its order; empty where the network cannot be explained.
        spec: what the network sees of a photo.
        augment: how its training changed photos, None: unknown.
    """
    tile = opener(spec)
    looks = _looks(predictions, maps, tile) if maps else []
    wrong = len(mistakes.top_losses(predictions, LOOKED_WRONG))
    right, losses = mistakes.surest_right(predictions, SUREST), mistakes.top_losses(predictions, TOP_LOSSES)
    return Album(
        top_losses=Group("largest losses", faces(predictions, losses, tile)),
        confused=[_examples(predictions, pair, tile) for pair in found.pairs[:PAIRS]],
        surest_wrong=_surest_wrong(predictions, tile),
        surest_right=Group("Sure and right in everything", faces(predictions, right, tile)),
        looked_wrong=looks[:wrong],
        looked_right=looks[wrong:],
        divided=[_person(predictions, each, tile) for each in found.divided[:PEOPLE]],
        augmented=_augmented(_spread(predictions), spec, augment) if augment else None,
    )


def _examples(predictions: Predictions, pair: mistakes.ConfusedPair, tile: Opener) -> Group:
    rows = mistakes.one_each(predictions, pair.rows, EXAMPLES)
    heading = f"{pair.tasks[0]}: {pair.truth} taken for {pair.said}"
    return Group(heading, faces(predictions, rows, tile, tasks=pair.tasks))


def _surest_wrong(predictions: Predictions, tile: Opener) -> list[Group]:
    rows = {task: mistakes.surest_wrong(predictions, task, SUREST) for task in predictions.space.names}
    return [
        Group(f"Sure and wrong in {task}", faces(predictions, chosen, tile, tasks=[task]))
        for task, chosen in rows.items()
        if len(chosen)
    ]


def _person(predictions: Predictions, divided: mistakes.Disagreement, tile: Opener) -> Group:
    """All photos of a person, in the order of the shots where these are known."""
    names = [str(shot) for shot in predictions.photos.get("shot", predictions.photos["photo"])]
    rows = sorted(divided.rows, key=lambda row: SHOTS.index(names[row]) if names[row] in SHOTS else len(SHOTS))
    truth = [answer.truth for answer in answers(predictions, rows[0], mistakes.person_tasks(predictions))]
    shown = faces(predictions, rows, tile)
    return Group(f"{divided.person}: {', '.join(name or 'not labelled' for name in truth)}", shown, len(SHOTS))


def _looks(predictions: Predictions, maps: Maps, tile: Opener) -> list[Group]:
    groups = []
    for i, row in enumerate(rows_to_explain(predictions)):
        photo, name = tile(predictions.photos["path"][row]), photo_name(predictions, row)
        heated = [Face(lay_over(photo, heat[i]), "", answers(predictions, row, [task])) for task, heat in maps.items()]
        groups.append(Group(name, [Face(photo, name), *heated], 1 + len(maps)))
    return groups


def _spread(predictions: Predictions) -> list[str]:
    """The paths of a few photos from all over the table."""
    rows = np.linspace(0, len(predictions) - 1, min(AUGMENTED, len(predictions))).round().astype(int)
    return [str(predictions.photos["path"][row]) for row in rows]


def _augmented(paths: Sequence[str], spec: TransformSpec, augment: AugmentSpec) -> Group:
    """Rows of a photo as it goes into the network unchanged, then as in training; the same draws every time."""
    rows = pd.DataFrame({"path": list(paths)})
    plain = FaceDataset(rows, (), eval_pipeline(spec))
    changed = FaceDataset(rows, (), train_pipeline(spec, augment))
    shown = []
    for i in range(len(rows)):
        shown.append(Face(_to_photo(plain[i]["image"]), "as it is"))
        draws = range(DRAWS * i, DRAWS * (i + 1))
        shown += [Face(_to_photo(changed[draw, i]["image"]), "as in training") for draw in draws]
    return Group("augmentation", shown, 1 + DRAWS)


def _to_photo(image: Tensor) -> Image.Image:
    """uint8 (3, H, W) -> a photo WIDTH pixels wide."""
    photo = Image.fromarray(image.permute(1, 2, 0).numpy())
    return photo.resize((WIDTH, round(WIDTH * photo.height / photo.width)), Image.Resampling.BILINEAR)
