"""The labelled photos of a run: recorded in its folder, and compared with those that are there later."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from mask_lightning.data.splits import Split
from mask_lightning.errors import RunFolderError
from mask_lightning.pipelines.prepare import Photos
from mask_lightning.runs.folder import RunFolder
from mask_lightning.runs.photos import fingerprint, mark, short_name, what_changed
from mask_lightning.utils.files import write_atomically

ROLES = ("train", "val", "left out")  # left out: of the training side, but not this ensemble member's


def record_split(folder: RunFolder, photos: Photos) -> None:
    """Write split.csv: what `mark` says of each photo, and its `role`."""
    learned = photos.split.train["path"].isin(photos.learned["path"])
    train = mark(photos.split.train).assign(role=[ROLES[0] if used else ROLES[2] for used in learned])
    rows = pd.concat([train, mark(photos.split.val).assign(role=ROLES[1])], ignore_index=True)
    write_atomically(folder.split, rows.to_csv(index=False).encode())


def check_photos(folder: RunFolder, photos: Photos, *, remedy: str = "restore them") -> None:
    """Raises RunFolderError, with the names of some, where the photos are others than when the run was started."""
    if fingerprint(photos.everyone) == folder.read_result().data.get("fingerprint"):
        return
    changes = ""
    if folder.split.is_file():
        changes = what_changed(pd.read_csv(folder.split, dtype=str, keep_default_na=False), mark(photos.everyone))
    raise RunFolderError(
        f"expected in {photos.root} the photos that {folder.path} was trained on, found others"
        f"{f': {changes}' if changes else ''}; {remedy}"
    )


def without_skipped(folder: RunFolder, photos: Photos) -> Photos:
    """The photos of both sides without those that the run skipped, as they cannot be decoded."""
    skipped = folder.read_result().data.get("skipped", [])
    sides = (photos.split.train, photos.split.val)
    train, val = (rows[~rows["path"].map(short_name).isin(skipped)].reset_index(drop=True) for rows in sides)
    return replace(photos, split=Split(train, val), skipped=tuple(skipped))
