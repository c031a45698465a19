"""Labelled photos of a run: find, split, record and compare them, and replace those that cannot be decoded."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.data.cache import PreparedPhotos
from mask_lightning.data.duplicates import describe_sharing, find_shared_photos, link_families
from mask_lightning.data.images import Broken, explain_broken, find_broken, log_and_shorten
from mask_lightning.data.packed import check_split, open_packed
from mask_lightning.data.sources import READERS, LabelledPhotos, Reader, read_labelled_photos
from mask_lightning.data.splits import Split, check_classes, hold_out
from mask_lightning.ensemble.subsets import member_rows, restore_member_rows
from mask_lightning.errors import PhotoError, RunFolderError
from mask_lightning.labels import LabelSpace
from mask_lightning.pipelines.age_targets import keep_training_ages, set_age_targets
from mask_lightning.runs.folder import RunFolder
from mask_lightning.runs.photos import (
    ROLES,
    describe_changes,
    find_recorded,
    fingerprint,
    identify_photos,
    read_split,
    short_name,
)
from mask_lightning.settings.data import DataSettings
from mask_lightning.settings.train import TrainSettings
from mask_lightning.synthetic.portraits import write_portraits
from mask_lightning.utils.files import location, write_atomically

log = logging.getLogger(__name__)

PORTRAIT_SEED = 0  # everyone draws the same portraits, so that scores on them can be compared
MAX_SKIPPED = 0.01  # share of the photos; if more cannot be decoded, a person should look
SPLIT_ANEW = "name labelled photos that the network has not seen with data.root"


@dataclass(frozen=True)
class Photos:
    """A split of labelled photos and the tasks that are learned from them.

    Attributes:
        split: all people of both sides.
        labels: training rows of this run with labels as read: all of split.train, or what an ensemble's member or
            `labels.age.leave_out` leaves of it.
        targets: the same rows with the targets that the network is trained on (`labels.age.train_cuts`).
        space: tasks that the network learns.
        root: folder that the photos are below.
        drawn: True for the built-in portraits.
        fold: (i, k) if fold i of k is held out.
        skipped: names of photos that cannot be decoded.
        without_face: names of photos in which no face was detected, for data.crop=face.
    """

    split: Split
    labels: pd.DataFrame
    targets: pd.DataFrame
    space: LabelSpace
    root: Path
    drawn: bool
    fold: tuple[int, int] | None = None
    skipped: tuple[str, ...] = ()
    without_face: tuple[str, ...] = ()

    @property
    def everyone(self) -> pd.DataFrame:
        """Rows of both sides."""
        return pd.concat([self.split.train, self.split.val], ignore_index=True)

    def describe(self) -> dict[str, Any]:
        """Return root, fold, people and photos per side, and names of exceptional photos as plain values."""
        sides = {
            side: {"people": int(rows["person_id"].nunique()), "photos": len(rows)}
            for side, rows in (("train", self.labels), ("val", self.split.val))
        }
        fold = {"fold": self.fold[0], "folds": self.fold[1]} if self.fold else {}
        exceptions = {"skipped": list(self.skipped), "without_face": list(self.without_face)}
        listed = {name: photos for name, photos in exceptions.items() if photos}
        return {"root": location(self.root), "drawn": self.drawn, **fold, **sides, **listed}


def find_photos(settings: TrainSettings) -> Photos:
    """Read and split the photos of a run; draw portraits if the options name none.

    Thumbnails by which duplicates are found are kept in the cache folder, with every `data.cache`: they are small, and
    without them each start would decode all photos.

    Args:
        settings: all options of the run.

    Raises:
        MaskLightningError: the photos, their labels or the split are not as expected.
    """
    data, photos = settings.data, _read(settings)
    space = settings.choose(photos.space)
    photos, split = split_photos(
        photos, data, space, cache_folder=settings.cache_folder, progress=settings.trainer.progress
    )
    rows = keep_training_ages(split.train, settings.labels.age, settings.head)
    if settings.member is not None:
        rows = _member_rows(rows, settings.member, data, space)
    return _photos(settings, photos, split, rows)


def split_photos(
    photos: LabelledPhotos, data: DataSettings, space: LabelSpace, *, cache_folder: Path, progress: bool
) -> tuple[LabelledPhotos, Split]:
    """Split photos as the options say, and check that both sides have every class; packed photos are split already.

    Args:
        photos: labelled photos.
        data: options of the split.
        space: tasks of which both sides must have every class.
        cache_folder: folder of the thumbnails by which duplicates are found.
        progress: show a progress bar.

    Returns:
        The photos, with the families of people who share photos joined, and the split.

    Raises:
        SplitError: the people cannot be split, or packed photos were split with other options.
    """
    options = data.split_options
    if photos.split is not None:
        check_split(photos.split, options)
        options |= {"folds": None, "fold": None}  # the sides are those of the fold that was packed
    elif data.val_fraction > 0:
        pairs = find_shared_photos(photos.table, root=photos.root, folder=cache_folder, progress=progress)
        photos = link_people(photos, pairs)
    split = hold_out(photos.table, **options, strata=photos.strata, labels=photos.labels_as_read, space=space)
    check_classes(split, space, table=photos.table)
    return photos, split


def restore_photos(settings: TrainSettings, folder: RunFolder, *, remedy: str = "restore them") -> Photos:
    """Read the photos of a run again, and take sides and roles from its split.csv.

    A split is recorded, not computed again: another version may split the same photos otherwise.

    Args:
        settings: options of the run.
        folder: the run.
        remedy: end of the message if photos have changed.

    Raises:
        RunFolderError: split.csv is missing, or photos were added, removed, changed or labelled otherwise since; names
            some of them. Photos that `data.limit_people` left out are not recorded, so added ones are ignored then.
        MaskLightningError: the photos cannot be read.
    """
    photos = _read(settings)
    others = f"expected in {photos.root} the photos that {folder.path} was trained on, found others"
    if not folder.split.is_file():
        if fingerprint(photos.table) != folder.read_result().data.get("fingerprint"):
            raise RunFolderError(f"{others}; {remedy}")
        raise RunFolderError(
            f"expected {folder.split}, which records who was held out, found none; restore it, or {SPLIT_ANEW}"
        )
    recorded, found = read_split(folder.split), identify_photos(photos.table)
    # A limit, and a given split with near-duplicates, leave out photos that are not recorded.
    not_recorded = settings.data.limit_people is not None or "side" in photos.table
    changes = describe_changes(recorded, found, ignore_new=not_recorded)
    if changes:
        raise RunFolderError(f"{others}: {changes}; {remedy}")
    table = photos.table.iloc[find_recorded(recorded, found)].reset_index(drop=True)
    if "family" in recorded:
        table["family"] = recorded["family"]
    if fingerprint(table) != folder.read_result().data.get("fingerprint"):
        raise RunFolderError(f"{others}; {remedy}")
    role = recorded["role"]
    split = Split(*(rows.reset_index(drop=True) for rows in (table[role != "val"], table[role == "val"])))
    shared = sorted(set(split.train["person_id"]) & set(split.val["person_id"]))
    if shared:
        log.warning("%s held out people whom it was trained on, too: %s", folder.path, ", ".join(shared[:5]))
    rows = table[role == "train"].reset_index(drop=True)
    return _photos(settings, photos, split, restore_member_rows(rows, settings.member) if settings.member else rows)


def _read(settings: TrainSettings) -> LabelledPhotos:
    space = settings.known_space
    return read_labelled(settings.data, space, needed=settings.task.needed(space), outputs=settings.outputs)


def _photos(settings: TrainSettings, photos: LabelledPhotos, split: Split, rows: pd.DataFrame) -> Photos:
    """Return the photos of a run that trains on `rows`."""
    data = settings.data
    return Photos(
        split,
        rows,
        set_age_targets(rows, settings.labels.age),
        settings.choose(photos.space),
        photos.root,
        drawn=data.is_drawn,
        fold=None if data.fold is None or data.folds is None else (data.fold, data.folds),
    )


def link_people(photos: LabelledPhotos, pairs: npt.NDArray[np.int64]) -> LabelledPhotos:
    """Join the families of people who share photos, so that no photo is on both sides; logs how many there are.

    Args:
        photos: labelled photos.
        pairs: result of `data.duplicates.find_shared_photos`.
    """
    table = photos.table
    if not len(pairs):
        return photos
    families = link_families(table["family"], pairs)
    log.warning(
        "%s: %d families become %d, so that no photo is on both sides of the split; "
        "python -m mask_lightning.audit shows the photos",
        describe_sharing(table, pairs, people_known=photos.people_known),
        table["family"].nunique(),
        families.nunique(),
    )
    as_read = photos.labels_as_read
    return replace(
        photos,
        table=table.assign(family=families),
        labels_as_read=None if as_read is None else as_read.assign(family=families),
    )


def read_labelled(
    data: DataSettings,
    space: LabelSpace | None,
    *,
    needed: Sequence[str] = (),
    outputs: Path = Path("outputs"),
    readers: Mapping[str, Reader] = READERS,
) -> LabelledPhotos:
    """Read the labelled photos that `data` names, corrections applied; draw portraits if it names none.

    Args:
        data: layout and place of the photos.
        space: label space of data=table and data=folder; None infers it from columns or folder names.
        needed: tasks that a table must have.
        outputs: folder below which portraits are drawn.
        readers: as in `data.sources.read_labelled_photos`.

    Raises:
        MaskLightningError: the photos or their labels are not as expected.
    """
    portraits = draw_portraits(data.portraits, outputs) if data.is_drawn else None
    if data.name == "packed":
        return _read_packed(data, data.cache_below(outputs))
    return read_labelled_photos(data, space=space, needed=needed, portraits=portraits, readers=readers)


def _read_packed(data: DataSettings, cache_folder: Path) -> LabelledPhotos:
    """Read the sample table of packed photos. Raises PackedError if it cannot be read."""
    assert data.root is not None
    packed = open_packed(data.root, folder=cache_folder, cache_gb=data.cache_gb)
    known = packed.manifest
    return LabelledPhotos(
        packed.sample_table(),
        LabelSpace.from_plain(known.space),
        tuple(known.strata),
        data.root,
        people_known=known.people_known,
        split=known.split,
    )


def draw_portraits(people: int, outputs: Path) -> Path:
    """Return the folder of the built-in default data; draw it on first use."""
    return write_portraits(outputs / "data" / f"portraits-{people}", people=people, seed=PORTRAIT_SEED)


def _member_rows(train: pd.DataFrame, member: str, data: DataSettings, space: LabelSpace) -> pd.DataFrame:
    """Return the training rows of an ensemble's member, and log how balanced they are."""
    task = space.tasks[0]
    rows = member_rows(train, member, seed=data.split_seed, task=task, match_minority=data.match_minority)
    counts = [int((rows[task.name] == i).sum()) for i in range(task.num_classes)]
    log.info(
        "member %s: %d of %d people; photos per class of %s: %s",
        member,
        rows["person_id"].nunique(),
        train["person_id"].nunique(),
        task.name,
        ", ".join(f"{name} {count}" for name, count in zip(task.classes, counts, strict=True)),
    )
    return rows


def check_few_broken(broken: Mapping[str, str], total: int, data: DataSettings, *, remedy: str) -> None:
    """Raise PhotoError unless broken photos are skipped and are at most MAX_SKIPPED of all.

    Args:
        broken: path -> reason; may be empty.
        total: number of all photos.
        data: has `on_bad_photo`.
        remedy: what skipping them means, for the message.
    """
    few, skip = len(broken) <= MAX_SKIPPED * total, data.on_bad_photo == "skip"
    if broken and not (few and skip):
        limit = f", more than the {MAX_SKIPPED:.0%} that data.on_bad_photo=skip leaves out" if skip else ""
        advice = f", or {remedy}: data.on_bad_photo=skip" if few else ""
        names = log_and_shorten(list(broken.values()))
        raise PhotoError(f"{len(broken)} of {total} photos cannot be decoded{limit}: {names}{advice}")


def replace_broken(settings: TrainSettings, photos: Photos, cache: PreparedPhotos | None) -> Photos:
    """Return the photos without those that cannot be decoded; the same object if all can.

    With `data.on_bad_photo=skip` another training photo of the same classes takes the place of a broken one, chosen by
    the seed; broken photos of held-out people are not scored.

    Args:
        settings: options of the run.
        photos: as found.
        cache: tells which photos are broken; without it, all are decoded once here.

    Raises:
        PhotoError: names all broken photos, unless they are skipped and are at most MAX_SKIPPED of all.
    """
    paths = list(dict.fromkeys([*photos.labels["path"], *photos.split.val["path"]]))
    broken = _find_broken(paths, cache, progress=settings.trainer.progress)
    if not broken:
        return photos
    check_few_broken(broken, len(paths), settings.data, remedy="train without them")
    for reason in broken.values():
        log.warning("skipped: %s", reason)
    log.warning("%d of %d photos are skipped (data.on_bad_photo=skip)", len(broken), len(paths))
    rows = replace_rows(photos.labels, broken, photos.space.names, seed=settings.seed)
    sides = (photos.split.train, photos.split.val)
    return replace(
        photos,
        split=Split(*(side[~side["path"].isin(broken)].reset_index(drop=True) for side in sides)),
        labels=rows,
        targets=set_age_targets(rows, settings.labels.age),
        skipped=tuple(map(short_name, broken)),
    )


def replace_rows(rows: pd.DataFrame, broken: Collection[str], tasks: Sequence[str], *, seed: int) -> pd.DataFrame:
    """Return the rows with another row of the same targets for each broken photo; without it if there is none."""
    group = rows.groupby(list(tasks)).ngroup().to_numpy()
    whole = ~rows["path"].isin(broken).to_numpy()
    generator, place = np.random.default_rng(seed), np.arange(len(rows))
    for row in np.flatnonzero(~whole):
        alike = np.flatnonzero(whole & (group == group[row]))
        place[row] = generator.choice(alike) if len(alike) else -1
    return rows.iloc[place[place >= 0]].reset_index(drop=True)


def _find_broken(paths: Sequence[str], cache: PreparedPhotos | None, *, progress: bool) -> Broken:
    if cache is None:
        return find_broken(paths, progress=progress)
    return explain_broken([path for path in paths if not cache.holds(path)])


def record_split(folder: RunFolder, photos: Photos) -> None:
    """Write split.csv: a row per photo (`runs.photos.identify_photos`) with its `role`."""
    used = photos.split.train["path"].isin(photos.labels["path"])
    train = identify_photos(photos.split.train).assign(role=[ROLES[0] if each else ROLES[2] for each in used])
    rows = pd.concat([train, identify_photos(photos.split.val).assign(role=ROLES[1])], ignore_index=True)
    write_atomically(folder.split, rows.to_csv(index=False).encode())


def record_extra(folder: RunFolder, rows: pd.DataFrame) -> None:
    """Write extra.csv: photo and size of each photo of `data.extra`, so that nobody is scored on them unnoticed."""
    if len(rows):
        identified = identify_photos(rows)[["photo", "bytes"]].assign(role=ROLES[0])
        write_atomically(folder.extra, identified.to_csv(index=False).encode())


def without_skipped(folder: RunFolder, photos: Photos) -> Photos:
    """Return the photos of both sides without those that the run skipped because they cannot be decoded."""
    skipped = folder.read_result().data.get("skipped", [])
    sides = (photos.split.train, photos.split.val)
    train, val = (rows[~rows["path"].map(short_name).isin(skipped)].reset_index(drop=True) for rows in sides)
    return replace(photos, split=Split(train, val), skipped=tuple(skipped))
