"""Which runs are the folds of one cross-validation: told from their records, before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
import pytest
from omegaconf import DictConfig, OmegaConf

from mask_lightning.cli.compose import config_dir
from mask_lightning.errors import RunFolderError
from mask_lightning.pipelines.suspects import find_folds
from mask_lightning.runs.folder import RunFolder, RunResult, Status
from mask_lightning.settings.base import check
from mask_lightning.settings.train import TrainSettings

MakeRun = Callable[..., None]


@pytest.fixture(scope="module")
def defaults() -> DictConfig:
    """Composed once: it takes longer than all the rest."""
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        return hydra.compose("train", ["hydra.run.dir=."])


@pytest.fixture
def make_run(tmp_path: Path, defaults: DictConfig) -> MakeRun:
    """Leave the records of a run that never was below tmp_path/sweep."""

    def make(name: str, *overrides: str, status: Status = "finished", fingerprint: str = "f" * 16) -> None:
        config = OmegaConf.merge(defaults, OmegaConf.from_dotlist(list(overrides)))
        settings = check(TrainSettings, OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
        result = RunResult(status, settings.monitor, data={"fingerprint": fingerprint})
        RunFolder(tmp_path / "sweep" / name).claim(settings.model_dump(mode="json"), result)

    return make


@pytest.fixture
def three_folds(make_run: MakeRun) -> None:
    for name, fold in (("a", 2), ("b", 0), ("c", 1)):
        make_run(name, "data.folds=3", f"data.fold={fold}")


@pytest.mark.usefixtures("three_folds")
def test_folds_are_found_in_their_order(tmp_path: Path) -> None:
    assert [run.path.name for run in find_folds([tmp_path])] == ["b", "c", "a"]


@pytest.mark.usefixtures("three_folds")
@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        (["data.fold=1"], {"status": "failed"}),  # an earlier start
        (["data.fold=1", "trainer.accelerator=cpu", "data.root=copy"], {}),  # another machine
    ],
)
def test_a_fold_trained_again_does_no_harm(
    tmp_path: Path, make_run: MakeRun, overrides: list[str], options: dict[str, Any]
) -> None:
    make_run("d", "data.folds=3", *overrides, **options)
    assert len(find_folds([tmp_path])) == 3


@pytest.mark.usefixtures("three_folds")
@pytest.mark.parametrize(
    ("overrides", "options", "message"),
    [
        (["data.folds=3", "data.fold=1", "seed=1"], {}, r"found seed 0 in .*sweep/. and 1 in .*name the folder of one"),
        (["data.folds=3", "data.fold=1", "data.split_seed=4"], {}, "data.split_seed 0 in .* and 4 in"),
        (["data.folds=4", "data.fold=3"], {}, "data.folds 3 in .* and 4 in"),
        (["data.folds=3", "data.fold=1", "task.tasks=[age]"], {}, "task.tasks None in"),
        (["data.folds=3", "data.fold=1"], {"fingerprint": "0" * 16}, "the photos' fingerprint ffff.* and 0000"),
        ([], {}, r"expected folds only, found .*sweep/d, which was trained without data.folds"),
    ],
)
def test_a_mixed_set_is_refused(
    tmp_path: Path, make_run: MakeRun, overrides: list[str], options: dict[str, Any], message: str
) -> None:
    make_run("d", *overrides, **options)
    with pytest.raises(RunFolderError, match=message):
        find_folds([tmp_path])


@pytest.mark.usefixtures("three_folds")
@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        ({"a": "x", "b": "y", "c": "zu"}, None),
        ({"a": "x", "b": "y", "c": "zx"}, r"found 2 photos held out never or twice \(u/1, x/1\): .* skip_done=false"),
        ({"a": "x", "b": "y", "c": "z"}, r"found 1 photos held out never or twice \(u/1\)"),
    ],
)
def test_recorded_sides_hold_out_every_photo_once(tmp_path: Path, held_out: dict[str, str], message: str) -> None:
    """Folds that two versions split differently have equal options and photos."""
    for name, people in held_out.items():
        roles = ["val" if person in people else "train" for person in "xyzu"]
        rows = pd.DataFrame({"photo": [f"{person}/1" for person in "xyzu"], "bytes": 1, "role": roles})
        rows.to_csv(tmp_path / "sweep" / name / "split.csv", index=False)
    with pytest.raises(RunFolderError, match=message) if message else nullcontext():
        find_folds([tmp_path])


def test_folds_that_are_missing_are_named(tmp_path: Path, make_run: MakeRun) -> None:
    make_run("a", "data.folds=4", "data.fold=2")
    make_run("b", "data.folds=4", "data.fold=0", status="failed")
    make_run("c", "data.folds=4", "data.fold=3", status="running")
    with pytest.raises(RunFolderError) as caught:
        find_folds([tmp_path])
    assert "found 1 of them; missing: 0 (failed), 1 (not there), 3 (interrupted)" in str(caught.value)


def test_people_drawn_to_train_on_differ_from_fold_to_fold(tmp_path: Path, make_run: MakeRun) -> None:
    for fold in (0, 1):
        make_run(f"{fold}", "data.folds=2", f"data.fold={fold}", "data.limit_people=10", fingerprint=f"{fold}" * 16)
    assert len(find_folds([tmp_path])) == 2


@pytest.mark.parametrize(
    ("place", "message"),
    [("nowhere", "expected a folder with runs at .*nowhere, found none"), ("", "found no run; .*data.fold=0,1,2,3,4")],
)
def test_a_place_without_runs_is_told(tmp_path: Path, place: str, message: str) -> None:
    with pytest.raises(RunFolderError, match=message):
        find_folds([tmp_path / place])
