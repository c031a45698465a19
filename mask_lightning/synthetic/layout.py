"""Folder layout of the competition, in which portraits and masked faces are written."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

PHOTO_SIZE = (384, 512)  # width, height
TRAIN_COLUMNS = ("id", "gender", "race", "age", "path")  # of train/train.csv


def person_folder(person_id: str, gender: str, race: str, age: int) -> str:
    """Name of the folder with one person's photos, below ``train/images/``.

    Example:
        >>> person_folder("000001", "female", "Asian", 23)
        '000001_female_Asian_23'
    """
    return f"{person_id}_{gender}_{race}_{age}"


@contextmanager
def draft_folder(root: Path) -> Iterator[Path]:
    """Yield an unused path beside ``root``, to be written and then renamed to ``root``.

    The draft is removed at the end if it still exists, so that an error or interruption leaves nothing behind.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    draft = root.parent / f".{root.name}.{uuid4().hex[:12]}"
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
