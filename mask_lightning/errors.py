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
        expected: what should lie there; by default the competition's layout.
        remedy: what to do.
    """

    def __init__(
        self,
        root: Path,
        found: str,
        *,
        expected: str = "labelled photos at train/images/<id>_<gender>_<race>_<age>/ below",
        remedy: str = "set data.root to the folder that holds train/",
    ) -> None:
        super().__init__(f"expected {expected} {root}, found {found}; {remedy}")


class SampleTableError(MaskLightningError):
    """A folder name, a table or a corrections file does not parse."""


class PhotoError(MaskLightningError):
    """A photo cannot be decoded."""


class WorkerError(MaskLightningError):
    """A process that decodes photos for this one was killed."""


class CacheError(MaskLightningError):
    """Prepared photos cannot be kept on disk."""


class LabelError(MaskLightningError):
    """A class, code or task is not part of the label space."""


class SplitError(MaskLightningError):
    """The people cannot be divided as asked."""


class WeightsError(MaskLightningError):
    """Pretrained weights cannot be had, or are not what they should be."""


class RangeTestError(MaskLightningError):
    """A learning rate range test cannot be run."""


class NoSuggestionError(RangeTestError):
    """The curve of a learning rate range test suggests no learning rate.

    Args:
        reason: in a word or two: "NaN", "too short", "rising", "flat" or "past the lowest loss".
        details: what was found, and what to do.
    """

    def __init__(self, reason: str, details: str) -> None:
        super().__init__(f"no learning rate suggestion, {reason}: {details}")
        self.reason = reason


class DivergedError(MaskLightningError):
    """The training loss is no number any more."""


class ProcessError(MaskLightningError):
    """Another process of a run on several devices ended early."""


class RunFolderError(MaskLightningError):
    """A run folder cannot be written, or cannot be resumed."""


class CheckpointError(MaskLightningError):
    """A file is no checkpoint of ours, or does not fit the others."""


class PredictionsError(MaskLightningError):
    """A file of predictions cannot be read, or does not fit what is asked of it."""


class SubmissionError(MaskLightningError):
    """Answers cannot become a submission, or a submission is not valid."""


class Terminated(KeyboardInterrupt):
    """SIGTERM has ended a run in the way that Ctrl-C does."""


def did_you_mean(word: str, known: Iterable[str], *, most: int = 3) -> str:
    """The end of an error message: the known words nearest to `word`, or those to choose from if none is near."""
    words = sorted(known)
    near = get_close_matches(word, words, n=most, cutoff=0.6)
    near = near or [other for other in words if word and word in other][:most]
    if near:
        return "did you mean " + " or ".join(near) + "?"
    return "choose from " + ", ".join(words[:20]) + (", ..." if len(words) > 20 else "")


def one_line(text: str, *, most: int = 1000) -> str:
    """The text on one line, its middle left out where it is long: what was typed may be anything."""
    joined = " ".join(text.split())
    return joined if len(joined) <= most else f"{joined[: most // 2]} ... {joined[-most // 2 :]}"
