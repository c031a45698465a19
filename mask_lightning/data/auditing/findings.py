"""Kinds of problems that an audit finds, and a reader that lists the problems of a folder instead of raising."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mask_lightning.data.images import describe_left_out
from mask_lightning.data.index import (
    Person,
    add_family_and_age,
    find_images,
    people_folders,
    photo_row,
    photos_of,
    read_train_csv,
)
from mask_lightning.errors import DatasetNotFoundError, SampleTableError
from mask_lightning.utils.files import find_path


@dataclass(frozen=True)
class Kind:
    """A kind of problem: its heading, True if training fails on it, and the remedy."""

    title: str
    stops_training: bool
    remedy: str


KINDS = {
    "bad_name": Kind("names that do not parse", True, "rename or remove them"),
    "train_csv": Kind("train.csv does not fit the folders", True, "restore the folders or drop the lines"),
    "missing": Kind("missing photos", True, "restore them or drop their rows"),
    "unreadable": Kind("photos that cannot be decoded", True, "replace or remove them"),
    "class_absent": Kind("classes without photos", True, "add such people, or train fewer tasks"),
    "split": Kind("people cannot be split", True, "change data.val_fraction or data.split_seed"),
    "two_labels": Kind("one person_id with two labels", False, "correct one, or give one of them another id"),
    "csv_labels": Kind("train.csv differs from the folder's name", False, "the folder's name is used; correct one"),
    "copies_across": Kind("one photo under different people", False, "keep the right one: it may leak into validation"),
    "leakage": Kind("people who share photos", False, "training keeps them on one side; give them one person_id"),
    "near_across": Kind("near-duplicates of different people", False, "check them: a person with two ids leaks"),
    "copies_within": Kind("one photo in several files of a person", False, "a label may be wrong; keep one"),
    "odd_count": Kind("people without one photo of each shot", False, "training goes on with what is there"),
    "left_out": Kind("files that are left out", False, "convert them to JPEG or PNG if they are photos"),
    "small": Kind("photos smaller than the crop", False, "they are padded; set data.crop_height and data.crop_width"),
}


@dataclass(frozen=True)
class Finding:
    """One problem.

    Attributes:
        kind: a key of KINDS.
        text: one line.
        photos: absolute paths of the photos to look at.
    """

    kind: str
    text: str
    photos: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind

    @property
    def stops_training(self) -> bool:
        """True if a training on these photos would fail."""
        return KINDS[self.kind].stops_training

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for audit.json."""
        return {"kind": self.kind, "text": self.text, "photos": list(self.photos)}


def by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Group the findings by kind, in the order of KINDS, without empty groups."""
    groups: dict[str, list[Finding]] = {name: [] for name in KINDS}
    for finding in findings:
        groups[finding.kind].append(finding)
    return {name: group for name, group in groups.items() if group}


def shorten_list(names: Sequence[str], most: int = 5) -> str:
    """Join the first few names, and count the rest.

    Example:
        >>> shorten_list(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


COLUMNS = ("person_id", "race", "years", "shot", "path", "mask", "gender")


def survey(root: str | Path) -> tuple[pd.DataFrame, list[Finding]]:
    """Index the photos below `root` like `read_index`, but list all problems instead of raising at the first.

    Returns:
        The sample table, which may be empty and equals that of `read_index` if there are no problems, and the findings.

    Raises:
        DatasetNotFoundError: there are no people's folders below `root`, or nobody has a photo.
    """
    images = find_images(find_path(root).resolve())
    folders = people_folders(images)
    findings = _compare_csv(images.parent / "train.csv", folders)
    rows: list[dict[str, object]] = []
    for folder in folders:
        found, problems = _survey_person(folder)
        rows += found
        findings += problems
    if not rows and not any(finding.kind == "bad_name" for finding in findings):
        raise DatasetNotFoundError(images, "folders of people without photos")
    return add_family_and_age(pd.DataFrame(rows, columns=list(COLUMNS))), findings


def _survey_person(folder: Path) -> tuple[list[dict[str, object]], list[Finding]]:
    photos, others = photos_of(folder)
    try:
        person = Person.parse(folder)
    except SampleTableError as error:
        return [], [Finding("bad_name", str(error), tuple(map(str, photos[:1])))]
    rows, findings = [], []
    for photo in photos:
        try:
            rows.append(photo_row(person, photo))
        except SampleTableError as error:
            findings.append(Finding("bad_name", str(error), (str(photo),)))
    if not photos:
        findings.append(Finding("odd_count", f"{folder.name} has no photos"))
    if others:
        findings.append(Finding("left_out", f"{folder.name}: {describe_left_out(others)}"))
    return rows, findings


def _compare_csv(path: Path, folders: Iterable[Path]) -> list[Finding]:
    if not path.is_file():
        return []
    try:
        listed = read_train_csv(path)
        listed = listed[listed["path"] != ""]
    except SampleTableError as error:
        return [Finding("train_csv", str(error))]
    names = {folder.name for folder in folders}
    missing = sorted(set(listed["path"]) - names)
    findings = [Finding("train_csv", f"{path.name} names {name}, which is not there") for name in missing]
    return findings + _compare_labels(listed[listed["path"].isin(names)])


def _compare_labels(listed: pd.DataFrame) -> list[Finding]:
    if not {"gender", "age"} <= set(listed.columns):
        return []
    findings = []
    for name, gender, years in listed[["path", "gender", "age"]].to_numpy(str):
        try:
            person = Person.parse(Path(name))
        except SampleTableError:
            continue  # already a finding about its folder
        if (gender, years.lstrip("0") or "0") != (person.gender, str(person.years)):
            findings.append(Finding("csv_labels", f"{name} is {gender}, {years} years in train.csv"))
    return findings
