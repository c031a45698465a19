"""The whole audit of a sample table, and its record for audit.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import pandas as pd

from mask_lightning.data.auditing import checks, counts
from mask_lightning.data.auditing.findings import KINDS, Finding, by_kind
from mask_lightning.data.auditing.likeness import NearPairs
from mask_lightning.data.auditing.photos import PhotoFacts, examine_photos
from mask_lightning.labels import FACE, PERSON_TASKS, LabelSpace


@dataclass(frozen=True)
class Audit:
    """What is known of a sample table.

    Attributes:
        table: the sample table.
        space: what it is labelled with; `strata` are the tasks that tell of a person.
        facts: what decoding told, a row per row of the table.
        findings: everything that is wrong or odd.
        near: pairs of photos that nearly agree.
        seconds: that decoding took.
    """

    table: pd.DataFrame
    space: LabelSpace
    strata: tuple[str, ...]
    facts: tuple[PhotoFacts, ...]
    findings: tuple[Finding, ...]
    near: NearPairs
    seconds: float

    @property
    def stops_training(self) -> bool:
        """Whether a training on these photos would fail."""
        return any(finding.stops_training for finding in self.findings)

    @property
    def stored(self) -> pd.DataFrame:
        """`size` (upright, width x height), `mode` and `format` of every photo that could be decoded."""
        rows = [(f"{photo.width}x{photo.height}", photo.mode, photo.format) for photo in self.facts if not photo.error]
        return pd.DataFrame(rows, columns=["size", "mode", "format"])

    def to_plain(self) -> dict[str, Any]:
        """For audit.json: every finding is listed, also where the terminal shows a few."""
        stored, per_person = self.stored, counts.count_per_person(self.table)
        by_task = {task.name: counts.count_classes(self.table, task).to_dict("index") for task in self.space.tasks}
        return {
            "training_would_fail": self.stops_training,
            "photos": len(self.table),
            "people": len(per_person),
            "tasks": by_task,
            "codes": counts.count_codes(self.table, self.space).to_dict("index"),
            **{name: counts.tally(stored[name]) for name in ("size", "mode", "format")},
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
    """Decode all photos of a sample table (of `read_index` or `survey`) and look for everything that is wrong.

    Args:
        table: a row per photo; may be empty.
        space: what it is labelled with.
        strata: the tasks that tell of a person, whose labels must agree.
        tasks: those to train, every class of which must be there; None: all of `space`.
        findings: what is known already.
        crop: pixels (height, width) that a photo should have.
        max_bits: photos whose perceptual hashes (256 bits) differ in at most so many are near-duplicates.
        workers: see `examine_photos`.
    """
    start = perf_counter()
    facts = examine_photos(table["path"].tolist(), workers=workers)
    seconds = perf_counter() - start
    alike, near = checks.check_likeness(table, facts, max_bits=max_bits)
    found = [
        *findings,
        *checks.check_decoding(facts),
        *checks.check_classes_present(table, tasks or space),
        *checks.check_labels(table, space, strata),
        *checks.check_copies(table, facts),
        *alike,
        *checks.check_shots(table),
        *(checks.check_sizes(facts, crop) if crop else ()),
    ]
    return Audit(table, space, tuple(strata), tuple(facts), tuple(found), near, seconds)
