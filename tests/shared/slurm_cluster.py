"""A Slurm cluster of one node with two CPUs: munged, slurmctld and slurmd, as processes of a test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@dataclass
class SlurmCluster:
    """Running cluster; its commands need `environment`."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str) -> str:
        """Run a command of Slurm, and return its output."""
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout

    def job_ids(self) -> dict[str, str]:
        """Array index -> job id of the jobs in the queue."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%i").split()
        return {line.rpartition("_")[2]: line for line in lines}

    def start_controller(self) -> None:
        """Start slurmctld with the state that an earlier one left."""
        self.run("slurmctld")

    def end_jobs(self) -> None:
        """Cancel all jobs, and wait until their processes have ended, which slurmd sees to; half a minute at most."""
        with suppress(subprocess.SubprocessError):  # the controller may not run
            self.run("scancel", "--full", "--user=root")
            end = time.monotonic() + 40
            while self.run("squeue", "--noheader") and time.monotonic() < end:
                time.sleep(0.5)

    def kill(self, daemon: str) -> None:
        """Kill a daemon at once."""
        path = self.folder / f"{daemon}.pid"
        if path.exists():
            os.kill(int(path.read_text()), 9)
            path.unlink()


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[SlurmCluster]:
    """Start a cluster for the block; skips the test where Slurm is not installed or this is not root."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    if missing or os.getuid() != 0:
        pytest.skip(f"needs slurm-wlm, munge and root (missing: {', '.join(missing) or 'root'})")
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o700)
    (folder / "munge" / "key").write_bytes(os.urandom(1024))
    (folder / "munge" / "key").chmod(0o600)
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(host=socket.gethostname().split(".")[0], folder=folder, ports=_free_ports(2)))
    cluster = SlurmCluster(folder, {**os.environ, "SLURM_CONF": str(config)})
    files = {"key-file": "munge/key", "seed-file": "munge/seed", "log-file": "munge/log"}
    files |= {"socket": "munge.sock", "pid-file": "munged.pid"}
    try:
        cluster.run("munged", "--force", *(f"--{name}={folder / file}" for name, file in files.items()))
        cluster.start_controller()
        cluster.run("slurmd")
        end = time.monotonic() + 60
        while "idle" not in cluster.run("sinfo", "--noheader"):
            assert time.monotonic() < end, (folder / "slurmctld.log").read_text()
            time.sleep(0.5)
        yield cluster
    finally:
        cluster.end_jobs()
        for daemon in ("slurmctld", "slurmd", "munged"):
            cluster.kill(daemon)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
