"""Measurements: counts, order and percentiles."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from exporting_members import SIZE, make_member

from mask_lightning.exporting.formats import write_model
from mask_lightning.exporting.timing import MIN_CALLS, peak_megabytes, time_model


def test_a_model_is_measured_from_small_batches_up(tmp_path: Path) -> None:
    path = write_model(tmp_path, [make_member()], "safetensors", size=SIZE, flip=False)
    found = time_model(path, engine="torch", size=SIZE, batch_sizes=[2, 1], seconds=0.001, threads=1)
    assert [each.batch_size for each in found] == [1, 2]
    for each in found:
        assert each.calls >= MIN_CALLS
        assert 0 < each.p50_ms <= each.p95_ms <= each.p99_ms
        assert each.photos_per_second > 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_is_this_processes() -> None:
    assert 50 < peak_megabytes() < 100_000
