"""Read the competition's folder layout into a sample table: a pandas DataFrame with a row per photo.

Columns: `person_id` (str, as in the folder name), `family` (str, people who must be on the same side of every split),
`race` (str), `years` (int), `shot` (str, the file's stem), `path` (str, absolute), and one integer target per
task of FACE (`mask`, `gender`, `age`).
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mask_lightning.data.csv_files import read_cells
from mask_lightning.data.families import sibling_families
from mask_lightning.data.images import MAX_NAMED, describe_left_out, divide_files, is_litter, leads_nowhere, name_some
from mask_lightning.errors import DatasetNotFoundError, SampleTableError
from mask_lightning.labels import GENDER, MASK, age_band
from mask_lightning.utils.files import find_path

log = logging.getLogger(__name__)

SHOTS = ("mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal")
OLDEST = 120  # years

_FOLDER = re.compile(r"(?P<id>[^_]+)_(?P<gender>[a-z]+)_(?P<race>[^_]+)_(?P<years>\d+)")


@dataclass(frozen=True)
class Person:
    """The labels in a folder name.

    Example:
        >>> Person.parse(Path("train/images/000012-1_female_Asian_27"))
        Person(person_id='000012-1', gender='female', race='Asian', years=27)
    """

    person_id: str
    gender: str
    race: str
    years: int

    @classmethod
    def parse(cls, folder: Path) -> Person:
        """Parse a folder named `<id>_<gender>_<race>_<age>`.

        Raises:
            SampleTableError: the name does not parse, or the age is above OLDEST.
        """
        match = _FOLDER.fullmatch(folder.name)
        if not match or match["gender"] not in GENDER.classes:
            raise SampleTableError(
                f"expected a folder named <id>_<male|female>_<race>_<age>, found {folder}; rename or remove it"
            )
        years = int(match["years"])
        if years > OLDEST:
            raise SampleTableError(f"expected an age of 0 to {OLDEST}, found {years} in {folder}; correct its name")
        return cls(match["id"], match["gender"], match["race"], years)


def find_images(root: Path) -> Path:
    """Find the folder with one folder per person; `root` may be that folder, `train/`, or the folder above `train/`.

    Raises:
        DatasetNotFoundError: none of these has a person's folder in it.
    """
    if not root.is_dir():
        raise DatasetNotFoundError(root, describe_folder(root))
    candidates = (root / "train" / "images", root / "images", root)
    for images in candidates:
        if images.is_dir() and any(_FOLDER.fullmatch(entry.name) for entry in images.iterdir()):
            return images
    raise DatasetNotFoundError(root, describe_folder(root))


def describe_folder(root: Path) -> str:
    """List the first few names in a folder, for an error message."""
    if not root.is_dir():
        return "a file" if root.exists() else "no such folder"
    inside = [entry.name for entry in sorted(root.iterdir()) if not is_litter(entry.name)]
    return ", ".join(inside[:5]) + (", ..." if len(inside) > 5 else "") or "nothing"


def people_folders(images: Path) -> list[Path]:
    """List the folders in `images`, sorted by name, without those that a system leaves there."""
    return [entry for entry in sorted(images.iterdir()) if entry.is_dir() and not is_litter(entry.name)]


def photos_of(folder: Path) -> tuple[list[Path], list[Path]]:
    """List the photos in one person's folder, and the other files, both sorted by name."""
    return divide_files(sorted(folder.iterdir()))


def read_index(root: str | Path) -> pd.DataFrame:
    """Index the photos below `root` without decoding them, sorted by folder and file name.

    Labels come from the folder names. A `train.csv` beside the folders is only checked: it must not name others. Files
    that are no photos are named in the log.

    Raises:
        DatasetNotFoundError: there are no people's folders below `root`, or no photos in them.
        SampleTableError: a folder or file name does not parse, or train.csv names a missing folder.
    """
    images = find_images(find_path(root).resolve())
    folders = people_folders(images)
    _check_csv(images.parent / "train.csv", {folder.name for folder in folders})
    rows: dict[Path, list[dict[str, object]]] = {}
    left_out: list[Path] = []
    for folder in folders:
        person = Person.parse(folder)
        photos, others = photos_of(folder)
        rows[folder] = [photo_row(person, photo) for photo in photos]
        left_out += others
    note = describe_left_out(left_out)
    table = pd.DataFrame([row for photos_rows in rows.values() for row in photos_rows])
    if table.empty:
        raise DatasetNotFoundError(images, f"folders of people without photos{note and f' ({note})'}")
    if note:
        log.warning("%s", note)
    loose, others = divide_files(sorted(images.iterdir()))
    if loose:
        log.warning("%d photos are in no person's folder and left out: %s", len(loose), name_some(loose))
    if links := [path for path in others if leads_nowhere(path)]:
        log.warning("%s", describe_left_out(links))
    if inner := [entry for folder in folders for entry in people_folders(folder)]:
        names = ", ".join(f"{entry.parent.name}/{entry.name}" for entry in inner[:MAX_NAMED])
        log.warning("%d folders inside people's folders are left out: %s", len(inner), names)
    table = add_family_and_age(table)
    _warn_about_counts(table, [folder for folder, photos in rows.items() if not photos])
    return table


def read_train_csv(path: Path) -> pd.DataFrame:
    """Read train.csv as text, "" for an empty cell. Raises SampleTableError if it is no CSV with a column `path`."""
    listed = read_cells(path, ["path"])
    if "path" not in listed:
        raise SampleTableError(f"expected a column `path` in {path}, found {', '.join(listed.columns)}; add it")
    return listed


def _check_csv(path: Path, folders: set[str]) -> None:
    if not path.is_file():
        return
    missing = sorted({*read_train_csv(path)["path"], ""} - {*folders, ""})
    if missing:
        raise SampleTableError(
            f"{path} names {len(missing)} folders that are not there ({', '.join(missing[:3])}); "
            "restore them or drop their lines"
        )


def add_family_and_age(table: pd.DataFrame) -> pd.DataFrame:
    """Add the columns of the sample table that `photo_row` leaves out."""
    table.insert(1, "family", table["person_id"].map(sibling_families(table["person_id"])))
    return table.assign(age=age_band(table["years"].to_numpy(int)))


def photo_row(person: Person, photo: Path) -> dict[str, object]:
    """Build one row of the sample table, without `family` and `age`. Raises SampleTableError for an unknown shot."""
    return {
        "person_id": person.person_id,
        "race": person.race,
        "years": person.years,
        "shot": photo.stem,
        "path": str(photo),
        "mask": mask_state(photo),
        "gender": GENDER.target(person.gender),
    }


def mask_state(photo: Path) -> int:
    """Return the target of `mask` that a file name states.

    Raises:
        SampleTableError: the name is not one of SHOTS.

    Example:
        >>> [mask_state(Path(name)) for name in ("mask1.jpg", "incorrect_mask.png", "normal.jpeg")]
        [0, 1, 2]
    """
    if photo.stem not in SHOTS:
        raise SampleTableError(f"expected a photo named {', '.join(SHOTS)}, found {photo}; rename or remove it")
    return MASK.target({"normal": "normal", "incorrect_mask": "incorrect"}.get(photo.stem, "wear"))


def expected_shots(table: pd.DataFrame) -> list[str]:
    """Return the shots that each person should have: all but masks that nobody has, as `mask_faces masks=1` draws one.

    Example:
        >>> expected_shots(pd.DataFrame({"shot": ["mask1", "mask3"]}))
        ['mask1', 'mask3', 'incorrect_mask', 'normal']
    """
    return [shot for shot in SHOTS if shot not in SHOTS[1:5] or (table["shot"] == shot).any()]


def _warn_about_counts(table: pd.DataFrame, without_photos: list[Path]) -> None:
    shots = table.groupby(["person_id", "years"])["shot"]
    usual = len(expected_shots(table))
    counts = shots.nunique().reset_index().itertuples()
    odd = [(row.person_id, row.shot) for row in counts if row.shot != usual]
    odd += [(Person.parse(folder).person_id, 0) for folder in without_photos]
    if odd:
        people = ", ".join(f"{person} ({count})" for person, count in odd[:5])
        log.warning("%d people do not have %d photos: %s; training goes on", len(odd), usual, people)
    twice = shots.count()[lambda count: count > shots.nunique()]
    if len(twice):
        people = ", ".join(twice.droplevel("years").head(5).index)
        log.warning("%d people have one shot in two files: %s; both are used", len(twice), people)
