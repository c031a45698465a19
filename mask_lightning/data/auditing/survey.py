"""The tolerant reader: where `read_index` raises at the first bad name, this lists them all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from mask_lightning.data.auditing.findings import Finding
from mask_lightning.data.index import Person, find_images, people_folders, photo_row, photos_of, read_train_csv
from mask_lightning.errors import DatasetNotFoundError, SampleTableError
from mask_lightning.labels import age_band

COLUMNS = ("person_id", "family", "race", "years", "shot", "path", "mask", "gender", "age")


def survey(root: str | Path) -> tuple[pd.DataFrame, list[Finding]]:
    """Index what can be indexed below `root`, decoding nothing, and list what cannot.

    Returns the sample table, equal to that of `read_index` where nothing is wrong (maybe empty), and the findings.

    Raises:
        DatasetNotFoundError: `root` is no folder of people at all, or nobody has a photo.
    """
    images = find_images(Path(root).expanduser().resolve())
    folders = people_folders(images)
    findings = _compare_csv(images.parent / "train.csv", folders)
    rows: list[dict[str, object]] = []
    for folder in folders:
        found, problems = _survey_person(folder)
        rows += found
        findings += problems
    if not rows and not any(finding.kind == "bad_name" for finding in findings):
        raise DatasetNotFoundError(images, "folders of people without photos")
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["age"] = age_band(table["years"].to_numpy(int))
    return table, findings


def _survey_person(folder: Path) -> tuple[list[dict[str, object]], list[Finding]]:
    photos = photos_of(folder)
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
    return rows, findings


def _compare_csv(path: Path, folders: Iterable[Path]) -> list[Finding]:
    if not path.is_file():
        return []
    try:
        listed = read_train_csv(path).dropna(subset="path")
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
            continue  # told by its folder
        if (gender, years.lstrip("0") or "0") != (person.gender, str(person.years)):
            findings.append(Finding("csv_labels", f"{name} is {gender}, {years} years in train.csv"))
    return findings
