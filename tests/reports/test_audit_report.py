"""Tables and lines of an audit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mask_lightning.data.auditing.audit import Audit
from mask_lightning.data.auditing.findings import Finding
from mask_lightning.data.auditing.photos import NearDuplicates, PhotoFacts
from mask_lightning.labels import FACE, PERSON_TASKS
from mask_lightning.reports.audit_report import codes_table, finding_lines, summary_lines, verdict


def audit(*findings: Finding) -> Audit:
    table = pd.DataFrame({"person_id": ["a", "a", "b"], "mask": [0, 2, 0], "gender": [1, 1, 0], "age": [0, 0, 2]})
    facts = (
        PhotoFacts("x", width=4, height=6, mode="RGB", format="JPEG"),
        PhotoFacts("y", width=4, height=6, mode="L", format="PNG"),
        PhotoFacts("z", error="broken"),
    )
    return Audit(table, FACE, PERSON_TASKS, facts, findings, NearDuplicates(np.empty((0, 3), np.int64), 2, 1_234), 1.0)


def test_the_summary_has_counts_sizes_modes_and_formats() -> None:
    assert summary_lines(audit()) == [
        "photos per person: 2 (1), 1 (1)",
        "size: 4x6 (2)",
        "mode: RGB (1), L (1)",
        "format: JPEG (1), PNG (1)",
        "near-duplicate pairs: 1,234 of one person, 2 of different people",
    ]


def test_the_columns_of_codes_are_the_classes_of_the_first_task() -> None:
    table = codes_table(audit(), FACE)
    cells = [[cell.replace("[red]0[/red]", "-") for cell in column.cells] for column in table.columns]
    assert [column.header for column in table.columns] == ["", "wear", "incorrect", "normal"]
    assert cells[0][2:4] == ["male >=60", "female <30"]
    assert cells[1] == ["-", "-", "1", "1", "-", "-"]
    assert cells[2] == ["-"] * 6
    assert cells[3] == ["-", "-", "-", "1", "-", "-"]


def test_findings_are_shortened_and_counted(tmp_path: Path) -> None:
    findings = [Finding("unreadable", f"cannot decode {tmp_path}/train/{i}.jpg") for i in range(5)]
    lines = [line.plain for line in finding_lines(audit(*findings), tmp_path)]
    assert lines[0] == "photos that cannot be decoded: 5  (replace or remove them)"
    assert lines[1:4] == [f"    cannot decode train/{i}.jpg" for i in range(3)]
    assert lines[4:] == ["    and 2 more in audit.json"]


@pytest.mark.parametrize(
    ("kind", "want"),
    [("unreadable", "training would fail[/red]: photos that cannot be decoded"), ("small", "training can start")],
)
def test_the_verdict(kind: str, want: str) -> None:
    assert want in verdict(audit(Finding(kind, "x")))
