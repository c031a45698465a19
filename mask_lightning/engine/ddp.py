"""Train one network with several processes (DDP): a run starts the others itself, or torchrun has started all.

Lightning would start the whole command again for each process, which fails in a multirun, a notebook or a launcher's
job. Here each other process receives what to fit (`mask_lightning.pipelines.ddp_process`). A process that the run has
started ends with the fit; those of torchrun wait for the next one (`engine.torchrun`).
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric.plugins.environments.lightning import find_free_network_port
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch.nn.parallel import DistributedDataParallel

from mask_lightning.engine.torchrun import end_group, meeting
from mask_lightning.errors import ProcessError
from mask_lightning.utils.launch import Launch, find_launch
from mask_lightning.utils.system import raise_on_sigterm, share_of_cores

READY = "ready"  # line that a process prints once it only waits for the others
PATIENCE = 60  # seconds for the other processes to end after the fit


def count_processes(devices: int | Literal["auto"], accelerator: str) -> int:
    """Count the processes of a run on this machine: as many as torchrun has started, else one per device.

    `auto` is one per GPU if the run will be on GPUs, else one.

    Args:
        devices: `trainer.devices`.
        accelerator: `trainer.accelerator`.

    Example:
        >>> count_processes(2, "cpu"), count_processes("auto", "cpu")
        (2, 1)
    """
    launch = find_launch()
    if launch is not None:
        return launch.per_node
    if devices != "auto":
        return devices
    return max(1, torch.cuda.device_count()) if accelerator in ("auto", "gpu") else 1


def choose_strategy(processes: int, *, freezes: bool) -> Strategy | Literal["auto"]:
    """Choose Lightning's strategy: DDP for several processes.

    Args:
        processes: number of processes.
        freezes: some parameters are frozen in part of the run. DDP otherwise waits for the gradients of all parameters
            that were trainable at the start.
    """
    if processes == 1:
        return "auto"
    # Do not synchronize buffers at each forward: the number of validation batches differs between processes, and
    # callbacks/common_step.py averages the statistics after each step.
    known = inspect.signature(DistributedDataParallel).parameters
    sync = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # up to torch 2.13
    options: dict[str, Any] = {"find_unused_parameters": freezes, sync: False}
    return DDPStrategy(**options)


@contextmanager
def other_ranks(processes: int, task: Mapping[str, Any]) -> Iterator[None]:
    """Run the other processes of a fit during the block. This process has rank 0, unless it is one of them.

    Those of torchrun run already, and take part in the fit of the block.

    Args:
        processes: number of processes, this one included.
        task: plain values for `mask_lightning.pipelines.ddp_process`.

    Raises:
        ProcessError: another process ended early.
    """
    launch = find_launch()
    if processes == 1:
        yield
    elif launch is not None:
        try:
            with meeting(launch, task) as port, _torchrun_environment(launch, port):
                yield
        finally:
            if launch.rank == 0:
                end_group()
    elif os.environ.get("LOCAL_RANK", "0") != "0":
        print(READY, flush=True)
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # rank 0 stops reading stdout here
        yield
    else:
        with _rank_zero_environment(processes), _started(processes, task):
            yield


@contextmanager
def _started(processes: int, task: Mapping[str, Any]) -> Iterator[None]:
    ranks = [_Rank(rank, task) for rank in range(1, processes)]
    try:
        with raise_on_sigterm():
            for rank in ranks:
                rank.wait_until_ready()
        yield
        for rank in ranks:
            rank.wait_until_done()
    except RuntimeError as error:  # perhaps a lost connection to a process that has ended
        for rank in ranks:
            rank.check(error)
        raise
    finally:
        for rank in ranks:
            rank.end()
        end_group()


class _Rank:
    """Another process of the fit. It ends when its standard input closes, also if this process is killed."""

    def __init__(self, rank: int, task: Mapping[str, Any]) -> None:
        self.rank, self.has_failed = rank, False
        package = str(Path(__file__).parents[2])
        python_path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        with tempfile.NamedTemporaryFile(prefix=f"mask_lightning-rank{rank}-", suffix=".log", delete=False) as log:
            self.log = Path(log.name)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mask_lightning.pipelines.ddp_process"],
                env={**os.environ, "LOCAL_RANK": str(rank), "PYTHONPATH": python_path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # only this process handles Ctrl-C
            )
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(task) + "\n")
            self.process.stdin.flush()

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        if not any(line.strip() == READY for line in self.process.stdout):  # until it closes
            self.process.wait()
            raise self._failure()

    def wait_until_done(self) -> None:
        if self.process.wait(PATIENCE):
            raise self._failure()

    def check(self, error: Exception) -> None:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
            raise self._failure() from error

    def _failure(self) -> ProcessError:
        self.has_failed = True
        lines = self.log.read_text(errors="replace").strip().splitlines() or ["nothing"]
        return ProcessError(
            f"process {self.rank} of the run ended with exit code {self.process.returncode}, its last output: "
            f"{lines[-1]}; its whole output is in {self.log}"
        )

    def end(self) -> None:
        self.process.kill()
        with suppress(BrokenPipeError):
            self.process.communicate()
        if not self.has_failed:
            self.log.unlink(missing_ok=True)


@contextmanager
def _rank_zero_environment(processes: int) -> Iterator[None]:
    """Set the environment variables that Lightning reads, and this process's share of the cores."""
    threads = int(os.environ.get("OMP_NUM_THREADS") or share_of_cores(processes))
    values = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(find_free_network_port()),
        "WORLD_SIZE": str(processes),
        "NODE_RANK": "0",
        "LOCAL_RANK": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "False",  # torchrun may have started this process alone
        "OMP_NUM_THREADS": str(threads),
    }
    with _environment(values), _threads(threads):
        yield


@contextmanager
def _torchrun_environment(launch: Launch, port: int) -> Iterator[None]:
    """Let Lightning meet at this port, as torchrun's own has no store of the fit; torchrun sets OMP_NUM_THREADS."""
    values = {"MASTER_PORT": str(port), "NODE_RANK": str(launch.node), "TORCHELASTIC_USE_AGENT_STORE": "False"}
    with _environment(values), _threads(int(os.environ.get("OMP_NUM_THREADS") or share_of_cores(launch.per_node))):
        yield


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
