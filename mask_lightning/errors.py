"""Errors that a user can correct: each says in one line what was expected, what was found and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class MaskLightningError(Exception):
    """Base of all errors that a user can correct; a command prints it as one line and exits with 2."""


class ConfigError(MaskLightningError):
    """An option is unknown, out of range, or impossible together with another."""


class DatasetNotFoundError(MaskLightningError):
    """The folder does not hold photos in a known layout.

    Args:
        root: folder that was searched.
        found: description of its content.
        expected: description of the expected content; by default the competition's layout.
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


class DetectorError(MaskLightningError):
    """Faces cannot be detected: the extra is not installed, or the model file is another one."""


class VideoError(MaskLightningError):
    """A video or camera cannot be read, or a video cannot be written."""


class WorkerError(MaskLightningError):
    """A worker process of a data loader was killed."""


class CacheError(MaskLightningError):
    """The photo cache cannot be written."""


class PackedError(MaskLightningError):
    """Packed photos cannot be read or written: the storage, a damaged chunk, or packed for another model."""


class LabelError(MaskLightningError):
    """A class, code or task is not part of the label space."""


class SplitError(MaskLightningError):
    """The people cannot be split as the options say."""


class WeightsError(MaskLightningError):
    """Pretrained weights cannot be found, or do not fit the network."""


class RangeTestError(MaskLightningError):
    """An LR range test cannot be run."""


class NoSuggestionError(RangeTestError):
    """The curve of an LR range test suggests no learning rate.

    Args:
        reason: "NaN", "too short", "rising", "flat" or "past the lowest loss".
        details: what was found, and what to do.
    """

    def __init__(self, reason: str, details: str) -> None:
        super().__init__(f"no learning rate suggestion, {reason}: {details}")
        self.reason = reason


class DivergedError(MaskLightningError):
    """The training loss is NaN or infinite."""


class ProcessError(MaskLightningError):
    """Another process of a run on several devices ended early."""


class RunFolderError(MaskLightningError):
    """A run folder cannot be written, or cannot be resumed."""


class CheckpointError(MaskLightningError):
    """A file is not a checkpoint of this package, or does not fit the others."""


class ExportError(MaskLightningError):
    """A model cannot be exported, or an exported model cannot be run: a file has changed, or a runtime is missing."""


class ServeError(MaskLightningError):
    """The server cannot start or has failed: the extra is not installed, the port is in use, or a process ended."""


class PredictionsError(MaskLightningError):
    """A file of predictions cannot be read, or does not fit its use."""


class SubmissionError(MaskLightningError):
    """Predictions cannot become a submission, or a submission is not valid."""


class Terminated(KeyboardInterrupt):
    """SIGTERM has ended a run, as Ctrl-C would."""


def did_you_mean(word: str, known: Iterable[str], *, most: int = 3) -> str:
    """Return the end of an error message: the known words most similar to `word`, or all if none is similar.

    Example:
        >>> did_you_mean("resnet43", ["resnet34", "vit"])
        'did you mean resnet34?'
    """
    words = sorted(known)
    near = get_close_matches(word, words, n=most, cutoff=0.6)
    near = near or [other for other in words if word and word in other][:most]
    if near:
        return "did you mean " + " or ".join(near) + "?"
    return "choose from " + ", ".join(words[:20]) + (", ..." if len(words) > 20 else "")


def one_line(text: str, *, most: int = 1000) -> str:
    """Join the text into one line of at most about `most` characters; the middle of a longer text is left out."""
    joined = " ".join(text.split())
    return joined if len(joined) <= most else f"{joined[: most // 2]} ... {joined[-most // 2 :]}"
