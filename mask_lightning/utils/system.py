"""CPU cores, threads, memory and signals of this process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import FrameType
from typing import TypeVar

from mask_lightning.errors import Terminated

Item = TypeVar("Item")
Result = TypeVar("Result")

JOBS = "MASK_LIGHTNING_JOBS"  # number of jobs that a launcher runs at once on this machine, set by conf/launcher

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from malloc.h


def share_of_cores(processes: int = 1) -> int:
    """Return the number of cores for each of `processes` equal processes, at least 1.

    Counts the cores that this process may use, divided by the number of jobs that a launcher runs at once. For one job
    per core (n_jobs=-1) it is 1.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // (int(os.environ.get(JOBS, "1")) * processes))


def map_in_order(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Call a function for each item in threads and yield the results in order; few items are held at a time.

    Args:
        function: called once per item.
        items: read by this thread.
        threads: 0 calls the function in this thread.
    """
    if threads == 0:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def keep_memory() -> None:
    """Let glibc keep freed memory for the next allocation of its size; does nothing for another C library.

    Without it, the memory of every activation and of every decoded photo is requested from the system again. That takes
    a third of a training step on a CPU, and doubles the time of decoding.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_MMAP_MAX, 0)


def trim_memory() -> None:
    """Let glibc return all free memory to the system once; does nothing for another C library."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Raise Terminated in the block when SIGTERM arrives, as Ctrl-C raises KeyboardInterrupt.

    Does nothing in a thread, and where a launcher handles or ignores the signal. Not for a block that fits: Lightning
    would call this handler first, in the middle of a step.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def stop(_: int, __: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C in the block only be noted, so that the block can end in order; the second raises as usual.

    Yields:
        Function that returns True after Ctrl-C; in a thread, which receives no signals, never.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return
    before = signal.getsignal(signal.SIGINT)

    def note(_: int, __: FrameType | None) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def ignore_signals(*names: str) -> None:
    """Ignore the named signals if the system has them; a terminal or cluster sends them to all processes of a job."""
    for name in names:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
