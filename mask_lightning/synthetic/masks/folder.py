"""Turn a face set into a folder in the competition's layout, with several shots of each person."""

import multiprocessing
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd
from PIL import Image
from rich.console import Console
from rich.progress import track

from mask_lightning.data.images import open_photo
from mask_lightning.errors import ConfigError, PhotoError, SampleTableError
from mask_lightning.settings.mask_faces import CropName, LandmarkSource
from mask_lightning.synthetic.layout import TRAIN_COLUMNS, draft_folder, person_folder
from mask_lightning.synthetic.masks.landmarks import CROPS, FaceLandmarks, find_landmarks
from mask_lightning.synthetic.masks.shots import draw_shots

COLUMNS = ("path", "person_id", "gender", "age")
GENDERS = ("male", "female")
PROVENANCE_COLUMNS = ("path", "source", "person_id", "shot", "mask_kind", "worn", "seed", "landmarks")
LEFT_OUT_COLUMNS = ("source", "person_id", "reason")
# Other characters would make the folder name <id>_<gender>_<race>_<age> ambiguous.
SAFE_ID = re.compile(r"[A-Za-z0-9-]+")

Face = tuple[Image.Image, FaceLandmarks]


@dataclass(frozen=True)
class Person:
    """One person of a face set with their photos; `age` in years."""

    person_id: str
    gender: str
    race: str
    age: int
    photos: tuple[Path, ...]

    @property
    def folder(self) -> str:
        """Folder name ``<id>_<gender>_<race>_<age>``."""
        return person_folder(self.person_id, self.gender, self.race, self.age)


@dataclass(frozen=True)
class MaskedFolder:
    """Result of `mask_people`: the folder and its tables.

    Attributes:
        root: Folder that was written.
        people: One row per person, as in `train/train.csv`.
        provenance: One row per drawn photo: its source, mask, seed and landmarks.
        left_out: One row per photo that was not used, with the reason.
    """

    root: Path
    people: pd.DataFrame
    provenance: pd.DataFrame
    left_out: pd.DataFrame


@dataclass
class _Rows:
    """Rows that one person adds to the three tables."""

    people: list[tuple[object, ...]] = field(default_factory=list)
    provenance: list[tuple[object, ...]] = field(default_factory=list)
    left_out: list[tuple[object, ...]] = field(default_factory=list)


def mask_people(
    rows: pd.DataFrame,
    out: Path,
    *,
    seed: int = 0,
    masks: int = 5,
    crop: CropName = "portrait",
    landmarks: LandmarkSource = "auto",
    max_yaw: float = 35.0,
    workers: int = 1,
    progress: bool = True,
) -> MaskedFolder:
    """Draw each person with masks and without, and write these shots in the competition's layout.

    Photos are written to `out/train/images/<id>_<gender>_<race>_<age>/`, tables to `out/train/train.csv`,
    `out/provenance.csv` and `out/left_out.csv`. `out` appears complete or not at all.

    Args:
        rows: One row per photo with the columns path, person_id, gender (male, female), age (years) and, optionally,
            race.
        out: Folder that does not exist yet.
        seed: Seed of masks, framing and light; a person is drawn the same in any set.
        masks: Shots of each person with a mask worn right, 1 to 5, beside one worn wrong and one without a mask.
        crop: Place of the face in the photos, a key of `CROPS`.
        landmarks: How faces are found.
        max_yaw: Heads turned further, in degrees, are left out (the source "geometry" does not measure it).
        workers: Number of processes; 1 uses the current process. The result does not depend on it.
        progress: Show a progress bar.

    Raises:
        ConfigError: If `out` exists.
        SampleTableError: If the table is incomplete or contradictory, or no photo is usable.
    """
    if out.exists():
        raise ConfigError(f"{out} exists already and is not overwritten; choose another out or remove it")
    people = read_people(rows)
    find_face = partial(_find_face, crop=crop, landmarks=landmarks, max_yaw=max_yaw)
    with draft_folder(out) as draft:
        draft.mkdir()
        mask_one = partial(_mask_person, root=draft, seed=seed, masks=masks, find_face=find_face)
        results = _mask_all(people, mask_one, workers)
        console = Console(stderr=True)  # stdout is reserved for results
        done = list(track(results, "drawing masks", total=len(people), console=console, disable=not progress))
        folder = _write_tables(draft, done, out)
        draft.rename(out)
    return folder


def read_people(rows: pd.DataFrame) -> list[Person]:
    """Group the photos of a table by person.

    Args:
        rows: See `mask_people`.

    Raises:
        SampleTableError: If a column or an entry is missing or invalid, or a person has two ages or genders.
    """
    missing = [column for column in COLUMNS if column not in rows.columns]
    if missing:
        raise SampleTableError(
            f"expected the columns {', '.join(COLUMNS)}; {', '.join(missing)} missing; add or rename them"
        )
    if rows.empty:
        raise SampleTableError("expected at least one photo, found an empty table; check data.root")
    empty = [column for column in COLUMNS if rows[column].isna().any()]
    if empty:
        raise SampleTableError(f"expected no empty entries, found some in {', '.join(empty)}; fill or drop those rows")
    return [_read_person(str(name), group) for name, group in rows.groupby("person_id", sort=True)]


def _read_person(person_id: str, rows: pd.DataFrame) -> Person:
    if not SAFE_ID.fullmatch(person_id):
        raise SampleTableError(
            f"expected person ids of letters, digits and '-', found {person_id!r}; rename that person"
        )
    gender = _only_value(rows, "gender", person_id)
    if gender not in GENDERS:
        raise SampleTableError(f"expected gender male or female, found {gender!r} for {person_id}; correct it")
    # FairFace writes Latino_Hispanic, but underscores separate the parts of a folder name.
    race = re.sub(r"[^A-Za-z]", "", str(rows["race"].iloc[0])) if "race" in rows.columns else ""
    photos = tuple(Path(path) for path in rows["path"])
    age = _parse_age(_only_value(rows, "age", person_id), person_id)
    return Person(person_id, gender, race or "Unknown", age, photos)


def _parse_age(age: str, person_id: str) -> int:
    try:
        years = float(age)
    except ValueError:
        years = -1.0
    if not 0 <= years <= 120:
        raise SampleTableError(
            f"expected an age in years from 0 to 120, found {age!r} for {person_id}; correct it "
            "(for an age band give a year inside it)"
        )
    return int(years)


def _only_value(rows: pd.DataFrame, column: str, person_id: str) -> str:
    found = sorted({str(value) for value in rows[column]})
    if len(found) > 1:
        raise SampleTableError(
            f"expected one {column} for person {person_id}, found {' and '.join(found)}; "
            "correct the table or give the photos different person ids"
        )
    return found[0]


def _mask_all(people: list[Person], mask_one: Callable[[Person], _Rows], workers: int) -> Iterator[_Rows]:
    if workers <= 1:
        yield from map(mask_one, people)
        return
    # spawn: MediaPipe and torch hold threads that a fork would break.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from pool.map(mask_one, people, chunksize=4)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _mask_person(
    person: Person, *, root: Path, seed: int, masks: int, find_face: Callable[[Path], Face | str]
) -> _Rows:
    rows = _Rows()
    faces: list[Face] = []
    sources: list[Path] = []
    for path in person.photos:
        found = find_face(path)
        if isinstance(found, str):
            rows.left_out.append((str(path), person.person_id, found))
        else:
            faces.append(found)
            sources.append(path)
    if faces:
        rows.people.append((person.person_id, person.gender, person.race, person.age, person.folder))
        folder = root / "train" / "images" / person.folder
        folder.mkdir(parents=True)
        for drawn in draw_shots(faces, person_id=person.person_id, seed=seed, masks=masks):
            shot, file = drawn.shot, folder / f"{drawn.shot.name}.jpg"
            drawn.portrait.save(file, quality=drawn.quality)
            provenance = {
                "path": file.relative_to(root).as_posix(),
                "source": str(sources[drawn.source]),
                "person_id": person.person_id,
                "shot": shot.name,
                "mask_kind": shot.kind or "none",
                "worn": shot.worn or "none",
                "seed": seed,
                "landmarks": faces[drawn.source][1].source,
            }
            rows.provenance.append(tuple(provenance[column] for column in PROVENANCE_COLUMNS))
    return rows


def _find_face(path: Path, *, crop: CropName, landmarks: LandmarkSource, max_yaw: float) -> Face | str:
    """Photo and landmarks, or the reason why the photo is left out."""
    try:
        photo = open_photo(path)
    except PhotoError as error:
        return str(error)
    face = find_landmarks(photo, CROPS[crop], source=landmarks)
    if face is None:
        return "no face found"
    if face.yaw is not None and abs(face.yaw) > max_yaw:
        return f"head turned by {abs(face.yaw):.0f} degrees, more than {max_yaw:.0f}"
    return photo, face


def _write_tables(root: Path, results: list[_Rows], out: Path) -> MaskedFolder:
    people = pd.DataFrame([row for rows in results for row in rows.people], columns=list(TRAIN_COLUMNS))
    provenance = pd.DataFrame([row for rows in results for row in rows.provenance], columns=list(PROVENANCE_COLUMNS))
    left_out = pd.DataFrame([row for rows in results for row in rows.left_out], columns=list(LEFT_OUT_COLUMNS))
    if people.empty:
        raise SampleTableError(
            f"expected faces, found none in {len(left_out)} photos (first: {left_out['reason'].iloc[0]}); "
            "check that crop is the one of this face set"
        )
    people.to_csv(root / "train" / "train.csv", index=False)
    provenance.to_csv(root / "provenance.csv", index=False)
    left_out.to_csv(root / "left_out.csv", index=False)
    return MaskedFolder(out, people, provenance, left_out)
