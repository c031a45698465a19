"""Cores, memory and signals."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading

import pytest

from mask_lightning.utils.system import (
    JOBS,
    ignore_signals,
    keep_memory,
    map_in_order,
    share_of_cores,
    stop_on_interrupt,
)


@pytest.mark.parametrize(
    ("cores", "jobs", "processes", "want"),
    [(8, None, 1, 8), (8, "2", 1, 4), (8, "2", 2, 2), (2, "2", 1, 1), (2, "4", 2, 1), (8, "-1", 1, 1)],
)
def test_cores_are_shared_among_jobs_and_processes(
    monkeypatch, cores: int, jobs: str | None, processes: int, want: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.delenv(JOBS, raising=False)
    if jobs is not None:
        monkeypatch.setenv(JOBS, jobs)
    assert share_of_cores(processes) == want


COUNT_FAULTS = """
import resource, sys
from mask_lightning.utils.system import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(2**26)
before = faults()
for _ in range(5):
    bytearray(b"1") * 2**26
print(faults() - before)
"""


def faults(how: str) -> int:
    """Count the page faults of allocating and freeing 64 MiB five times."""
    return int(subprocess.run([sys.executable, "-c", COUNT_FAULTS, how], capture_output=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_keeping_memory_saves_page_faults() -> None:
    assert faults("keep") < faults("do not") / 3


def test_another_c_library_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: object) -> None:
        raise OSError("no C library")

    monkeypatch.setattr("ctypes.CDLL", none)
    keep_memory()


def test_only_existing_signals_are_ignored() -> None:
    former = signal.getsignal(signal.SIGINT)
    try:
        ignore_signals("SIGINT", "SIGNOWHERE")
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)


def test_the_first_ctrl_c_is_noted_and_the_second_raises() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_on_interrupt() as stopped:
        assert not stopped()
        signal.raise_signal(signal.SIGINT)
        assert stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_thread_gets_no_ctrl_c() -> None:
    found = []

    def run() -> None:
        with stop_on_interrupt() as stopped:
            found.append(stopped())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [False]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_results_come_in_order_and_few_items_are_held(threads: int) -> None:
    held: list[int] = []
    others: set[str] = set()

    def square(number: int) -> int:
        others.add(threading.current_thread().name)
        return number**2

    def numbers():
        for number in range(20):
            held.append(number)
            yield number

    for i, result in enumerate(map_in_order(square, numbers(), threads)):
        assert result == i**2
        assert len(held) <= i + 1 + threads
    assert (threading.current_thread().name in others) == (threads == 0)
