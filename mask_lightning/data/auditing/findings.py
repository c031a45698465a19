"""The kinds of things an audit finds, and which of them stop a training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """One kind of problem: how it is headed, whether training fails on it, and what to do about it."""

    title: str
    stops_training: bool
    remedy: str


KINDS = {
    "bad_name": Kind("names that do not parse", True, "rename or remove them"),
    "train_csv": Kind("train.csv does not fit the folders", True, "restore the folders or drop the lines"),
    "missing": Kind("photos that are not there", True, "restore them or drop their rows"),
    "unreadable": Kind("photos that cannot be decoded", True, "replace or remove them"),
    "class_absent": Kind("classes that nobody has", True, "add such people, or train fewer tasks"),
    "split": Kind("people cannot be split", True, "change data.val_fraction or data.split_seed"),
    "two_labels": Kind("one person_id with two labels", False, "correct one, or give one of them another id"),
    "csv_labels": Kind("train.csv says otherwise than the folder", False, "the folder's name counts; correct one"),
    "copies_across": Kind("one photo under different people", False, "keep the right one: it may leak into validation"),
    "near_across": Kind("near-duplicates of different people", False, "look: one person with two ids leaks"),
    "copies_within": Kind("one photo in several files of a person", False, "a label may be wrong; keep one"),
    "odd_count": Kind("people without one photo of each shot", False, "training goes on with what is there"),
    "small": Kind("photos smaller than the crop", False, "they are padded; set data.crop_height and data.crop_width"),
}


@dataclass(frozen=True)
class Finding:
    """One problem in one line, and the photos (absolute paths) to look at."""

    kind: str
    text: str
    photos: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind

    @property
    def stops_training(self) -> bool:
        """Whether a training on these photos would fail."""
        return KINDS[self.kind].stops_training

    def to_plain(self) -> dict[str, Any]:
        """For audit.json."""
        return {"kind": self.kind, "text": self.text, "photos": list(self.photos)}


def by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """The findings of each kind, in the order of KINDS, without kinds that have none."""
    groups: dict[str, list[Finding]] = {name: [] for name in KINDS}
    for finding in findings:
        groups[finding.kind].append(finding)
    return {name: group for name, group in groups.items() if group}


def shorten_list(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
