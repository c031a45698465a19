"""The processes that torchrun has started for one run, as its environment variables describe them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mask_lightning.errors import ConfigError


@dataclass(frozen=True)
class Launch:
    """This process among those of torchrun.

    Attributes:
        rank: number of this process among all; 0 runs the command, the others help it to fit.
        local_rank: number of this process on its machine.
        node: number of its machine.
        per_node: processes on each machine.
        nodes: machines.
    """

    rank: int
    local_rank: int
    node: int
    per_node: int
    nodes: int

    @property
    def processes(self) -> int:
        """Number of processes on all machines."""
        return self.per_node * self.nodes


def find_launch(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """Return what torchrun has started; None without torchrun, and for a single process.

    Raises:
        ConfigError: the machines have different numbers of processes.

    Example:
        >>> find_launch({}) is None
        True
    """
    if "TORCHELASTIC_RUN_ID" not in environment:
        return None
    names = ("RANK", "LOCAL_RANK", "GROUP_RANK", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE")
    launch = Launch(*(int(environment[name]) for name in names))
    if launch.processes == 1:
        return None
    total = int(environment.get("WORLD_SIZE", launch.processes))  # Lightning removes it after a fit
    if total != launch.processes or launch.rank != launch.node * launch.per_node + launch.local_rank:
        raise ConfigError(
            f"expected the same --nproc-per-node on each machine, found {total} processes on {launch.nodes} machines, "
            f"{launch.per_node} of them on this one; start torchrun with the same number everywhere"
        )
    return launch


def check_launch(launch: Launch | None, *, devices: int | Literal["auto"], num_nodes: int) -> None:
    """Check that the options of a run and torchrun ask for the same processes.

    Args:
        launch: result of `find_launch`.
        devices: `trainer.devices`; 1, the default, and auto agree with any number of processes.
        num_nodes: `trainer.num_nodes`; 1, the default, agrees with any number of machines.

    Raises:
        ConfigError: they contradict each other.
    """
    if launch is None:
        if num_nodes > 1:
            raise ConfigError(
                f"expected torchrun for trainer.num_nodes={num_nodes}, found one process on one machine; start "
                f"torchrun --nnodes={num_nodes} --nproc-per-node=DEVICES --node-rank=I --master-addr=HOST "
                "-m mask_lightning.train on each machine, or leave trainer.num_nodes out"
            )
        return
    for option, asked, flag, found in (
        ("trainer.devices", devices, "--nproc-per-node", launch.per_node),
        ("trainer.num_nodes", num_nodes, "--nnodes", launch.nodes),
    ):
        if asked not in (1, "auto", found):
            raise ConfigError(
                f"expected {option} to be what torchrun has started, got {option}={asked} and {flag}={found}; leave "
                f"{option} out, or make them equal"
            )
