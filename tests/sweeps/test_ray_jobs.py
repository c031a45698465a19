"""The launcher for Ray: its options, and jobs that are repeated; a stand-in takes the place of Ray."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.utils import JobReturn

from mask_lightning.errors import ConfigError
from mask_lightning.sweeps import ray_jobs
from mask_lightning.sweeps.ray_jobs import INTERRUPTED, RayLauncher, _connected, collect, run_in_worker


class RayError(Exception):
    """The machine of a task has died."""


class RayTaskError(RayError):
    """A task has raised `cause`."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("a long traceback")
        self.cause = cause


class Cluster:
    """Stand-in for Ray: each submission of a job has the next of its outcomes; the newest task ends first."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, outcomes: dict[int, list[Any]]) -> None:
        self.outcomes = {job: iter(each) for job, each in outcomes.items()}
        self.submitted: list[int] = []
        self.cancelled: list[int] = []
        self.waited_for: list[int] = []

    def submit(self, job: int) -> tuple[int, Iterator[Any]]:
        self.submitted.append(job)
        return len(self.submitted), self.outcomes[job]

    def wait(self, tasks: list[Any], num_returns: int, timeout: float | None = None) -> tuple[list[Any], list[Any]]:
        self.waited_for.append(num_returns)
        return tasks[-num_returns:], tasks[:-num_returns]

    def get(self, task: tuple[int, Iterator[Any]]) -> Any:
        outcome = next(task[1])
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def cancel(self, task: tuple[int, Iterator[Any]]) -> None:
        self.cancelled.append(task[0])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    def run(outcomes: dict[int, list[Any]], max_retries: int = 2) -> tuple[Cluster, list[JobReturn]]:
        cluster = Cluster(outcomes)
        monkeypatch.setitem(sys.modules, "ray", cluster)
        return cluster, collect(cluster.submit, list(outcomes), max_retries=max_retries)

    return run


def test_results_come_in_the_order_of_the_jobs(run) -> None:
    done = [JobReturn() for _ in range(3)]
    cluster, results = run({4: [done[0]], 5: [done[1]], 6: [done[2]]})
    assert all(found is want for found, want in zip(results, done, strict=True))
    assert cluster.submitted == [4, 5, 6]


@pytest.mark.parametrize(
    ("end", "reason"), [(RayError("\n The node died. \nmore"), "RayError: The node died."), (INTERRUPTED, INTERRUPTED)]
)
def test_a_job_whose_machine_dies_is_repeated(run, capsys: pytest.CaptureFixture[str], end: Any, reason: str) -> None:
    cluster, _ = run({0: [JobReturn()], 1: [end, end, JobReturn()]})
    assert cluster.submitted == [0, 1, 1, 1]
    assert capsys.readouterr().err.splitlines() == [f"job 1 is repeated: {reason}"] * 2


def test_a_job_that_is_ended_too_often_is_reported_after_the_others(run) -> None:
    with pytest.raises(RuntimeError, match="job 1 was ended 3 times; repeat the command to continue"):
        run({0: [JobReturn()], 1: [RayError("gone")] * 3})


def test_what_a_job_raises_outside_of_its_command_is_raised(run) -> None:
    with pytest.raises(ConfigError, match=r"^no folder$"):
        run({0: [RayTaskError(ConfigError("no folder"))]})


def test_ctrl_c_ends_the_jobs_and_waits_for_their_checkpoints(run, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster({})

    def wait(tasks: list[Any], num_returns: int, timeout: float | None = None) -> Any:
        cluster.waited_for.append(num_returns)
        if timeout is None:
            raise KeyboardInterrupt
        return tasks, []

    monkeypatch.setattr(Cluster, "wait", lambda _, *arguments, **options: wait(*arguments, **options))
    monkeypatch.setattr(Cluster, "cancel", lambda _, task: cluster.cancelled.append(task[0]))
    with pytest.raises(KeyboardInterrupt):
        run({0: [], 1: []})
    assert (cluster.cancelled, cluster.waited_for) == ([1, 2], [1, 2])


def test_ray_that_is_not_installed_is_named_with_our_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"launcher=ray needs Ray .*pip install 'mask_lightning\[ray\]'"):
        RayLauncher().setup(hydra_context=None, task_function=None, config=None)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (None, r"^expected Ray to start on this machine, found an error \(too slow\); repeat the command .*=joblib$"),
        (
            "auto",
            r"^expected a Ray cluster at .*address=auto, found none \(too slow\); start one with `ray start .*null$",
        ),
    ],
)
def test_a_ray_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch, address: str, message: str) -> None:
    def init(**_: Any) -> None:
        raise Exception("too slow")  # as Ray does

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with pytest.raises(ConfigError, match=message), _connected(address):
        pytest.fail("connected")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_cpus": 0}, "num_cpus must be greater than 0"), ({"max_retries": -1}, "max_retries"), ({"n": 1}, "n")],
)
def test_options_are_validated_before_the_first_job(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RayLauncher(**options).setup(hydra_context=None, task_function=None, config=None)


def test_machines_need_the_folder_of_the_command(tmp_path: Path) -> None:
    sweep = ray_jobs.Sweep(*(None, None, None, {}, str(tmp_path / "nowhere"), 1))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"expected the folder .*nowhere on each machine of the Ray cluster"):
        run_in_worker(sweep, 0, [])
