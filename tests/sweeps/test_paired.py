"""Configurations are found, paired by seed and compared; what cannot be compared is an error."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import sem

from mask_lightning.errors import RunFolderError
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.sweeps.paired import Configuration, find_baseline, group_by_seed, pair
from mask_lightning.sweeps.table import collect_runs

MakeRun = Callable[..., Path]
QUICK, MIX = {1: 0.40, 2: 0.44, 3: 0.42}, {1: 0.43, 2: 0.43, 3: 0.47}


@pytest.fixture
def make(tmp_path: Path) -> MakeRun:
    """Write a finished run with a recorded split."""

    def make(seed: int, score: float, *overrides: str, val: str = "b", name: str = "", **options: Any) -> Path:
        folder = RunFolder(tmp_path / (name or f"{len(list(tmp_path.iterdir()))}"))
        typed = ["experiment=quick", "data.root=faces", *overrides, f"seed={seed}"]
        result = RunResult("finished", "val/f1", overrides=typed, best={"val/f1": score, "val/loss": 1 - score})
        folder.claim({"seed": seed, "data": {"split_seed": seed}, **options}, result)
        folder.split.write_text(f"photo,bytes,role\na.jpg,1,train\n{val}.jpg,2,val\n")
        return folder.path

    return make


def grouped(tmp_path: Path) -> tuple[list[Configuration], list[str]]:
    return group_by_seed(collect_runs([tmp_path]).rows)


def test_the_difference_is_paired_by_seed(make: MakeRun, tmp_path: Path) -> None:
    for seed in QUICK:
        make(seed, QUICK[seed])
        make(seed, MIX[seed], "mix=cutmix", mix={"name": "cutmix"})
    configurations, notes = grouped(tmp_path)
    assert ([each.name for each in configurations], notes) == (["quick", "quick mix=cutmix"], [])
    (found,), notes = pair(configurations, find_baseline(configurations, "quick"), "val/f1")
    want = np.array(list(MIX.values())) - np.array(list(QUICK.values()))
    assert (found.name, found.wins, notes) == ("quick mix=cutmix", 2, [])
    assert found.mean == pytest.approx(want.mean())
    assert found.standard_error == pytest.approx(sem(want))
    (by_loss,), _ = pair(configurations, find_baseline(configurations, "quick"), "val/loss")
    assert (by_loss.wins, by_loss.mean) == (2, pytest.approx(-want.mean()))  # a loss is better if it is lower


def test_configurations_are_named_by_what_distinguishes_them(make: MakeRun, tmp_path: Path) -> None:
    make(1, 0.4, "experiment=ablation/quick_focal", loss={"focal_gamma": 2})
    make(1, 0.4, "optim.lr=0.1", optim={"lr": 0.1})
    make(1, 0.4, drop_rate=0.1)  # of a version with another default
    make(1, 0.4, drop_rate=0.2)
    names = [each.name for each in grouped(tmp_path)[0]]
    assert names == ["quick_focal", "quick optim.lr=0.1", "quick drop_rate=0.1", "quick drop_rate=0.2"]
    assert find_baseline(grouped(tmp_path)[0], "ablation/quick_focal").name == "quick_focal"


def test_seeds_that_are_not_common_are_named(make: MakeRun, tmp_path: Path) -> None:
    for seed in QUICK:
        make(seed, QUICK[seed])
    make(2, 0.5, "mix=cutmix", mix=1)
    configurations, _ = grouped(tmp_path)
    (found,), notes = pair(configurations, configurations[0], "val/f1")
    assert (found.mean, found.standard_error, found.wins) == (pytest.approx(0.06), None, 1)
    assert notes == ["quick mix=cutmix has seeds 2, the baseline quick has seeds 1, 2, 3"]


def test_of_two_equal_runs_the_newer_counts(make: MakeRun, tmp_path: Path) -> None:
    make(1, 0.4, name="old")
    make(1, 0.5, name="new")
    result = RunFolder(tmp_path / "old").result
    os.utime(result, (1, 1))
    (only,), notes = grouped(tmp_path)
    assert only.scores("val/f1") == {1: 0.5}
    assert notes == [f"left out: {tmp_path}/old has the options and seed of {tmp_path}/new, which is newer"]


def test_what_cannot_be_paired(make: MakeRun, tmp_path: Path) -> None:
    make(1, 0.4)
    configurations, _ = grouped(tmp_path)
    with pytest.raises(
        RunFolderError, match=r"expected runs of the baseline 'quik', found 'quick'; .*did you mean quick"
    ):
        find_baseline(configurations, "quik")
    with pytest.raises(RunFolderError, match="expected another configuration than quick, found none"):
        pair(configurations, configurations[0], "val/f1")
    with pytest.raises(
        RunFolderError, match=r"expected val/f2 in the runs of quick, found val/f1, val/loss; set metric"
    ):
        pair(configurations, configurations[0], "val/f2")
    make(2, 0.4, "mix=cutmix", mix=1)
    configurations, _ = grouped(tmp_path)
    with pytest.raises(RunFolderError, match=r"no seed in common: quick mix=cutmix has seeds 2, .* quick has seeds 1;"):
        pair(configurations, configurations[0], "val/f1")
    other = make(1, 0.4, "mix=cutmix", mix=1, val="c")
    configurations, _ = grouped(tmp_path)
    with pytest.raises(RunFolderError, match=r"same held-out people for seed 1, found 1 photos of .* and 1 of .*split"):
        pair(configurations, configurations[0], "val/f1")
    RunFolder(other).split.unlink()
    with pytest.raises(RunFolderError, match=r"split\.csv, which records who was held out, found none"):
        pair(configurations, configurations[0], "val/f1")
