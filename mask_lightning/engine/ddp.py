"""Several processes on this machine that train one network: a run starts the others beside itself, for DDP.

Lightning would start the whole command once more for each process, which a multirun, a notebook or a launcher's job
does not survive. Here the others are told what to fit (`mask_lightning.pipelines.ddp_process`), and end with the fit.
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

from mask_lightning.errors import ProcessError
from mask_lightning.utils.system import share_of_cores

READY = "ready"  # what a process says once it only waits for the others
PATIENCE = 60  # seconds for the others to end after the fit has


def count_processes(devices: int | Literal["auto"], accelerator: str) -> int:
    """`auto` -> one per GPU, where the run will be on GPUs."""
    if devices != "auto":
        return devices
    return max(1, torch.cuda.device_count()) if accelerator in ("auto", "gpu") else 1


def choose_strategy(processes: int, *, freezes: bool) -> Strategy | Literal["auto"]:
    """DDP for several processes.

    Args:
        processes: how many.
        freezes: whether some parameters do not learn all the time. DDP fixes at the start whose gradients it waits for.
    """
    if processes == 1:
        return "auto"
    # Not at each forward: those of scoring are not equally many, and callbacks/common_step.py does it better.
    known = inspect.signature(DistributedDataParallel).parameters
    sync = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # up to torch 2.13
    options: dict[str, Any] = {"find_unused_parameters": freezes, sync: False}
    return DDPStrategy(**options)


@contextmanager
def other_ranks(processes: int, task: Mapping[str, Any]) -> Iterator[None]:
    """Around a fit: the other processes that do it, too. This one has rank 0, unless it is one of them.

    Args:
        processes: how many, this one included.
        task: plain values for `mask_lightning.pipelines.ddp_process`.

    Raises:
        ProcessError: one of them ended early.
    """
    if processes == 1:
        yield
    elif os.environ.get("LOCAL_RANK", "0") != "0":
        print(READY, flush=True)
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody reads on
        yield
    else:
        with _place_of_rank_zero(processes), _started(processes, task):
            yield


@contextmanager
def _started(processes: int, task: Mapping[str, Any]) -> Iterator[None]:
    ranks = [_Rank(rank, task) for rank in range(1, processes)]
    try:
        for rank in ranks:
            rank.wait_until_ready()
        yield
        for rank in ranks:
            rank.wait_until_done()
    except RuntimeError as error:  # of the connection to one that has ended, maybe
        for rank in ranks:
            rank.check(error)
        raise
    finally:
        for rank in ranks:
            rank.end()
        if torch.distributed.is_initialized():  # else whoever computes a metric next would wait for them
            torch.distributed.destroy_process_group()


class _Rank:
    """One of the other processes. It ends when its standard input does: also if this process is killed."""

    def __init__(self, rank: int, task: Mapping[str, Any]) -> None:
        self.rank, self.has_failed = rank, False
        package = str(Path(__file__).parents[2])
        places = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        with tempfile.NamedTemporaryFile(prefix=f"mask_lightning-rank{rank}-", suffix=".log", delete=False) as log:
            self.log = Path(log.name)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mask_lightning.pipelines.ddp_process"],
                env={**os.environ, "LOCAL_RANK": str(rank), "PYTHONPATH": places},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is this process's business
            )
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(task) + "\n")
            self.process.stdin.flush()

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        if not any(line.strip() == READY for line in self.process.stdout):  # up to its end
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
        said = self.log.read_text(errors="replace").strip().splitlines() or ["nothing"]
        return ProcessError(
            f"process {self.rank} of the run ended with exit code {self.process.returncode}, its last words: "
            f"{said[-1]}; all it said is in {self.log}"
        )

    def end(self) -> None:
        self.process.kill()
        with suppress(BrokenPipeError):
            self.process.communicate()
        if not self.has_failed:
            self.log.unlink(missing_ok=True)


@contextmanager
def _place_of_rank_zero(processes: int) -> Iterator[None]:
    """What Lightning reads from the environment, and this process's share of the cores."""
    threads = int(os.environ.get("OMP_NUM_THREADS") or share_of_cores(processes))
    place = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(find_free_network_port()),
        "WORLD_SIZE": str(processes),
        "NODE_RANK": "0",
        "LOCAL_RANK": "0",
        "OMP_NUM_THREADS": str(threads),
    }
    with _environment(place), _threads(threads):
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
