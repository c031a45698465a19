"""Sample table and decoded photos -> findings; one function per question."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mask_lightning.data.auditing.counts import count_classes
from mask_lightning.data.auditing.findings import Finding, shorten_list
from mask_lightning.data.auditing.likeness import NearPairs, find_copies, find_near_pairs
from mask_lightning.data.auditing.photos import HASH_BITS, PhotoFacts
from mask_lightning.data.index import SHOTS
from mask_lightning.labels import UNLABELLED, LabelSpace


def check_decoding(facts: Sequence[PhotoFacts]) -> list[Finding]:
    """A finding per photo that is missing or cannot be decoded."""
    return [
        Finding("missing" if photo.is_missing else "unreadable", photo.error, (photo.path,))
        for photo in facts
        if photo.error
    ]


def check_classes_present(table: pd.DataFrame, space: LabelSpace) -> list[Finding]:
    """A finding per class of a task that no photo has."""
    return [
        Finding("class_absent", f"{task.name} {name}: no photos")
        for task in space.tasks
        for name, count in count_classes(table, task)["photos"].items()
        if not count
    ]


def check_labels(table: pd.DataFrame, space: LabelSpace, strata: Sequence[str]) -> list[Finding]:
    """A finding per person_id whose photos state two labels of what tells of a person (`strata`, and years)."""
    columns = [*strata, *(["years"] if "years" in table else [])]
    if not columns:
        return []
    stated = table[columns].where(table[columns] != UNLABELLED)
    several = (stated.groupby(table["person_id"]).nunique() > 1).any(axis=1)
    people = table[table["person_id"].isin(several.index[several])].groupby("person_id")
    return [_two_labels(str(person), rows, columns, space) for person, rows in people]


def _two_labels(person: str, rows: pd.DataFrame, columns: list[str], space: LabelSpace) -> Finding:
    # The last target of `mask` is no mask: of each label the photo with the barest face is shown.
    barest = rows.sort_values("mask", kind="stable") if "mask" in rows else rows
    labelled = barest.drop_duplicates(columns, keep="last").sort_values(columns)
    said = [describe(row, columns, space) for row in labelled.to_dict("records")]
    said = [words for words in said if words]  # nothing is said where nothing is labelled
    return Finding("two_labels", f"{person} is {' and '.join(said)}", tuple(labelled["path"]))


def describe(row: Mapping[Hashable, Any], columns: Sequence[str], space: LabelSpace) -> str:
    """What a row of the table states in these columns, in words."""
    words = [space[name].classes[row[name]] for name in columns if name in space.names and row[name] != UNLABELLED]
    years = int(row["years"]) if "years" in columns and row["years"] >= 0 else None
    return ", ".join(words if years is None else [*words, f"{years} years"])


def check_shots(table: pd.DataFrame) -> list[Finding]:
    """A finding per person (and labels) without exactly one photo of each shot; none where there are other shots."""
    if not {"shot", "gender", "years"} <= set(table) or not table["shot"].isin(SHOTS).all():
        return []
    findings = []
    for (person, *_), rows in table.groupby(["person_id", "gender", "years"]):
        counts = rows["shot"].value_counts()
        lacking = [shot for shot in SHOTS if shot not in counts]
        twice = [shot for shot in SHOTS if counts.get(shot, 0) > 1]
        parts = [f"lacks {', '.join(lacking)}"] if lacking else []
        parts += [f"has two files of {', '.join(twice)}"] if twice else []
        if parts:
            photos = rows.loc[rows["shot"].isin(twice), "path"]
            findings.append(Finding("odd_count", f"{person} {' and '.join(parts)}", tuple(photos)))
    return findings


def check_sizes(facts: Sequence[PhotoFacts], crop: tuple[int, int]) -> list[Finding]:
    """One finding per size that does not hold the crop (height, width)."""
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
    """A finding per group of files with equal bytes. `table` and `facts` are rows of the same photos."""
    readable = [i for i, photo in enumerate(facts) if not photo.error]
    rows = table.iloc[readable].reset_index(drop=True)
    groups = find_copies(pd.Series([facts[i].digest for i in readable], dtype=str))
    return [_copies(rows.iloc[group]) for group in groups]


def _copies(rows: pd.DataFrame) -> Finding:
    kind = "copies_across" if rows["person_id"].nunique() > 1 else "copies_within"
    return Finding(kind, f"the same bytes in {shorten_list(_names(rows))}", tuple(rows["path"]))


def check_likeness(
    table: pd.DataFrame, facts: Sequence[PhotoFacts], *, max_bits: int
) -> tuple[list[Finding], NearPairs]:
    """A finding per pair of photos of different people that nearly agree; those of one person are only counted.

    Of files with equal bytes, which `check_copies` tells of, only the first is compared.
    """
    first = {photo.digest: i for i, photo in reversed(list(enumerate(facts))) if not photo.error}
    chosen = sorted(first.values())
    hashes = np.frombuffer(b"".join(facts[i].likeness for i in chosen), np.uint8).reshape(-1, HASH_BITS // 8)
    rows = table.iloc[chosen].reset_index(drop=True)
    near = find_near_pairs(hashes, pd.factorize(rows["person_id"])[0].astype(np.int64), max_bits=max_bits)
    findings = []
    for one, other, bits in near.pairs.tolist():
        pair = rows.iloc[[one, other]]
        text = f"{' and '.join(_names(pair))} differ in {bits} of {HASH_BITS} bits"
        findings.append(Finding("near_across", text, tuple(pair["path"])))
    return findings, near


def _names(rows: pd.DataFrame) -> list[str]:
    return [f"{person}/{Path(path).name}" for person, path in zip(rows["person_id"], rows["path"], strict=True)]
