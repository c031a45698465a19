"""A run that is killed as often as it takes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from chaos import Place, kill_again_and_again

from mask_lightning.synthetic.portraits import write_portraits


@pytest.mark.slow
def test_a_run_killed_at_20_moments_ends_as_one_left_alone(tmp_path: Path) -> None:
    photos = write_portraits(tmp_path / "portraits", people=30)
    (tmp_path / "runs").mkdir()
    survived = list(kill_again_and_again(Place(tmp_path / "runs", photos, times=1, lines=1, rng=random.Random(1))))
    assert survived == [True] * 21
