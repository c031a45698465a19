"""Settings -> a face set with masks drawn on it. Loads no torch."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from mask_lightning.data.images import open_photo
from mask_lightning.data.index import family_of
from mask_lightning.data.sources import LabelledPhotos, corrected, read_photo_table, read_photos
from mask_lightning.data.splits import limit_people
from mask_lightning.errors import ConfigError, SampleTableError
from mask_lightning.labels import FACE, GENDER, MASK, PERSON_TASKS, UNLABELLED
from mask_lightning.settings.data import DataSettings
from mask_lightning.settings.mask_faces import MaskFacesSettings
from mask_lightning.synthetic.masks.aligned import CROPS
from mask_lightning.synthetic.masks.folder import MaskedFolder, MaskingOptions, mask_people
from mask_lightning.utils.system import share_of_cores

log = logging.getLogger(__name__)

SECONDS_PER_PERSON = 1.0  # of one core, about
WIDE_CROP = 300  # pixels: FairFace's photos are 224 wide with a margin of 0.25 and 448 with one of 1.25


def mask_faces(settings: MaskFacesSettings) -> MaskedFolder:
    """Read the face set, draw at most `data.limit_people` of its people, and write the folder `out`.

    Raises:
        ConfigError: `out` exists, or an option does not fit these photos.
        MaskLightningError: whatever is wrong with the photos.
    """
    assert settings.out is not None
    if settings.out.exists():
        raise ConfigError(f"{settings.out} exists already and is not overwritten; choose another out or remove it")
    data = settings.data
    photos = corrected(read_faces(data), data.corrections, agreed_by=data.agreed_by)
    rows = with_gender_and_age(photos)
    if data.limit_people:
        rows = limit_people(rows, data.limit_people, seed=data.split_seed, strata=photos.strata)
    workers = settings.workers or share_of_cores()
    people = rows["person_id"].nunique()
    _warn_of_families(rows["person_id"])
    if people * SECONDS_PER_PERSON / workers > 3600:
        hours = people * SECONDS_PER_PERSON / workers / 3600
        log.warning("%d people take about %.0f hours; data.limit_people=2000 draws a part", people, hours)
    crop = settings.crop or crop_of(data.name, Path(rows["path"].iloc[0]))
    options = MaskingOptions(settings.seed, CROPS[crop], settings.landmarks, settings.max_yaw)
    return mask_people(described(rows), settings.out, options=options, workers=workers, progress=settings.progress)


def read_faces(data: DataSettings) -> LabelledPhotos:
    """The photos to draw on; of the competition's those without a mask."""
    if data.table is not None:
        return read_photo_table(data.table, data.root, space=FACE.only(PERSON_TASKS), needed=PERSON_TASKS)
    assert data.root is not None
    photos = read_photos(data.name, data.root)
    if MASK.name not in photos.space.names:
        return photos
    bare = photos.table["mask"] == MASK.target("normal")
    return LabelledPhotos(photos.table[bare].reset_index(drop=True), photos.space, photos.strata, photos.root)


def with_gender_and_age(photos: LabelledPhotos) -> pd.DataFrame:
    """The rows of which both are known, with a warning about the others.

    Raises:
        SampleTableError: there is none.
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


def described(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the sample table -> path, person_id, gender, age in years and race, as `mask_people` takes them."""
    genders = rows["gender"].map(dict(enumerate(GENDER.classes)))
    columns = {"path": rows["path"], "person_id": rows["person_id"], "gender": genders, "age": rows["years"]}
    if "race" in rows:
        columns["race"] = rows["race"]
    return pd.DataFrame(columns)


def crop_of(name: str, photo: Path) -> str:
    """Where photos of this kind have the face: a key of CROPS. One photo tells which of FairFace's margins it is."""
    if name == "fairface":
        return "fairface_125" if open_photo(photo).width >= WIDE_CROP else "fairface_025"
    return "utkface" if name == "utkface" else "portrait"


def _warn_of_families(person_ids: pd.Series[str]) -> None:
    """`a-1` and `a-2` will be taken for relatives of `a`, who share a side of every split."""
    ids = set(person_ids)
    families = {family_of(person_id) for person_id in ids}
    if len(families) < len(ids):
        log.warning(
            "%d people have ids that differ in a last -<number> only; in training they share a side of the split, "
            "%d families in all; where they are strangers, write their ids without the dash",
            len(ids),
            len(families),
        )
