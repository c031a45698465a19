"""Cores are shared out among jobs and processes."""

from __future__ import annotations

import os

import pytest

from mask_lightning.cores import JOBS, share_of_cores


@pytest.mark.parametrize(
    ("cores", "jobs", "processes", "want"),
    [(8, None, 1, 8), (8, "2", 1, 4), (8, "2", 2, 2), (2, "2", 1, 1), (2, "4", 2, 1), (8, "-1", 1, 1)],
)
def test_every_process_gets_its_share(monkeypatch, cores: int, jobs: str | None, processes: int, want: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.delenv(JOBS, raising=False)
    if jobs is not None:
        monkeypatch.setenv(JOBS, jobs)
    assert share_of_cores(processes) == want
