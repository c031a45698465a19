"""Multiruns: no job stops the others, every job is recorded, and repeating the command resumes the sweep."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiny_runs import TINY_RUN, settings_for

from mask_lightning.cli.command import Job, run_command
from mask_lightning.cli.compose import config_dir
from mask_lightning.cli.hydra_callbacks import SweepSummary
from mask_lightning.engine.checkpoint_files import read_checkpoint
from mask_lightning.ensemble.members import find_members
from mask_lightning.errors import CheckpointError, ConfigError
from mask_lightning.pipelines import vote as vote_runs
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.settings.inference import VoteSettings
from mask_lightning.settings.train import TrainSettings
from mask_lightning.sweeps import records, studies
from mask_lightning.sweeps.records import find_runs

Main = Callable[[TrainSettings, Job], Any]
Multirun = Callable[..., tuple[int, str]]


@pytest.fixture
def multirun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], handlers: None
) -> Multirun:
    """Start a multirun of `main` in this process; returns exit code and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(SweepSummary, "sweep", None)
    monkeypatch.setattr(SweepSummary, "launcher", None)

    def run(main: Main, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["train", "-m", "hydra.sweep.dir=sweep", *arguments])
        with pytest.raises(SystemExit) as left:
            run_command("train", TrainSettings, main)
        return int(left.value.code or 0), capsys.readouterr().err

    return run


def train(settings: TrainSettings, job: Job, status: str = "finished") -> float:
    """Write the files of a run, without training."""
    records.update_record(action="trained", folder=job.folder)
    score = 0.1 * settings.seed
    result = RunResult(status, "val/f1", best={"val/f1": score}, last={"val/f1": score})  # type: ignore[arg-type]
    RunFolder(job.folder).claim({"seed": settings.seed}, result)
    return score


def summary() -> pd.DataFrame:
    return pd.read_csv("sweep/summary.csv")


@pytest.mark.usefixtures("rendered")
def test_a_sweep_leaves_a_table_and_a_plot(multirun: Multirun) -> None:
    code, message = multirun(train, "seed=1,2")
    assert code == 0
    assert summary()[["job", "status", "seed", "score"]].to_numpy().tolist() == [
        [0, "finished", 1, 0.1],
        [1, "finished", 2, 0.2],
    ]
    assert Path("sweep/summary.png").stat().st_size > 1000
    assert "2 finished; look at: sweep/summary.csv, summary.png" in message


def test_a_bug_stops_no_other_job_and_its_traceback_is_in_the_log(multirun: Multirun) -> None:
    def main(settings: TrainSettings, job: Job) -> float:
        if settings.seed == 1:
            raise ZeroDivisionError("of course")
        return train(settings, job)

    code, message = multirun(main, "seed=1,2")
    assert code == 1
    assert "error: ZeroDivisionError: of course" in message
    assert "Traceback" not in message
    log = Path("sweep/0/train.log").read_text()
    assert "Traceback" in log
    assert 'raise ZeroDivisionError("of course")' in log
    assert summary()["status"].tolist() == ["failed", "finished"]
    assert summary()["error"].tolist()[0] == "ZeroDivisionError: of course"
    assert "1 failed" in message


def test_exit_code_2_if_the_user_can_correct_all_errors(multirun: Multirun) -> None:
    def main(settings: TrainSettings, job: Job) -> None:
        raise ConfigError("seed is unlucky; take another")

    code, message = multirun(main, "seed=1,2")
    assert code == 2
    assert message.count("error: seed is unlucky; take another\n") == 2
    assert not Path("sweep/summary.png").exists()
    assert "Traceback" in Path("sweep/1/train.log").read_text()


def test_ctrl_c_ends_the_sweep_with_a_summary_of_the_jobs_so_far(multirun: Multirun) -> None:
    def main(settings: TrainSettings, job: Job) -> float:
        if settings.seed == 2:
            raise KeyboardInterrupt
        return train(settings, job)

    code, message = multirun(main, "seed=1,2,3")
    assert code == 130
    assert summary()["status"].tolist() == ["finished", "interrupted"]
    assert "to continue, repeat the command" in message


def test_a_failure_in_another_process_sets_the_exit_code(multirun: Multirun) -> None:
    def main(settings: TrainSettings, job: Job) -> None:
        records.update_record(error="reported by a worker", can_be_mended=settings.seed > 1)

    assert multirun(main, "seed=1,2")[0] == 1
    assert multirun(main, "seed=2,3")[0] == 2


def test_a_second_start_in_one_folder_keeps_the_runs_of_the_first(multirun: Multirun) -> None:
    assert multirun(lambda settings, job: train(settings, job, "failed"), "seed=1,2,3")[0] == 1
    assert multirun(train, "seed=1,2")[0] == 0
    assert sorted(path.parent.name for path in Path("sweep").glob("*/result.json")) == ["0", "0-2", "1", "1-2", "2"]
    assert summary()["folder"].tolist() == ["sweep/0-2", "sweep/1-2"]


def test_a_job_that_writes_nothing_leaves_no_folder(multirun: Multirun) -> None:
    assert multirun(lambda settings, job: None, "seed=1,2")[0] == 0
    assert sorted(path.name for path in Path("sweep").iterdir()) == ["jobs", "multirun.yaml", "summary.csv"]
    assert summary()["status"].tolist() == ["finished", "finished"]


def test_a_sweep_with_an_invalid_option_leaves_no_folder(multirun: Multirun) -> None:
    code, message = multirun(train, "model=lite0,lite9")
    assert (code, message.count("\n")) == (2, 1)
    assert "model=lite9 is not one of the choices" in message
    assert not Path("sweep").exists()


SWEEP = (
    *TINY_RUN,
    "data.clean_train_photos=28",
    "trainer.max_batches=1",
    "finetune=none",
    "finetune.epochs=12",
    "ensemble=gender",
    "data.val_fraction=0.25,1.5",
)  # jobs 0, 2 and 4 are gender0, gender1 and gender2, the others cannot be trained


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(config_dir().parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mask_lightning.train", "-m", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def wait_for(pattern: str, folder: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_repeating_a_killed_ensemble_trains_nothing_twice_and_loses_nothing(competition: Path, tmp_path: Path) -> None:
    command = (*SWEEP, f"data.root={competition}")
    with start(tmp_path, *command) as killed:
        wait_for("outputs/sweeps/*/2/metrics.csv", tmp_path, killed)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
    (first,) = (path for path in (tmp_path / "outputs" / "sweeps").iterdir() if path.name[0] != ".")
    assert pd.read_csv(first / "summary.csv")["status"].tolist() == ["finished", "failed"]
    assert json.loads((first / "2" / "result.json").read_text())["status"] == "running"
    before = {path: path.read_bytes() for path in (first / "0").rglob("*") if path.is_file()}
    epochs = len(pd.read_csv(first / "2" / "metrics.csv"))
    assert 1 <= epochs < 12

    with start(tmp_path, *command) as again:
        _, message = again.communicate(timeout=300)
    assert again.returncode == 2
    sweeps = {path for path in (tmp_path / "outputs" / "sweeps").iterdir() if path.name[0] != "."}
    (second,) = sweeps - {first}
    table = pd.read_csv(second / "summary.csv")
    assert table["action"].fillna("").tolist() == ["skipped", "", "resumed", "", "trained", ""]
    assert table["status"].tolist() == ["finished", "failed"] * 3
    assert table["folder"].tolist()[::2] == [f"outputs/sweeps/{place}" for place in folders(first, second)]
    assert table["score"].notna().tolist() == [True, False] * 3
    assert message.count("data.val_fraction must be less than 1, got 1.5") >= 3
    assert "6 jobs: their checkpoints need up to" in message
    assert "ConfigError" in (second / "1" / "train.log").read_text()
    assert {path: path.read_bytes() for path in (first / "0").rglob("*") if path.is_file()} == before
    assert pd.read_csv(first / "2" / "metrics.csv")["epoch"].tolist() == list(range(12))
    found = find_members([second])
    assert ([member.name for member in found.members], found.missing) == (["gender0", "gender1", "gender2"], [])
    kept = sorted(path.relative_to(tmp_path / "outputs" / "sweeps") for path in tmp_path.rglob("*.ckpt"))
    assert [str(path) for path in kept] == [f"{place}/checkpoints/best.ckpt" for place in folders(first, second)]


def folders(first: Path, second: Path) -> list[str]:
    """Return the run folders of the three members."""
    return [f"{first.name}/0", f"{first.name}/2", f"{second.name}/4"]


def read_everything(sweep: Path) -> None:
    """Read every file of a run that a vote reads."""
    for folder in map(RunFolder, find_runs([sweep])):
        folder.read_result()
        folder.read_config()
        for checkpoint in (path for path in (folder.best, folder.last) if path.exists()):
            read_checkpoint(checkpoint)


@pytest.mark.slow
def test_a_vote_over_a_running_sweep_names_the_missing_members(competition: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"

    def vote(name: str, *overrides: str) -> dict[str, Any]:
        quiet = ("num_workers=0", "accelerator=cpu", "progress=false", "soup=false")
        vote_runs.vote(settings_for("vote", VoteSettings, f"runs={sweep}", *quiet, *overrides), tmp_path / name)
        return dict(json.loads((tmp_path / name / "vote.json").read_text()))

    def watch(process: subprocess.Popen[str], until: str) -> None:
        while process.poll() is None and not (sweep / until).exists():
            read_everything(sweep)
            time.sleep(0.02)

    command = (*SWEEP[:-1], "data.val_fraction=0.25", "hydra.sweep.dir=sweep", f"data.root={competition}")
    with start(tmp_path, *command) as process:
        watch(process, "1/metrics.csv")
        with pytest.raises(CheckpointError, match=r"found none for gender1 \(running\), gender2; .*allow_missing=true"):
            vote("every")
        watch(process, "2/metrics.csv")
        some = vote("some", "allow_missing=true")
        watch(process, "none")
        _, message = process.communicate(timeout=300)
    assert process.returncode == 0, message
    assert (list(some["members"]), some["missing"]) == (["gender0", "gender1"], ["gender2"])
    assert some["left_out"] == ["gender2 (running)"]
    assert list(vote("all")["members"]) == ["gender0", "gender1", "gender2"]


def test_optuna_chooses_the_values_and_a_pruned_trial_is_no_failure(multirun: Multirun, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="needs the extra `optuna`", exc_type=ImportError)
    seeds: list[int] = []

    def search(settings: TrainSettings, job: Job) -> float:
        seeds.append(settings.seed)
        trial = studies.current_trial("val/f1")
        assert trial is not None
        pruned = trial.report(1, 1 / len(seeds))  # each trial is worse than the one before
        trial.describe(run=job.folder, pruned=pruned)
        return train(settings, job, "pruned" if pruned else "finished")

    command = ("sweeper=optuna", "seed=int(interval(0,1000))", f"outputs={tmp_path}", "hydra.sweeper.n_trials=3")
    code, err = multirun(search, *command, "hydra.sweeper.reduction_factor=2")
    assert (code, len(seeds)) == (0, 3)
    assert "2 pruned, 1 finished; look at: sweep/summary.csv, summary.png, study_history.png" in err
    assert "repeat the command" not in err
    code, err = multirun(search, *command, "hydra.sweeper.reduction_factor=2")
    assert (code, len(seeds)) == (0, 3)
    assert ": 3 of 3 trials have ended" in err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("hydra.sweeper.pruner=median", "pruner must be 'asha', 'hyperband' or 'none', got 'median'; set pruner"),
        ("seed=1", "sweeper=optuna searches options with several values, found none; add one, such as"),
    ],
)
def test_a_mistake_in_a_search_is_one_line(multirun: Multirun, option: str, message: str, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="needs the extra `optuna`", exc_type=ImportError)
    code, err = multirun(train, "sweeper=optuna", option, f"outputs={tmp_path}")
    assert code == 2
    assert f"error: {message}" in err
    assert not (tmp_path / "sweep").exists()
