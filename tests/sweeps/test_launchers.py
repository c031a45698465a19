"""Multiruns whose jobs run in other processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ray_cluster import ray_cluster
from slurm_cluster import slurm_cluster
from tiny_runs import TINY_RUN

from mask_lightning.cli.command import Job, run_command
from mask_lightning.cli.compose import config_dir
from mask_lightning.cli.hydra_callbacks import SweepSummary
from mask_lightning.settings.train import TrainSettings

FEW = ("data.clean_train_photos=28", "data.cache=off", "trainer.max_batches=1")
TINY = (*TINY_RUN, *FEW, "finetune=none", "finetune.epochs=30")


def start(folder: Path, *arguments: str, environment: Mapping[str, str] = os.environ) -> subprocess.Popen[str]:
    environment = {**environment, "PYTHONPATH": str(config_dir().parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mask_lightning.train", "-m", *TINY, "hydra.sweep.dir=sweep", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def wait_for(pattern: str, folder: Path, process: subprocess.Popen[str]) -> Path:
    end = time.monotonic() + 300
    while not (found := sorted(folder.glob(pattern))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    return found[0]


def jobs(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "sweep" / "summary.csv")
    return table.assign(action=table["action"].fillna(""))


@pytest.mark.slow
def test_joblib_trains_nothing_twice_and_loses_nothing(competition: Path, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the extra `joblib`")
    # Two jobs of one run are begun at once; the last job cannot be trained.
    command = ("launcher=joblib", "hydra.launcher.n_jobs=2", f"data.root={competition}", "seed=0,0,1,-1")
    with start(tmp_path, *command) as interrupted:
        wait_for("sweep/*/metrics.csv", tmp_path, interrupted)
        interrupted.send_signal(signal.SIGINT)
        _, message = interrupted.communicate(timeout=300)
    assert interrupted.returncode == 130, message
    assert "to continue, repeat the command" in message
    with start(tmp_path, *command) as again:
        _, message = again.communicate(timeout=300)
    assert again.returncode == 2, message
    table = jobs(tmp_path)
    assert sorted(table["action"][:2]) in (["elsewhere", "resumed"], ["resumed", "skipped"])
    assert table["status"].tolist()[1:] == ["finished", "finished", "failed"]
    assert message.count("seed must be greater than or equal to 0, got -1") == 2  # the job's and the table's
    trained = sorted(tmp_path.rglob("metrics.csv"))  # what was cut off before its first epoch has none
    assert [len(pd.read_csv(path)) for path in trained] == [30, 30]
    assert [json.loads(path.with_name("result.json").read_text())["status"] for path in trained] == ["finished"] * 2
    assert not list(tmp_path.glob("outputs/sweeps/.claims/*"))


@pytest.mark.slow
def test_submitit_requeues_a_preempted_job_and_it_resumes(competition: Path, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra `slurm`")
    options = ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5", f"data.root={competition}")
    with start(tmp_path, *options, "skip_done=false", "seed=0") as process:
        wait_for("sweep/0/metrics.csv", tmp_path, process)
        (controller,) = children(process.pid, "submitit.local._local")
        (job,) = children(controller, "submitit.core._submit")
        os.kill(job, signal.SIGUSR2)  # what the cluster sends before it takes the machine
        _, message = process.communicate(timeout=300)
    logs = "".join(path.read_text() for path in tmp_path.glob("sweep/.submitit/*/*_log.*"))
    assert process.returncode == 0, message + logs
    assert "continues in sweep/0, which was interrupted" in logs
    assert jobs(tmp_path)[["action", "status"]].to_numpy().tolist() == [["resumed", "finished"]]
    assert pd.read_csv(tmp_path / "sweep" / "0" / "metrics.csv")["epoch"].tolist() == list(range(30))
    assert len(list(tmp_path.rglob("result.json"))) == 1


@pytest.mark.slow
def test_a_slurm_cluster_loses_nothing_and_trains_nothing_twice(competition: Path, tmp_path: Path) -> None:
    """One job gets the signal of a preemption, one reaches its time limit, and the controller is killed meanwhile."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra `slurm`")
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, slurm_cluster(Path(folder)) as cluster:
        # Slurm signals up to 60 s earlier than asked: 30 to 90 s after the start, before a job of 900 epochs ends.
        limits = ("hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=30")
        node = ("hydra.launcher.gpus_per_node=null", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=null")
        options = (*node, *limits, f"data.root={competition}", "finetune.epochs=900", "seed=0,1")
        with start(tmp_path, "launcher=slurm", *options, environment=cluster.environment) as process:
            try:
                wait_for("sweep/0/metrics.csv", tmp_path, process)
                cluster.run("scancel", "--signal=USR2", cluster.job_ids()["0"])
                cluster.kill("slurmctld")
                time.sleep(2)
                cluster.start_controller()
                _, message = process.communicate(timeout=500)
            finally:
                process.kill()  # without accounting, submitit waits forever for a job that died
    logs = "".join(path.read_text() for path in sorted(tmp_path.glob("sweep/.submitit/*/*_log.*")))
    assert process.returncode == 0, message + logs
    for run in ("sweep/0", "sweep/1"):
        assert f"continues in {run}, which was interrupted" in logs
    assert jobs(tmp_path)[["action", "status"]].to_numpy().tolist() == [["resumed", "finished"]] * 2
    runs = sorted(tmp_path.rglob("metrics.csv"))
    assert [pd.read_csv(path)["epoch"].tolist() for path in runs] == [list(range(900))] * 2


@pytest.mark.slow
def test_ray_repeats_the_job_of_a_killed_machine_and_reports_failures(competition: Path, tmp_path: Path) -> None:
    """Two machines train at once; the job of the killed one continues on the other. The last job cannot be trained."""
    pytest.importorskip("ray", reason="needs the extra `ray`")
    options = ("launcher=ray", f"data.root={competition}", "finetune.epochs=20", "seed=0,1,-1")
    with (
        ray_cluster() as cluster,
        start(tmp_path, *options, f"hydra.launcher.address={cluster.address}") as process,
    ):
        for run in ("0", "1"):
            wait_for(f"sweep/{run}/metrics.csv", tmp_path, process)
        cluster.kill_second()
        _, message = process.communicate(timeout=500)
    assert process.returncode == 2, message
    assert message.count("is repeated: ") == 1
    table = jobs(tmp_path)
    assert table["status"].tolist() == ["finished", "finished", "failed"]
    assert sorted(table["action"][:2]) == ["resumed", "trained"]
    assert "seed must be greater than or equal to 0, got -1" in message
    runs = sorted(tmp_path.rglob("metrics.csv"))
    assert [pd.read_csv(path)["epoch"].tolist() for path in runs] == [list(range(20))] * 2
    assert len(list(tmp_path.rglob("result.json"))) == 2


@pytest.mark.slow
def test_ray_predicts_shards_and_ctrl_c_lets_jobs_save(competition: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra `ray`")
    options = ("launcher=ray", f"data.root={competition}", "seed=0")
    with start(tmp_path, *options, "finetune.epochs=900") as process:
        wait_for("sweep/*/metrics.csv", tmp_path, process)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=300)
    assert process.returncode == 130, message
    assert jobs(tmp_path)["status"].tolist() == ["interrupted"]
    assert json.loads((tmp_path / "sweep" / "0" / "result.json").read_text())["status"] == "interrupted"
    ckpt = f"ckpt={tmp_path / 'sweep' / '0'}"
    command = ("predict", "-m", "shards=2", "launcher=ray", ckpt, f"data.root={competition}", "batch_size=64")
    done = subprocess.run(
        [sys.executable, "-m", f"mask_lightning.{command[0]}", *command[1:], "accelerator=cpu", "num_workers=0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(config_dir().parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = [path.name for path in tmp_path.glob("outputs/predictions/shards-*/shard-*")]
    assert sorted(found) == ["shard-1-of-2.parquet", "shard-2-of-2.parquet"]


def children(parent: int, module: str) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            ppid = int(status.read_text().rsplit(")", 1)[1].split()[1])
            command = status.with_name("cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if ppid == parent and module.encode() in command:
            found.append(int(status.parent.name))
    return found


@pytest.fixture
def refused_by_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], handlers: None
) -> Any:
    """Submit a multirun to a cluster that keeps the job script and refuses it; returns exit code and stderr."""
    for name, script in {
        "srun": "",
        "sbatch": 'for last; do :; done; cp "$last" script.sh; echo "no such partition" >&2; exit 1',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(SweepSummary, "sweep", None)
    monkeypatch.setattr(SweepSummary, "launcher", None)

    def submit(*arguments: str, path: str = f"{tmp_path}:{os.environ['PATH']}") -> tuple[int, str]:
        monkeypatch.setenv("PATH", path)
        monkeypatch.setattr(sys, "argv", ["train", "-m", "launcher=slurm", "hydra.sweep.dir=sweep", *arguments])
        with pytest.raises(SystemExit) as left:
            run_command("train", TrainSettings, never_called)
        return int(left.value.code or 0), capsys.readouterr().err

    return submit


def never_called(settings: TrainSettings, job: Job) -> None:
    """The cluster refuses the job."""


def test_slurm_gets_its_options(refused_by_slurm: Any, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra `slurm`")
    options = {"partition": "gpu", "gpus_per_node": 2, "timeout_min": 90, "account": "mine"}
    code, message = refused_by_slurm("seed=0,1", *(f"hydra.launcher.{name}={value}" for name, value in options.items()))
    assert code == 1
    assert "error: SlurmLauncher gave up (FailedJobError: no such partition" in message
    script = (tmp_path / "script.sh").read_text()
    for line in ("partition=gpu", "gpus-per-node=2", "time=90", "account=mine", "array=0-1%2", "signal=USR2@120"):
        assert f"#SBATCH --{line}\n" in script


def test_a_machine_without_slurm_is_reported(refused_by_slurm: Any, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra `slurm`")
    code, message = refused_by_slurm("seed=0,1", path="")
    assert code == 1
    assert "error: SlurmLauncher gave up (RuntimeError: " in message
    assert "slurm cluster" in message
    assert "Traceback" not in message
