"""The page of suspects: the photos, the label as it stands, and the one that is suggested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mask_lightning.data.images import open_photo
from mask_lightning.errors import PhotoError
from mask_lightning.inference.predictions import Predictions
from mask_lightning.metrics.label_issues import Suspect, Suspects, correction
from mask_lightning.reports.page import Picture, photo_picture, render
from mask_lightning.reports.suspects_report import CSV_NAME, LOW_AGREEMENT, pairs
from mask_lightning.utils.files import write_atomically

PAGE_NAME = "suspects.html"
PHOTO_SIDE = 190  # pixels of the longer side on the page
PHOTOS_SHOWN = 3  # of a person


@dataclass(frozen=True)
class Card:
    """One suspect as the page shows it.

    Attributes:
        suspect: the label.
        line: its correction: person_id, field, value.
        pictures: photos of it; None for one that cannot be opened any more.
    """

    suspect: Suspect
    line: tuple[str, str, str]
    pictures: tuple[Picture | None, ...]


def save(folder: Path, found: Sequence[Suspects], predictions: Predictions, *, shown: int) -> None:
    """Write suspects.html into `folder`, at most `shown` suspects of each task: one file that needs no network."""
    page = render(
        "suspects.html",
        found=found,
        cards={each.task.name: cards(each, shown) for each in found},
        pairs={each.task.name: pairs(each) for each in found},
        photos=len(predictions),
        people=predictions.photos["person_id"].nunique(),
        networks=len(predictions.sources),
        csv_name=CSV_NAME,
        low_agreement=LOW_AGREEMENT,
    )
    write_atomically(folder / PAGE_NAME, page.encode())


def cards(suspects: Suspects, shown: int) -> list[Card]:
    """The first `shown` suspects."""
    return [
        Card(suspect, correction(suspects.task, suspect), tuple(_picture(path) for path in _spread(suspect.paths)))
        for suspect in suspects.listed[:shown]
    ]


def _spread(paths: Sequence[str]) -> list[str]:
    """A few of a person's photos, the last first: in the competition's folders it is the one without a mask."""
    chosen = np.linspace(len(paths) - 1, 0, min(PHOTOS_SHOWN, len(paths))).round().astype(int)
    return [paths[i] for i in chosen]


def _picture(path: str) -> Picture | None:
    try:
        photo = open_photo(path)
    except PhotoError:
        return None
    photo.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    return photo_picture(photo, Path(path).name)
