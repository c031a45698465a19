"""Where labelled photos come from: a reader for each kind of data, all with one result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from mask_lightning.data.corrections import correct
from mask_lightning.data.index import read_index
from mask_lightning.data.public_sets import read_fairface, read_utkface
from mask_lightning.data.tables import person_tasks, read_table
from mask_lightning.labels import FACE_SETS, PERSON_TASKS, LabelSpace

log = logging.getLogger(__name__)

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "auto": read_index,
    "competition": read_index,
    "utkface": read_utkface,
    "fairface": read_fairface,
}


@dataclass(frozen=True)
class LabelledPhotos:
    """A sample table and what its labels are.

    Attributes:
        table: a row per photo.
        space: the tasks that it has targets of.
        strata: those of them that tell of a person: what a split must have alike on both sides.
        root: the folder that the photos lie below.
    """

    table: pd.DataFrame
    space: LabelSpace
    strata: tuple[str, ...]
    root: Path


def read_photos(name: str, root: Path) -> LabelledPhotos:
    """Index a set of faces, `name` one of READERS.

    Raises:
        MaskLightningError: whatever is wrong with it.
    """
    table = READERS[name](root.expanduser().resolve())
    return LabelledPhotos(table, FACE_SETS[name], PERSON_TASKS, root)


def read_photo_table(
    csv: Path, root: Path | None, *, space: LabelSpace | None, needed: Sequence[str] = ()
) -> LabelledPhotos:
    """Read a CSV of photos; arguments and errors as of `data.tables.read_table`. An inferred label space is logged."""
    table, found = read_table(csv, root, space=space, needed=needed)
    if space is None:
        log.info("label space of %s: %s", csv, "; ".join(f"{t.name} ({', '.join(t.classes)})" for t in found.tasks))
    return LabelledPhotos(table, found, person_tasks(table, found), root or csv.expanduser().resolve().parent)


def corrected(photos: LabelledPhotos, corrections: Path | None, *, agreed_by: int) -> LabelledPhotos:
    """The photos with a corrections file applied, and reported in the log; errors as of `data.corrections.correct`."""
    if corrections is None:
        return photos
    table, report = correct(photos.table, corrections, agreed_by=agreed_by, space=photos.space)
    log.info("%s", report)
    return replace(photos, table=table)
