"""Pipeline of the command `mask_faces`: a face set becomes photos with and without masks. Imports no torch."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mask_lightning.data.families import sibling_families
from mask_lightning.data.images import open_photo
from mask_lightning.data.sources import LabelledPhotos, read_labelled_photos
from mask_lightning.data.splits import limit_people
from mask_lightning.errors import ConfigError, SampleTableError
from mask_lightning.labels import FACE, GENDER, MASK, PERSON_TASKS, UNLABELLED
from mask_lightning.reports.mask_faces_report import print_masked
from mask_lightning.settings.data import DataSettings
from mask_lightning.settings.mask_faces import CropName, MaskFacesSettings
from mask_lightning.synthetic.masks.folder import MaskedFolder, mask_people
from mask_lightning.utils.system import share_of_cores

log = logging.getLogger(__name__)

SECONDS_PER_SHOT = 0.1  # on one core, approximately
WIDE_CROP = 300  # pixels: FairFace's photos with margin 0.25 are 224 wide, those with margin 1.25 are 448 wide


def mask_faces(settings: MaskFacesSettings) -> MaskedFolder:
    """Draw masks on the photos of a face set, write the folder `out`, and print a report.

    Args:
        settings: Options of the command; at most `data.limit_people` people are drawn.

    Raises:
        ConfigError: If `out` exists, or an option does not fit these photos.
        MaskLightningError: If the photos or their labels are not usable.
    """
    assert settings.out is not None
    if settings.out.exists():
        raise ConfigError(f"{settings.out} exists already and is not overwritten; choose another out or remove it")
    data = settings.data
    photos = read_faces(data)
    rows = select_labelled(photos)
    if data.limit_people:
        rows = limit_people(rows, data.limit_people, seed=data.split_seed, strata=photos.strata)
    workers = settings.workers or share_of_cores()
    people = rows["person_id"].nunique()
    _warn_about_families(rows["person_id"])
    hours = people * (settings.masks + 2) * SECONDS_PER_SHOT / workers / 3600
    if hours > 1:
        log.warning("%d people take about %.0f hours; data.limit_people=2000 draws 2,000 of them", people, hours)
    folder = mask_people(
        to_face_table(rows),
        settings.out,
        seed=settings.seed,
        masks=settings.masks,
        crop=settings.crop or choose_crop(data.name, Path(rows["path"].iloc[0])),
        landmarks=settings.landmarks,
        max_yaw=settings.max_yaw,
        workers=workers,
        progress=settings.progress,
    )
    print_masked(folder)
    return folder


def read_faces(data: DataSettings) -> LabelledPhotos:
    """Read the photos to draw on, corrections applied; photos of people with a mask are skipped."""
    photos = read_labelled_photos(data, space=FACE.only(PERSON_TASKS), needed=PERSON_TASKS)
    if MASK.name not in photos.space.names:
        return photos
    unmasked = photos.table["mask"] == MASK.target("normal")
    return replace(photos, table=photos.table[unmasked].reset_index(drop=True), labels_as_read=None)


def select_labelled(photos: LabelledPhotos) -> pd.DataFrame:
    """Select the photos whose gender and age in years are known; warn about the others.

    Raises:
        SampleTableError: If there is none.
    """
    table = photos.table
    years = table["years"] if "years" in table else pd.Series(float("nan"), table.index)
    known = (table["gender"] != UNLABELLED) & years.notna()
    if not known.any():
        raise SampleTableError(
            f"expected a gender and an age in years per photo, found none with both among {len(table)}; "
            "write years into the column age, or into a column years beside it"
        )
    if not known.all():
        log.warning("%d photos without gender or without age in years are left out", (~known).sum())
    return table[known].reset_index(drop=True)


def to_face_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Convert rows of the sample table to the columns of `mask_people`: path, person_id, gender, age and race."""
    genders = rows["gender"].map(dict(enumerate(GENDER.classes)))
    columns = {"path": rows["path"], "person_id": rows["person_id"], "gender": genders, "age": rows["years"]}
    if "race" in rows:
        columns["race"] = rows["race"]
    return pd.DataFrame(columns)


def choose_crop(name: str, photo: Path) -> CropName:
    """Choose the crop of a public face set by its name; the width of one photo reveals FairFace's margin."""
    if name == "fairface":
        return "fairface_125" if open_photo(photo).width >= WIDE_CROP else "fairface_025"
    return "utkface" if name == "utkface" else "portrait"


def _warn_about_families(person_ids: pd.Series[str]) -> None:
    # Training treats `a-1` and `a-2` as relatives of `a`, who stay on the same side of a split.
    ids = set(person_ids)
    families = set(sibling_families(ids).values())
    if len(families) < len(ids):
        log.warning(
            "some of %d people have the id of another with -<number> behind it; in training these stay on one side of "
            "the split, %d families in all; if they are unrelated, write their ids without the dash",
            len(ids),
            len(families),
        )
