"""One job of a sweep: what is done with an earlier run of the same config."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from mask_lightning.cli.compose import config_dir
from mask_lightning.pipelines import sweep_job as jobs
from mask_lightning.pipelines.photos import find_photos
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.runs.photos import fingerprint
from mask_lightning.settings.base import check
from mask_lightning.settings.identity import config_hash
from mask_lightning.settings.train import TrainSettings
from mask_lightning.sweeps import records


@pytest.fixture
def settings(competition: Path, tmp_path: Path) -> TrainSettings:
    overrides = [f"data.root={competition}", "data.val_fraction=0.25", f"outputs={tmp_path}"]
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = hydra.compose("train", overrides)
    return check(TrainSettings, OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Record of a job whose run is only said to be `trained` or `resumed`."""
    noted: dict[str, Any] = {}

    def fit(kind: str, path: Path) -> RunResult:
        noted["called"] = kind, path
        return RunResult("finished", "val/f1", best={"val/f1": 0.9})

    monkeypatch.setattr(records, "update_record", noted.update)
    monkeypatch.setattr(records, "sweep_folder", lambda: tmp_path / "sweep")
    monkeypatch.setattr(records, "was_requeued", lambda: False)
    monkeypatch.setattr(jobs, "train_run", lambda settings, path, overrides: fit("train", path))
    monkeypatch.setattr(jobs, "resume_run", lambda path, overrides=(), settings=None: fit("resume", path))
    return noted


def leave(path: Path, settings: TrainSettings, status: str, photos: str = "") -> Path:
    photos = photos or fingerprint(find_photos(settings).everyone)
    result = RunResult(
        status,  # type: ignore[arg-type]
        "val/f1",
        best={"val/f1": 0.5},
        data={"fingerprint": photos},
        config_hash=config_hash(settings),
    )
    RunFolder(path).claim({"seed": 0}, result)
    RunFolder(path).last.write_bytes(b"weights")
    return path


@pytest.mark.parametrize("place", ["runs/a", "sweeps/first/0"])
def test_what_is_done_is_skipped(settings: TrainSettings, noted, tmp_path: Path, place: str, capsys) -> None:
    done = leave(tmp_path / place, settings, "finished")
    assert jobs.run_job(settings, tmp_path / "new").score == 0.5
    assert noted == {"action": "skipped", "folder": done}
    assert f"the same run is finished in {done}" in capsys.readouterr().err


def test_done_jobs_of_a_sweep_that_lies_elsewhere_are_found(settings: TrainSettings, noted, tmp_path: Path) -> None:
    other = settings.model_copy(update={"outputs": tmp_path / "other"})
    leave(tmp_path / "sweep" / "0", settings, "finished")
    assert jobs.run_job(other, tmp_path / "new").score == 0.5


def test_what_was_interrupted_goes_on_in_its_folder(settings: TrainSettings, noted, tmp_path: Path) -> None:
    cut = leave(tmp_path / "sweeps" / "first" / "0", settings, "interrupted")
    assert jobs.run_job(settings, tmp_path / "new").score == 0.9
    assert noted == {"action": "resumed", "folder": cut, "called": ("resume", cut)}


@pytest.mark.parametrize(
    ("status", "photos", "changes"),
    [
        ("failed", "", {}),
        ("finished", "other photos", {}),
        ("finished", "", {"seed": 1}),
        ("finished", "", {"skip_done": False}),
    ],
)
def test_anything_else_is_trained_anew(settings, noted, tmp_path: Path, status: str, photos: str, changes) -> None:
    leave(tmp_path / "runs" / "a", settings, status, photos)
    assert jobs.run_job(settings.model_copy(update=changes), tmp_path / "new").score == 0.9
    assert noted == {"action": "trained", "folder": tmp_path / "new", "called": ("train", tmp_path / "new")}


def test_a_job_may_resume_by_name(settings: TrainSettings, noted, tmp_path: Path) -> None:
    jobs.run_job(settings.model_copy(update={"resume": tmp_path / "old"}), tmp_path / "new")
    assert noted["action"] == "resumed"
    assert noted["called"] == ("resume", tmp_path / "old")


def test_what_a_cluster_queued_again_goes_on_although_all_is_to_be_trained_anew(
    settings: TrainSettings, noted, tmp_path: Path, monkeypatch
) -> None:
    anew = settings.model_copy(update={"skip_done": False})
    leave(tmp_path / "sweeps" / "other" / "0", settings, "interrupted")
    cut = leave(tmp_path / "sweep" / "0", settings, "interrupted")
    monkeypatch.setattr(records, "was_requeued", lambda: True)
    jobs.run_job(anew, tmp_path / "new")
    assert noted == {"action": "resumed", "folder": cut, "called": ("resume", cut)}


def test_a_run_that_another_job_is_about_to_begin_is_waited_for(
    settings: TrainSettings, noted, tmp_path, monkeypatch
) -> None:
    def pause(seconds: float) -> None:  # the other job has come to its end meanwhile
        noted["waited"] = True
        leave(tmp_path / "runs" / "a", settings, "finished")
        other.__exit__(None, None, None)

    monkeypatch.setattr(time, "sleep", pause)
    other = jobs._claim(settings)
    assert other.__enter__()
    assert jobs.run_job(settings, tmp_path / "new").score == 0.5
    assert noted == {"waited": True, "action": "skipped", "folder": tmp_path / "runs" / "a"}
    assert not list(tmp_path.glob("sweeps/.claims/*"))


def test_a_repeated_job_waits_until_its_run_is_left(settings: TrainSettings, noted, tmp_path, monkeypatch) -> None:
    """The process of a machine that a cluster has lost may go on for a while, or a network disk keeps its lock."""
    cut = leave(tmp_path / "sweep" / "0", settings, "running")
    held = RunFolder(cut).held()

    def pause(seconds: float) -> None:
        noted["waited"] = True
        held.__exit__(None, None, None)

    monkeypatch.setattr(time, "sleep", pause)
    monkeypatch.setattr(records, "was_requeued", lambda: True)
    held.__enter__()
    jobs.run_job(settings, tmp_path / "new")
    assert noted == {"waited": True, "action": "resumed", "folder": cut, "called": ("resume", cut)}
