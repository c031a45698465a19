"""Read labelled photos of every kind of data into one result, as the options of `data` say."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from mask_lightning.data.corrections import correct
from mask_lightning.data.folders import has_class_folders, read_folders
from mask_lightning.data.index import read_index
from mask_lightning.data.public_sets import read_fairface, read_utkface
from mask_lightning.data.tables import person_tasks, read_table
from mask_lightning.errors import DatasetNotFoundError
from mask_lightning.labels import FACE_SETS, PERSON_TASKS, LabelSpace
from mask_lightning.settings.data import DataSettings
from mask_lightning.utils.files import find_path

log = logging.getLogger(__name__)

Reader = Callable[[Path], pd.DataFrame]  # folder -> sample table

READERS: dict[str, Reader] = {
    "auto": read_index,
    "competition": read_index,
    "utkface": read_utkface,
    "fairface": read_fairface,
}


@dataclass(frozen=True)
class LabelledPhotos:
    """A sample table and its labels.

    Attributes:
        table: one row per photo.
        space: the tasks that the table has targets of.
        strata: the tasks that describe a person, not a photo, by which a split is stratified.
        root: the folder of the photos.
        labels_as_read: the same rows before corrections; None if there are none.
        people_known: False if each photo counts as a person because nothing states who it is.
        split: options of the split that the column `side` states, for packed photos; None: not split yet.
    """

    table: pd.DataFrame
    space: LabelSpace
    strata: tuple[str, ...]
    root: Path
    labels_as_read: pd.DataFrame | None = None
    people_known: bool = True
    split: Mapping[str, Any] | None = None


def read_labelled_photos(
    data: DataSettings,
    *,
    space: LabelSpace | None = None,
    needed: Sequence[str] = (),
    portraits: Path | None = None,
    readers: Mapping[str, Reader] = READERS,
) -> LabelledPhotos:
    """Index the photos that the options name, without decoding them, and apply the label corrections.

    Packed photos have no files: `pipelines.photos.read_labelled` reads them, too.

    Args:
        data: kind of data, root, table and corrections.
        space: label space of data=table and data=folder; None infers it from columns or folder names. Other kinds of
            data have their own.
        needed: tasks that the table must have a column for.
        portraits: folder of drawn portraits; needed only if `data.is_drawn`.
        readers: replaces readers of other kinds of data than tables and class folders, by their names.

    Raises:
        DatasetNotFoundError: there are no photos of this kind in `data.root`.
        SampleTableError: a name, table or corrections file does not parse.
        LabelError: no column of the table is, or can be, a task, or a class folder is no class of it.
        ConfigError: a correction needs a column that these photos lack.
    """
    if data.table is not None:
        photos = read_photo_table(
            data.table, data.root, space=space, needed=needed, follow_symlinks=data.follow_symlinks
        )
    elif data.name == "folder":
        assert data.root is not None
        photos = read_class_folders(data.root, space=space)
    else:
        root = data.root or portraits
        assert root is not None, "draw the portraits first, as data.is_drawn"
        if data.follow_symlinks and data.name == "fairface":
            readers = {**readers, data.name: partial(read_fairface, follow_symlinks=True)}
        photos = read_photos(data.name, root, readers=readers)
    return apply_corrections(photos, data.corrections, agreed_by=data.agreed_by)


def read_photos(name: str, root: Path, *, readers: Mapping[str, Reader] = READERS) -> LabelledPhotos:
    """Index a face set whose kind is a key of READERS.

    Raises:
        DatasetNotFoundError, SampleTableError: see the readers.
    """
    try:
        table = readers[name](find_path(root).resolve())
    except DatasetNotFoundError as error:
        if has_class_folders(find_path(root)):
            raise DatasetNotFoundError(
                root, "folders with photos", remedy="add data=folder if each is a class"
            ) from error
        raise
    return LabelledPhotos(table, FACE_SETS[name], PERSON_TASKS, root)


def read_class_folders(root: Path, *, space: LabelSpace | None = None) -> LabelledPhotos:
    """Index photos in one folder per class; see `data.folders.read_folders`."""
    found = read_folders(root, space=space)
    strata = person_tasks(found.table, found.space)
    return LabelledPhotos(found.table, found.space, strata, root, people_known=found.people_known)


def read_photo_table(
    csv: Path,
    root: Path | None,
    *,
    space: LabelSpace | None,
    needed: Sequence[str] = (),
    follow_symlinks: bool = False,
) -> LabelledPhotos:
    """Read a CSV of photos, and log its label space if it is inferred; see `data.tables.read_table`."""
    table, found = read_table(csv, root, space=space, needed=needed, follow_symlinks=follow_symlinks)
    if space is None:
        log.info("label space of %s: %s", csv, "; ".join(f"{t.name} ({', '.join(t.classes)})" for t in found.tasks))
    return LabelledPhotos(table, found, person_tasks(table, found), root or find_path(csv).resolve().parent)


def apply_corrections(photos: LabelledPhotos, corrections: Path | None, *, agreed_by: int) -> LabelledPhotos:
    """Apply a corrections file, if there is one, and log the report; see `data.corrections.correct`."""
    if corrections is None:
        return photos
    table, report = correct(photos.table, corrections, agreed_by=agreed_by, space=photos.space)
    log.info("%s", report)
    return replace(photos, table=table, labels_as_read=photos.table)
