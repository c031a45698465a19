"""Claiming a run's folder, and its record."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from mask_lightning.errors import RunFolderError
from mask_lightning.runs.folder import RunFolder, RunResult

STARTED = RunResult(status="running", monitor="val/f1", overrides=["seed=1"], weights="from scratch")
CONFIG = {"seed": 1, "data": {"root": None, "val_fraction": 0.2}}


@pytest.fixture
def claimed(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "runs" / "first")
    folder.claim(CONFIG, STARTED)
    return folder


def test_a_claimed_folder_holds_config_record_and_a_place_for_checkpoints(claimed: RunFolder) -> None:
    assert yaml.safe_load((claimed.path / "config.yaml").read_text()) == CONFIG == claimed.read_config()
    record = json.loads((claimed.path / "result.json").read_text())
    assert (record["status"], record["monitor"], record["overrides"]) == ("running", "val/f1", ["seed=1"])
    assert claimed.read_result() == STARTED
    assert {claimed.best.parent, claimed.last.parent} == {claimed.path / "checkpoints"}
    assert claimed.best.parent.is_dir()


def test_a_folder_is_claimed_once(claimed: RunFolder) -> None:
    with pytest.raises(RunFolderError, match=f"already holds a run; continue it with resume={claimed.path}"):
        claimed.claim({"seed": 2}, RunResult(status="running", monitor="val/loss"))
    assert claimed.read_config() == CONFIG
    assert claimed.read_result() == STARTED


def test_only_one_of_eight_racing_runs_claims_a_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")

    def claims(seed: int) -> bool:
        try:
            folder.claim({"seed": seed}, STARTED)
        except RunFolderError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        winners = [seed for seed, won in enumerate(pool.map(claims, range(8))) if won]
    assert len(winners) == 1
    assert folder.read_config() == {"seed": winners[0]}


def test_the_error_names_a_folder_that_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file, not a folder")
    with pytest.raises(RunFolderError, match=r"cannot write to .*outputs/run \(.+\); set outputs to another"):
        RunFolder(tmp_path / "outputs" / "run").claim(CONFIG, STARTED)


def test_the_error_of_a_read_only_disk_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RunFolderError, match=r"cannot write to .*\(Read-only file system\); set outputs"):
        RunFolder(tmp_path / "run").claim(CONFIG, STARTED)


def test_an_update_changes_only_the_named_fields(claimed: RunFolder) -> None:
    updated = claimed.update_result(status="finished", best={"val/f1": 0.4, "val/loss": 1.5}, best_epoch=3)
    assert updated == claimed.read_result()
    assert (updated.status, updated.best_epoch, updated.weights) == ("finished", 3, "from scratch")


def test_a_nan_score_is_stored_as_null(claimed: RunFolder) -> None:
    for _ in range(2):
        claimed.update_result(best={"val/f1": math.nan, "val/loss": 1.5}, last={"val/f1": math.nan})
        record = json.loads(claimed.result.read_text(), parse_constant=pytest.fail)
        assert (record["best"], record["last"]) == ({"val/f1": None, "val/loss": 1.5}, {"val/f1": None})
    result = claimed.read_result()
    assert math.isnan(result.best["val/f1"])
    assert result.best["val/loss"] == 1.5
    claimed.result.write_text(claimed.result.read_text().replace("null", "NaN"))  # as older versions wrote it
    assert math.isnan(claimed.read_result().last["val/f1"])


@pytest.mark.parametrize(("best", "score"), [({"val/f1": 0.4, "val/loss": 1.5}, 0.4), ({}, None)])
def test_the_score_is_the_monitored_metric(best: dict[str, float], score: float | None) -> None:
    assert RunResult(status="finished", monitor="val/f1", best=best).score == score


def test_a_record_of_another_version_is_read(claimed: RunFolder) -> None:
    old = {"status": "finished", "monitor": "val/f1", "a_field_of_the_future": 1}
    claimed.result.write_text(json.dumps(old))
    assert claimed.read_result() == RunResult(status="finished", monitor="val/f1")


@pytest.mark.parametrize("record", [None, '{"status": ', '{"status": "finished"}', "[]"])
def test_the_error_names_an_unreadable_record(tmp_path: Path, record: str | None) -> None:
    folder = RunFolder(tmp_path)
    if record is not None:
        folder.result.write_text(record)
    with pytest.raises(RunFolderError, match=r"cannot read a run's record at .*result\.json"):
        folder.read_result()


@pytest.mark.parametrize("config", [None, "seed: [1", ""])
def test_the_error_names_an_unreadable_config(tmp_path: Path, config: str | None) -> None:
    folder = RunFolder(tmp_path)
    if config is not None:
        folder.config.write_text(config)
    with pytest.raises(RunFolderError, match=r"config\.yaml"):
        folder.read_config()
