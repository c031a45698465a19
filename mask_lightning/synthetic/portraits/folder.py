"""Write the folder of portraits: drawn once, complete or absent, recognised by its file `portraits.json`."""

import csv
import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from mask_lightning.errors import ConfigError
from mask_lightning.synthetic.layout import SHOT_NAMES, TRAIN_COLUMNS, draft_folder
from mask_lightning.synthetic.portraits.masks import MASK_KINDS, MISPLACEMENTS, Mask, sample_mask
from mask_lightning.synthetic.portraits.people import Person, sample_people
from mask_lightning.synthetic.portraits.photos import draw_photo, sample_shot

DRAWING_VERSION = 1  # increase it when the drawing changes: folders of older versions are drawn again
STAMP_FILE = "portraits.json"


def write_portraits(root: Path, *, people: int = 60, seed: int = 0) -> Path:
    """Draw labelled portraits in the competition's layout, unless ``root`` already holds them.

    Photos are written to ``root/train/images/<id>_<gender>_<race>_<age>/``, labels to ``root/train/train.csv``.
    ``root`` appears complete or not at all, also when several processes write it at the same time.

    Args:
        root: Folder to write; unchanged if it already holds these portraits.
        people: Number of people, with seven photos each.
        seed: The same seed draws the same people.

    Returns:
        ``root``.

    Raises:
        ConfigError: If ``people`` or ``seed`` is out of range, or ``root`` contains anything but drawn portraits.
    """
    if people < 1:
        raise ConfigError(f"people must be at least 1, got {people}; set data.portraits")
    if seed < 0:
        raise ConfigError(f"seed must be at least 0, got {seed}; choose another seed")
    stamp = {"drawing": DRAWING_VERSION, "people": people, "seed": seed}
    if is_complete(root, stamp):
        return root
    _refuse_foreign_folder(root)
    with draft_folder(root) as draft:
        _draw(draft, stamp)
        _publish(draft, root, stamp)
    return root


def is_complete(root: Path, stamp: dict[str, int]) -> bool:
    """Tell if ``root`` holds all portraits that ``stamp`` (version, people, seed) describes."""
    try:
        found = json.loads((root / STAMP_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    photos = sum(1 for path in (root / "train" / "images").glob("*/*") if not path.name.startswith("."))
    table = root / "train" / "train.csv"
    return bool(found == stamp) and table.is_file() and photos == len(SHOT_NAMES) * stamp["people"]


def _refuse_foreign_folder(root: Path) -> None:
    # Without our stamp it could be somebody's photos, which must not be replaced.
    if root.exists() and not (root / STAMP_FILE).is_file() and (not root.is_dir() or any(root.iterdir())):
        raise ConfigError(
            f"expected drawn portraits or nothing at {root}, found something without a {STAMP_FILE}; "
            "move it away, or set data.root to train on it"
        )


def _draw(draft: Path, stamp: dict[str, int]) -> None:
    images = draft / "train" / "images"
    images.mkdir(parents=True)
    persons = sample_people(stamp["people"], seed=stamp["seed"])
    console = Console(stderr=True)
    for person in track(persons, description="drawing portraits", console=console, transient=True):
        _write_person(images / person.folder, person, seed=stamp["seed"])
    with (draft / "train" / "train.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(TRAIN_COLUMNS)
        table.writerows([p.person_id, p.gender, p.race, p.age, p.folder] for p in persons)
    (draft / STAMP_FILE).write_text(json.dumps(stamp) + "\n", encoding="utf-8")


def _write_person(folder: Path, person: Person, *, seed: int) -> None:
    folder.mkdir()
    for number, (name, mask) in enumerate(_sample_masks(person, seed=seed)):
        rng = np.random.default_rng([seed, person.number, 2, number])
        photo = draw_photo(person, sample_shot(person, mask, rng), rng)
        extension = str(rng.choice(["jpg", "jpeg", "png"], p=(0.74, 0.14, 0.12)))
        _save(photo, folder / f"{name}.{extension}", quality=int(rng.integers(78, 96)))


def _sample_masks(person: Person, *, seed: int) -> Iterator[tuple[str, Mask | None]]:
    """Yield the name of each shot and the mask in it."""
    rng = np.random.default_rng([seed, person.number, 1])
    worn = [MASK_KINDS[i] for i in rng.permutation(len(MASK_KINDS)).tolist()]
    # Nobody owns exactly one mask of each kind.
    worn[1:] = [MASK_KINDS[int(rng.integers(len(MASK_KINDS)))] if rng.random() < 0.3 else kind for kind in worn[1:]]
    for name, kind in zip(SHOT_NAMES, worn, strict=False):
        yield name, sample_mask(kind, None, rng)
    kind = MASK_KINDS[int(rng.integers(len(MASK_KINDS)))]
    misplacement = MISPLACEMENTS[int(rng.integers(len(MISPLACEMENTS)))]
    yield "incorrect_mask", sample_mask(kind, misplacement, rng)
    yield "normal", None


def _save(photo: Image.Image, path: Path, *, quality: int) -> None:
    options: dict[str, Any] = {"compress_level": 1} if path.suffix == ".png" else {"quality": quality}
    photo.save(path, **options)


def _publish(draft: Path, root: Path, stamp: dict[str, int]) -> None:
    # If another process was faster, its folder stays: it holds the same photos.
    if root.exists() and not is_complete(root, stamp):
        _discard(root)
    try:
        draft.rename(root)
    except OSError:
        if not is_complete(root, stamp):
            raise


def _discard(root: Path) -> None:
    # Rename first, so that root disappears at once and not file by file.
    old = root.parent / f".{root.name}.{uuid4().hex[:12]}"
    with suppress(FileNotFoundError):
        root.rename(old)
    shutil.rmtree(old, ignore_errors=True)
