"""Audit of a sample table: decode all photos, run every check, count, and return the record for audit.json."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.data.auditing.findings import KINDS, Finding, by_kind, shorten_list
from mask_lightning.data.auditing.photos import (
    HASH_BITS,
    NearDuplicates,
    PhotoFacts,
    examine_photos,
    find_copies,
    find_near_duplicates,
)
from mask_lightning.data.index import SHOTS, expected_shots
from mask_lightning.labels import FACE, PERSON_TASKS, UNLABELLED, LabelSpace, Task


@dataclass(frozen=True)
class Audit:
    """Result of an audit.

    Attributes:
        table: the sample table.
        space: its label space.
        strata: the tasks that describe a person, not a photo.
        facts: the result of decoding each row's photo.
        findings: all problems.
        near: near-duplicates.
        seconds: time of decoding.
    """

    table: pd.DataFrame
    space: LabelSpace
    strata: tuple[str, ...]
    facts: tuple[PhotoFacts, ...]
    findings: tuple[Finding, ...]
    near: NearDuplicates
    seconds: float

    @property
    def stops_training(self) -> bool:
        """True if a training on these photos would fail."""
        return any(finding.stops_training for finding in self.findings)

    @property
    def stored(self) -> pd.DataFrame:
        """Columns `size` (width x height, upright), `mode` and `format`, a row per photo that can be decoded."""
        rows = [(f"{photo.width}x{photo.height}", photo.mode, photo.format) for photo in self.facts if not photo.error]
        return pd.DataFrame(rows, columns=["size", "mode", "format"])

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for audit.json, with every finding, also those that the terminal leaves out."""
        stored, per_person = self.stored, count_per_person(self.table)
        by_task = {task.name: count_classes(self.table, task).to_dict("index") for task in self.space.tasks}
        return {
            "training_would_fail": self.stops_training,
            "photos": len(self.table),
            "people": len(per_person),
            "tasks": by_task,
            "codes": count_codes(self.table, self.space).to_dict("index"),
            **{name: tally(stored[name]) for name in ("size", "mode", "format")},
            "near_pairs": {"of_different_people": self.near.across, "of_one_person": self.near.within},
            "found": {kind: len(found) for kind, found in by_kind(self.findings).items()},
            "findings": [
                {**finding.to_plain(), "remedy": KINDS[kind].remedy}
                for kind, found in by_kind(self.findings).items()
                for finding in found
            ],
            "photos_per_person": per_person,
            "seconds": round(self.seconds, 2),
            "photos_per_second": round(len(self.facts) / max(self.seconds, 1e-9), 1),
        }


def audit_table(
    table: pd.DataFrame,
    *,
    space: LabelSpace = FACE,
    strata: Sequence[str] = PERSON_TASKS,
    tasks: LabelSpace | None = None,
    findings: Sequence[Finding] = (),
    crop: tuple[int, int] | None = None,
    max_bits: int = 28,
    workers: int | None = None,
) -> Audit:
    """Decode all photos of a sample table and run every check.

    Args:
        table: sample table from `read_index`, `survey` or another reader; may be empty.
        space: its label space.
        strata: the tasks that describe a person, whose labels must agree.
        tasks: the tasks to train, of which every class must exist; None: all of `space`.
        findings: problems found before.
        crop: smallest size (height, width) in pixels that a photo should have; None: any.
        max_bits: largest number of different bits, of HASH_BITS, between near-duplicates.
        workers: see `examine_photos`.
    """
    start = perf_counter()
    facts = examine_photos(table["path"].tolist(), workers=workers)
    seconds = perf_counter() - start
    alike, near = check_near_duplicates(table, facts, max_bits=max_bits)
    found = [
        *findings,
        *check_decoding(facts),
        *check_classes_present(table, tasks or space),
        *check_labels(table, space, strata),
        *check_copies(table, facts),
        *alike,
        *check_shots(table),
        *(check_sizes(facts, crop) if crop else ()),
    ]
    return Audit(table, space, tuple(strata), tuple(facts), tuple(found), near, seconds)


def check_decoding(facts: Sequence[PhotoFacts]) -> list[Finding]:
    """Find photos that are missing or cannot be decoded."""
    return [
        Finding("missing" if photo.is_missing else "unreadable", photo.error, (photo.path,))
        for photo in facts
        if photo.error
    ]


def check_classes_present(table: pd.DataFrame, space: LabelSpace) -> list[Finding]:
    """Find classes without photos."""
    return [
        Finding("class_absent", f"{task.name} {name}: no photos")
        for task in space.tasks
        for name, count in count_classes(table, task)["photos"].items()
        if not count
    ]


def check_labels(table: pd.DataFrame, space: LabelSpace, strata: Sequence[str]) -> list[Finding]:
    """Find people whose photos have different labels of a task that describes a person (`strata`), or of years."""
    columns = [*strata, *(["years"] if "years" in table else [])]
    if not columns:
        return []
    stated = table[columns].where(table[columns] != UNLABELLED)
    several = (stated.groupby(table["person_id"]).nunique() > 1).any(axis=1)
    people = table[table["person_id"].isin(several.index[several])].groupby("person_id")
    return [_two_labels(str(person), rows, columns, space) for person, rows in people]


def _two_labels(person: str, rows: pd.DataFrame, columns: list[str], space: LabelSpace) -> Finding:
    # Show the photo with the least covered face of each label: the last target of `mask` is no mask.
    barest = rows.sort_values("mask", kind="stable") if "mask" in rows else rows
    labelled = barest.drop_duplicates(columns, keep="last").sort_values(columns)
    described = [describe(row, columns, space) for row in labelled.to_dict("records")]
    text = " and ".join(words for words in described if words)  # unlabelled rows have no words
    return Finding("two_labels", f"{person} is {text}", tuple(labelled["path"]))


def describe(row: Mapping[Hashable, Any], columns: Sequence[str], space: LabelSpace) -> str:
    """Describe a row's labels in these columns in words."""
    words = [space[name].classes[row[name]] for name in columns if name in space.names and row[name] != UNLABELLED]
    years = int(row["years"]) if "years" in columns and row["years"] >= 0 else None
    return ", ".join(words if years is None else [*words, f"{years} years"])


def check_shots(table: pd.DataFrame) -> list[Finding]:
    """Find people without exactly one photo of each expected shot, if the table has the competition's shots only."""
    if not {"shot", "gender", "years"} <= set(table) or not table["shot"].isin(SHOTS).all():
        return []
    findings = []
    expected = expected_shots(table)
    for (person, *_), rows in table.groupby(["person_id", "gender", "years"]):
        counts = rows["shot"].value_counts()
        lacking = [shot for shot in expected if shot not in counts]
        twice = [shot for shot in expected if counts.get(shot, 0) > 1]
        parts = [f"lacks {', '.join(lacking)}"] if lacking else []
        parts += [f"has two files of {', '.join(twice)}"] if twice else []
        if parts:
            photos = rows.loc[rows["shot"].isin(twice), "path"]
            findings.append(Finding("odd_count", f"{person} {' and '.join(parts)}", tuple(photos)))
    return findings


def check_sizes(facts: Sequence[PhotoFacts], crop: tuple[int, int]) -> list[Finding]:
    """Find photos that are smaller than the crop (height, width); one finding per size."""
    crop_height, crop_width = crop
    small: dict[tuple[int, int], list[str]] = {}
    for photo in facts:
        if not photo.error and (photo.width < crop_width or photo.height < crop_height):
            small.setdefault((photo.width, photo.height), []).append(photo.path)
    return [
        Finding("small", f"{len(paths)} of {width}x{height} (the crop is {crop_width}x{crop_height})", tuple(paths))
        for (width, height), paths in small.items()
    ]


def check_copies(table: pd.DataFrame, facts: Sequence[PhotoFacts]) -> list[Finding]:
    """Find groups of files with equal bytes; row i of `table` and `facts[i]` belong to the same photo."""
    readable = [i for i, photo in enumerate(facts) if not photo.error]
    rows = table.iloc[readable].reset_index(drop=True)
    groups = find_copies([facts[i].digest for i in readable])
    return [_copies(rows.iloc[group]) for group in groups]


def _copies(rows: pd.DataFrame) -> Finding:
    kind = "copies_across" if rows["person_id"].nunique() > 1 else "copies_within"
    return Finding(kind, f"the same bytes in {shorten_list(_names(rows))}", tuple(rows["path"]))


def check_near_duplicates(
    table: pd.DataFrame, facts: Sequence[PhotoFacts], *, max_bits: int
) -> tuple[list[Finding], NearDuplicates]:
    """Find near-duplicates of different people; pairs of one person are only counted.

    Only the first of several files with equal bytes is compared, because `check_copies` finds the others.
    """
    first = {photo.digest: i for i, photo in reversed(list(enumerate(facts))) if not photo.error}
    chosen = sorted(first.values())
    hashes = np.frombuffer(b"".join(facts[i].phash for i in chosen), np.uint8).reshape(-1, HASH_BITS // 8)
    rows = table.iloc[chosen].reset_index(drop=True)
    near = find_near_duplicates(hashes, pd.factorize(rows["person_id"])[0].astype(np.int64), max_bits=max_bits)
    findings = []
    for one, other, bits in near.pairs.tolist():
        pair = rows.iloc[[one, other]]
        text = f"{' and '.join(_names(pair))} differ in {bits} of {HASH_BITS} bits"
        findings.append(Finding("near_across", text, tuple(pair["path"])))
    return findings, near


def _names(rows: pd.DataFrame) -> list[str]:
    files = [Path(path).name for path in rows["path"]]
    people = rows["person_id"]  # of data=folder without people: a path
    return [who if str(who).endswith(f"/{file}") else f"{who}/{file}" for who, file in zip(people, files, strict=True)]


def count_classes(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Count photos and people per class.

    Returns:
        Columns `photos` and `people`, indexed by class name, with a row for every class.
    """
    return _count(table, table[task.name], task.classes)


def count_codes(table: pd.DataFrame, space: LabelSpace, *, most: int = 60) -> pd.DataFrame:
    """Count photos and people per combined class; photos without a label of some task are left out.

    Returns:
        Columns `photos` and `people`, indexed by the names of the codes, in the order of the codes. Of more codes than
        `most` only the most frequent have a row.
    """
    labelled = table[(table[list(space.names)] != UNLABELLED).all(axis=1)]
    codes = pd.Series(space.encode({name: labelled[name].to_numpy(np.int64) for name in space.names}), labelled.index)
    if space.num_codes <= most:
        return _count(labelled, codes, space.code_names)
    shown = np.sort(codes.value_counts().index[:most].to_numpy())
    chosen = codes.isin(shown)
    return _count(labelled[chosen], pd.Series(np.searchsorted(shown, codes[chosen])), _name_codes(space, shown))


def _name_codes(space: LabelSpace, codes: npt.NDArray[np.int64]) -> tuple[str, ...]:
    columns = [[space[name].classes[i] for i in targets] for name, targets in space.decode(codes).items()]
    return tuple(" ".join(names) for names in zip(*columns, strict=True))


def _count(table: pd.DataFrame, targets: pd.Series[Any], names: tuple[str, ...]) -> pd.DataFrame:
    groups = table["person_id"].groupby(targets.to_numpy())
    counts = pd.DataFrame({"photos": groups.size(), "people": groups.nunique()})
    return counts.reindex(range(len(names)), fill_value=0).astype(int).set_axis(list(names))


def count_per_person(table: pd.DataFrame) -> dict[str, int]:
    """Count the photos of each person_id."""
    return {str(person): int(count) for person, count in table["person_id"].value_counts(sort=False).items()}


def tally(values: pd.Series[Any]) -> dict[str, int]:
    """Count the occurrences of each value, the most frequent first."""
    return {str(value): int(count) for value, count in values.value_counts().items()}
