"""The folder that is written: drawn once, published whole, known again by its `portraits.json`."""

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
from mask_lightning.synthetic.portraits.fits import KINDS, WRONGS, Mask, sample_mask
from mask_lightning.synthetic.portraits.people import Person
from mask_lightning.synthetic.portraits.photos import sample_shot, take_photo
from mask_lightning.synthetic.portraits.sampling import sample_people

DRAWING = 1  # raised whenever the drawing changes, so that folders drawn before are drawn anew
STAMP = "portraits.json"
SHOTS = ("mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal")


def write_portraits(root: Path, *, people: int = 60, seed: int = 0) -> Path:
    """Draw labelled portraits in the competition's layout, unless they are there already.

    The photos lie at ``root/train/images/<id>_<gender>_<race>_<age>/``; ``root/train/train.csv`` lists them.
    They are drawn beside ``root`` and renamed at the end, so that nobody ever sees half a folder.

    Args:
        root: The folder to write; left alone if it holds these very portraits.
        people: How many people are drawn, seven photos each.
        seed: The same seed draws the same people.

    Returns:
        ``root``.

    Raises:
        ConfigError: If ``people`` or ``seed`` is out of range, or ``root`` holds something else.
    """
    if people < 1:
        raise ConfigError(f"people must be at least 1, got {people}; set data.portraits")
    if seed < 0:
        raise ConfigError(f"seed must be at least 0, got {seed}; pass another")
    stamp = {"drawing": DRAWING, "people": people, "seed": seed}
    if is_complete(root, stamp):
        return root
    _refuse_foreign(root)
    draft = root.parent / f".{root.name}-{uuid4().hex[:12]}"
    try:
        _draw(draft, stamp)
        _publish(draft, root, stamp)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return root


def is_complete(root: Path, stamp: dict[str, int]) -> bool:
    """Tell whether ``root`` holds all the portraits that ``stamp`` describes."""
    try:
        found = json.loads((root / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    photos = sum(1 for path in (root / "train" / "images").glob("*/*") if not path.name.startswith("."))
    table = root / "train" / "train.csv"
    return bool(found == stamp) and table.is_file() and photos == len(SHOTS) * stamp["people"]


def _refuse_foreign(root: Path) -> None:
    # Only what carries our stamp, or nothing at all, may be replaced: these could be somebody's photos.
    if root.exists() and not (root / STAMP).is_file() and (not root.is_dir() or any(root.iterdir())):
        raise ConfigError(
            f"expected drawn portraits or nothing at {root}, found something without a {STAMP}; "
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
        table.writerow(["id", "gender", "race", "age", "path"])
        table.writerows([p.person_id, p.gender, p.race, p.age, p.folder] for p in persons)
    (draft / STAMP).write_text(json.dumps(stamp) + "\n", encoding="utf-8")


def _write_person(folder: Path, person: Person, *, seed: int) -> None:
    folder.mkdir()
    for number, (name, mask) in enumerate(_masks(person, seed=seed)):
        rng = np.random.default_rng([seed, person.number, 2, number])
        photo = take_photo(person, sample_shot(person, mask, rng), rng)
        extension = str(rng.choice(["jpg", "jpeg", "png"], p=(0.74, 0.14, 0.12)))
        _save(photo, folder / f"{name}.{extension}", quality=int(rng.integers(78, 96)))


def _masks(person: Person, *, seed: int) -> Iterator[tuple[str, Mask | None]]:
    """Yield the name of each shot and the mask that is worn in it."""
    rng = np.random.default_rng([seed, person.number, 1])
    worn = [KINDS[i] for i in rng.permutation(len(KINDS)).tolist()]
    # Nobody owns exactly one mask of each kind.
    worn[1:] = [KINDS[int(rng.integers(len(KINDS)))] if rng.random() < 0.3 else kind for kind in worn[1:]]
    for name, kind in zip(SHOTS, worn, strict=False):
        yield name, sample_mask(kind, None, rng)
    kind, wrong = KINDS[int(rng.integers(len(KINDS)))], WRONGS[int(rng.integers(len(WRONGS)))]
    yield "incorrect_mask", sample_mask(kind, wrong, rng)
    yield "normal", None


def _save(photo: Image.Image, path: Path, *, quality: int) -> None:
    options: dict[str, Any] = {"compress_level": 1} if path.suffix == ".png" else {"quality": quality}
    photo.save(path, **options)


def _publish(draft: Path, root: Path, stamp: dict[str, int]) -> None:
    # Another process may have been faster; then its folder stays, for it holds the same photos.
    if root.exists() and not is_complete(root, stamp):
        _discard(root)
    try:
        draft.rename(root)
    except OSError:
        if not is_complete(root, stamp):
            raise


def _discard(root: Path) -> None:
    # Renamed first, so that root vanishes at once rather than file by file.
    old = root.parent / f".{root.name}-{uuid4().hex[:12]}"
    with suppress(FileNotFoundError):
        root.rename(old)
    shutil.rmtree(old, ignore_errors=True)
