"""A Ray cluster of two machines with one CPU each: processes of this machine that share its disk."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

MEMORY = 80 * 1024 * 1024  # bytes of each object store
AGENTS = ("ray.dashboard.agent", "ray._private.runtime_env.agent.main")


@dataclass
class RayCluster:
    """Running cluster; `launcher=ray hydra.launcher.address=ADDRESS` connects to it."""

    cluster: Any
    second: Any

    @property
    def address(self) -> str:
        """Host and port of the head."""
        return str(self.cluster.address)

    def kill_second(self) -> None:
        """Kill the second machine at once: its daemons, and with them its jobs."""
        self.cluster.remove_node(self.second, allow_graceful=False)


@contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """Start a cluster for the block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        from ray.cluster_utils import Cluster

        # Ray waits 15 s for the agents of a machine, which import hundreds of files: let the system have read them.
        subprocess.run([sys.executable, "-c", f"import {', '.join(AGENTS)}"], check=True)
        machine = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=machine)
        try:
            yield RayCluster(cluster, cluster.add_node(num_cpus=1, object_store_memory=MEMORY))
        finally:
            cluster.shutdown()
