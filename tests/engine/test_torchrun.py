"""Runs whose processes torchrun starts: real gloo processes on this machine, as one machine or as two."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny_runs import TINY_RUN

from mask_lightning.cli.compose import config_dir
from mask_lightning.pipelines import train as runs
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.base import check
from mask_lightning.settings.train import TrainSettings

pytestmark = pytest.mark.slow

OPTIONS = (
    *TINY_RUN,
    "model.backbone=test_convnext",
    "finetune=none",
    "data.cache=off",
    "data.batch_size=8",  # 16 steps in an epoch: the last 6 photos are enough for two processes
)


@pytest.fixture
def torchrun(tmp_path: Path) -> Iterator:
    """Start torchrun with arguments; what a test leaves running is killed with its processes."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, port: int, command: str = "train") -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(config_dir().parent), "OMP_NUM_THREADS": "1"}
        torchrun, module = str(Path(sys.executable).with_name("torchrun")), f"mask_lightning.{command}"
        flags = [argument for argument in arguments if argument.startswith("--")]
        options = [argument for argument in arguments if not argument.startswith("--")]
        address = ("--master-addr=127.0.0.1", f"--master-port={port}")
        started.append(
            subprocess.Popen(
                [torchrun, *flags, *address, "-m", module, *options],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        for worker in workers(process):
            os.kill(worker, signal.SIGKILL)
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def workers(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(child) for child in children.read_text().split()] if children.exists() else []


def wait_for(path: Path, *processes: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 300
    while not path.exists():
        for process in processes:
            assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.05)


def test_two_machines_end_at_a_signal_to_the_second_and_one_machine_resumes(
    torchrun, competition: Path, tmp_path: Path
) -> None:
    """The weights are those of an uninterrupted run that starts its second process itself."""
    options = (*OPTIONS, f"data.root={competition}", "finetune.epochs=8", "hydra.run.dir=run", "trainer.num_nodes=2")
    port, run = free_port(), RunFolder(tmp_path / "run")
    nodes = [torchrun("--nnodes=2", f"--node-rank={i}", "--nproc-per-node=1", *options, port=port) for i in range(2)]
    wait_for(run.metrics, *nodes)
    for worker in workers(nodes[1]):
        os.kill(worker, signal.SIGTERM)
    output = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [1, 1], output  # torchrun's; that of the processes is 143
    assert "exitcode  : 143" in output[0]
    assert [path.parent for path in tmp_path.rglob("result.json")] == [run.path]
    assert run.read_result().status == "interrupted", output
    steps = torch.load(run.last, weights_only=True)["global_step"]
    assert 16 <= steps < 16 * 8

    again = torchrun("--nproc-per-node=2", "resume=run", port=free_port())
    output = [again.communicate(timeout=300)[0]]
    assert again.returncode == 0, output
    assert run.read_result().status == "finished"
    assert pd.read_csv(run.metrics)["epoch"].tolist() == list(range(8))
    config = run.read_config()
    assert (config["trainer"]["devices"], config["trainer"]["num_nodes"]) == (1, 2)

    trainer = {**config["trainer"], "devices": 2, "num_nodes": 1}
    whole = RunFolder(tmp_path / "whole")
    runs.train_run(check(TrainSettings, {**config, "trainer": trainer}), whole.path)
    states = [torch.load(each.last, weights_only=True)["state_dict"] for each in (run, whole)]
    for name, tensor in states[1].items():
        torch.testing.assert_close(states[0][name], tensor, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(("harm", "status"), [("two signals", "interrupted"), ("kill -9", "failed")])
def test_a_second_signal_and_a_killed_process_end_all_processes(
    torchrun, competition: Path, tmp_path: Path, harm: str, status: str
) -> None:
    options = (*OPTIONS, f"data.root={competition}", "finetune.epochs=500", "hydra.run.dir=run")
    run = RunFolder(tmp_path / "run")
    process = torchrun("--nproc-per-node=2", *options, port=free_port())
    wait_for(run.metrics, process)
    ranks = workers(process)
    assert len(ranks) == 2
    started = time.monotonic()
    if harm == "kill -9":
        os.kill(ranks[1], signal.SIGKILL)
    else:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert time.monotonic() - started < 25, output  # torchrun would kill after 30 s
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)
    assert run.read_result().status == status, output
    if status == "failed":
        assert "process 1 of the run ended" in str(run.read_result().error)


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("train", ("trainer.devices=3",), "expected trainer.devices to be what torchrun has started, got"),
        ("predict", (), "predict is one process, found 2 of torchrun"),
    ],
)
def test_a_contradiction_is_one_line(torchrun, command: str, options: tuple[str, ...], message: str) -> None:
    process = torchrun("--nproc-per-node=2", *options, port=free_port(), command=command)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert output.count(f"error: {message}") == 1, output
    assert "exitcode  : 2" in output
