"""Errors for people: each says in one line what was expected, what was found and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class MaskLightningError(Exception):
    """Base of every error that a user can mend; a door prints it as one line and exits with 2."""


class ConfigError(MaskLightningError):
    """An option is unknown, out of range, or impossible beside another."""


class DatasetNotFoundError(MaskLightningError):
    """`root` does not hold photos in a layout that we know.

    Args:
        root: the folder that was searched.
        found: what lies there instead.
    """

    def __init__(self, root: Path, found: str) -> None:
        super().__init__(
            f"expected labelled photos at train/images/<id>_<gender>_<race>_<age>/ below {root}, found {found}; "
            "set data.root to the folder that holds train/"
        )


class SampleTableError(MaskLightningError):
    """A folder name, a table or a corrections file does not parse."""


class PhotoError(MaskLightningError):
    """A photo cannot be decoded."""


class LabelError(MaskLightningError):
    """A class, code or task is not part of the label space."""


class SplitError(MaskLightningError):
    """The people cannot be divided as asked."""


class WeightsError(MaskLightningError):
    """Pretrained weights cannot be had, or are not what they should be."""


class RunFolderError(MaskLightningError):
    """A run folder cannot be written, or cannot be resumed."""


def did_you_mean(word: str, known: Iterable[str], *, most: int = 3) -> str:
    """The end of an error message: the known words nearest to `word`, or all of them if none is near."""
    words = sorted(known)
    near = get_close_matches(word, words, n=most, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(near) + "?"
    return "choose from " + ", ".join(words)
