"""Turns a face set into a folder in the competition's layout, with seven shots of each person."""

import multiprocessing
import shutil
import tempfile
from collections.abc import Iterable, Iterator
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
from mask_lightning.synthetic.masks.aligned import CROPS, AlignedCrop
from mask_lightning.synthetic.masks.faces import Person, read_people
from mask_lightning.synthetic.masks.landmarks import FaceLandmarks, LandmarkSource, find_landmarks
from mask_lightning.synthetic.masks.shots import take_shots

TRAIN_COLUMNS = ["id", "gender", "race", "age", "path"]
PROVENANCE_COLUMNS = ["path", "source", "person_id", "shot", "mask_kind", "worn", "seed", "landmarks"]
LEFT_OUT_COLUMNS = ["source", "person_id", "reason"]


@dataclass(frozen=True)
class MaskingOptions:
    """How faces are found: `crop` is where the set's photos have them, `max_yaw` in degrees."""

    seed: int = 0
    crop: AlignedCrop = CROPS["portrait"]
    landmarks: LandmarkSource = "auto"
    max_yaw: float = 25.0


@dataclass(frozen=True)
class MaskedFolder:
    """What was written: the folder, its tables, and the photos that were left out with the reason."""

    root: Path
    people: pd.DataFrame
    provenance: pd.DataFrame
    left_out: pd.DataFrame


@dataclass
class _Outcome:
    """What became of one person."""

    train: list[tuple[object, ...]] = field(default_factory=list)
    provenance: list[tuple[object, ...]] = field(default_factory=list)
    left_out: list[tuple[object, ...]] = field(default_factory=list)


def mask_people(
    rows: pd.DataFrame,
    out: Path,
    *,
    options: MaskingOptions | None = None,
    workers: int = 1,
    progress: bool = True,
) -> MaskedFolder:
    """Write `out/train/images/<id>_<gender>_<race>_<age>/`, `train.csv`, `provenance.csv` and `left_out.csv`.

    Args:
        rows: path, person_id, gender (male, female), age (years) and, if known, race; one row per photo.
        out: a folder that does not exist yet; it appears complete or not at all.
        options: the seed, and how faces are found.
        workers: processes; with 1 everything happens in this one. The result is the same for any number.
        progress: whether to show a bar.

    Raises:
        ConfigError: `out` exists.
        SampleTableError: the table is incomplete or contradicts itself, or no photo could be used.
    """
    options = options or MaskingOptions()
    if out.exists():
        raise ConfigError(f"{out} exists already and is not overwritten; choose another out or remove it")
    people = read_people(rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        draft.chmod(0o755)
        outcomes = _outcomes(people, draft, options, workers)
        console = Console(stderr=True)  # stdout belongs to the door's own result
        done = list(track(outcomes, "drawing masks", total=len(people), console=console, disable=not progress))
        folder = _write_tables(draft, done, out)
        draft.rename(out)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return folder


def _outcomes(people: list[Person], root: Path, options: MaskingOptions, workers: int) -> Iterator[_Outcome]:
    one = partial(_mask_person, root=root, options=options)
    if workers <= 1:
        yield from map(one, people)
        return
    # spawn: MediaPipe and torch hold threads that a fork would break.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from pool.map(one, people, chunksize=4)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _mask_person(person: Person, *, root: Path, options: MaskingOptions) -> _Outcome:
    outcome = _Outcome()
    usable: list[tuple[Image.Image, FaceLandmarks]] = []
    sources: list[Path] = []
    for path in person.photos:
        found = _usable_face(path, options)
        if isinstance(found, str):
            outcome.left_out.append((str(path), person.person_id, found))
        else:
            usable.append(found)
            sources.append(path)
    if usable:
        outcome.train.append((person.person_id, person.gender, person.race, person.age, person.folder))
        _save_shots(person, usable, sources, outcome, root, options.seed)
    return outcome


def _save_shots(
    person: Person,
    usable: list[tuple[Image.Image, FaceLandmarks]],
    sources: list[Path],
    outcome: _Outcome,
    root: Path,
    seed: int,
) -> None:
    folder = root / "train" / "images" / person.folder
    folder.mkdir(parents=True)
    for taken in take_shots(usable, person_id=person.person_id, seed=seed):
        shot, file = taken.shot, folder / f"{taken.shot.name}.jpg"
        taken.portrait.save(file, quality=taken.quality)
        outcome.provenance.append(
            (
                file.relative_to(root).as_posix(),
                str(sources[taken.source]),
                person.person_id,
                shot.name,
                shot.kind or "none",
                shot.worn or "none",
                seed,
                usable[taken.source][1].source,
            )
        )


def _usable_face(path: Path, options: MaskingOptions) -> tuple[Image.Image, FaceLandmarks] | str:
    """The photo and its face, or the reason why it is left out."""
    try:
        photo = open_photo(path)
    except PhotoError as error:
        return str(error)
    face = find_landmarks(photo, options.crop, source=options.landmarks)
    if face is None:
        return "no face found"
    if face.yaw is not None and abs(face.yaw) > options.max_yaw:
        return f"head turned by {abs(face.yaw):.0f} degrees, more than {options.max_yaw:.0f}"
    return photo, face


def _write_tables(root: Path, outcomes: Iterable[_Outcome], out: Path) -> MaskedFolder:
    outcomes = list(outcomes)
    people = pd.DataFrame([row for o in outcomes for row in o.train], columns=TRAIN_COLUMNS)
    provenance = pd.DataFrame([row for o in outcomes for row in o.provenance], columns=PROVENANCE_COLUMNS)
    left_out = pd.DataFrame([row for o in outcomes for row in o.left_out], columns=LEFT_OUT_COLUMNS)
    if people.empty:
        raise SampleTableError(
            f"expected faces, found none in {len(left_out)} photos (first: {left_out['reason'].iloc[0]}); "
            "check that the crop is that of this face set"
        )
    people.to_csv(root / "train" / "train.csv", index=False)
    provenance.to_csv(root / "provenance.csv", index=False)
    left_out.to_csv(root / "left_out.csv", index=False)
    return MaskedFolder(out, people, provenance, left_out)
