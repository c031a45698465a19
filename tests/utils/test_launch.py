"""Processes that torchrun has started, and options that contradict it."""

from __future__ import annotations

import pytest

from mask_lightning.errors import ConfigError
from mask_lightning.utils.launch import Launch, check_launch, find_launch


def environment(rank: int, local_rank: int, node: int, per_node: int, nodes: int, total: int) -> dict[str, str]:
    """Return what torchrun sets."""
    values = {"RANK": rank, "LOCAL_RANK": local_rank, "GROUP_RANK": node, "LOCAL_WORLD_SIZE": per_node}
    values |= {"GROUP_WORLD_SIZE": nodes, "WORLD_SIZE": total}
    return {"TORCHELASTIC_RUN_ID": "none", **{name: str(value) for name, value in values.items()}}


def test_a_process_finds_its_place() -> None:
    launch = find_launch(environment(5, 1, 2, 2, 3, 6))
    assert launch == Launch(rank=5, local_rank=1, node=2, per_node=2, nodes=3)
    assert launch.processes == 6


@pytest.mark.parametrize("given", [{}, {"RANK": "1", "WORLD_SIZE": "2"}, environment(0, 0, 0, 1, 1, 1)])
def test_without_torchrun_or_with_one_process_there_is_none(given: dict[str, str]) -> None:
    assert find_launch(given) is None


@pytest.mark.parametrize("given", [environment(0, 0, 0, 2, 2, 3), environment(2, 0, 1, 1, 2, 3)])
def test_machines_with_different_numbers_of_processes_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="the same --nproc-per-node on each machine, found 3 processes on 2"):
        find_launch(given)


TWO_BY_TWO = Launch(rank=0, local_rank=0, node=0, per_node=2, nodes=2)


@pytest.mark.parametrize(("devices", "num_nodes"), [(1, 1), ("auto", 1), (2, 1), (2, 2), ("auto", 2)])
def test_options_that_agree_with_torchrun(devices, num_nodes: int) -> None:
    check_launch(TWO_BY_TWO, devices=devices, num_nodes=num_nodes)


@pytest.mark.parametrize(
    ("launch", "devices", "num_nodes", "message"),
    [
        (TWO_BY_TWO, 3, 2, "got trainer.devices=3 and --nproc-per-node=2; leave trainer.devices out"),
        (TWO_BY_TWO, 2, 3, "got trainer.num_nodes=3 and --nnodes=2; leave trainer.num_nodes out"),
        (None, 1, 2, "expected torchrun for trainer.num_nodes=2, found one process on one machine"),
    ],
)
def test_options_that_contradict_torchrun(launch, devices: int, num_nodes: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        check_launch(launch, devices=devices, num_nodes=num_nodes)
    assert "\n" not in str(raised.value)
    check_launch(None, devices=2, num_nodes=1)
