"""Write the folder of portraits: drawn once, complete or absent, recognised by its file `portraits.json`."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from mask_lightning.data.index import SHOTS
from mask_lightning.errors import ConfigError
from mask_lightning.synthetic.layout import TRAIN_COLUMNS, draft_folder
from mask_lightning.synthetic.portraits.masks import MASK_KINDS, MISPLACEMENTS, Mask, sample_mask
from mask_lightning.synthetic.portraits.people import Person, sample_people
from mask_lightning.synthetic.portraits.photos import draw_photo, sample_shot
from mask_lightning.utils.system import share_of_cores

DRAWING_VERSION = 1  # increase it when the drawing changes: folders of older versions are drawn again
STAMP_FILE = "portraits.json"
MOST_PROCESSES, PEOPLE_PER_PROCESS = 4, 8  # a process takes a second to start, and as long to draw a person


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
    return bool(found == stamp) and table.is_file() and photos == len(SHOTS) * stamp["people"]


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
    processes = max(1, min(share_of_cores(), MOST_PROCESSES, len(persons) // PEOPLE_PER_PROCESS))
    with _other_processes(draft, stamp, processes) as others:
        own = track(persons[::processes], "drawing portraits", console=Console(stderr=True), transient=True)
        for person in own:
            _write_person(images / person.folder, person, seed=stamp["seed"])
        for i, process in enumerate(others, 1):
            if process.wait():  # it could not start, or was killed
                for person in persons[i::processes]:
                    shutil.rmtree(images / person.folder, ignore_errors=True)
                    _write_person(images / person.folder, person, seed=stamp["seed"])
    with (draft / "train" / "train.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(TRAIN_COLUMNS)
        table.writerows([p.person_id, p.gender, p.race, p.age, p.folder] for p in persons)
    (draft / STAMP_FILE).write_text(json.dumps(stamp) + "\n", encoding="utf-8")


@contextmanager
def _other_processes(draft: Path, stamp: dict[str, int], processes: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start the processes that draw all people but each `processes`-th; they end with the block.

    A pool of multiprocessing would run a script of the user again in each of its processes.
    """
    code = f"from {__name__} import draw_share; draw_share({str(draft.absolute())!r}, {stamp!r}, "
    others: list[subprocess.Popen[bytes]] = []
    try:
        for i in range(1, processes):
            command = [sys.executable, "-c", f"{code}{i}, {processes})"]
            others.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        yield others
    finally:
        for process in others:
            process.kill()
            process.wait()


def draw_share(draft: str, stamp: dict[str, int], first: int, processes: int) -> None:
    """Draw each `processes`-th person from number `first` on, in a process of its own."""
    for person in sample_people(stamp["people"], seed=stamp["seed"])[first::processes]:
        _write_person(Path(draft) / "train" / "images" / person.folder, person, seed=stamp["seed"])


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
    for name, kind in zip(SHOTS, worn, strict=False):
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
