"""CPU cores, memory and signals of this process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

JOBS = "MASK_LIGHTNING_JOBS"  # how many jobs a launcher runs at once on this machine: conf/launcher sets it


def share_of_cores(processes: int = 1) -> int:
    """Cores for each of `processes` alike ones: those that this one may run on, divided among all that run at once.

    At least 1; where a launcher was asked for one job per core (n_jobs=-1), 1.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // (int(os.environ.get(JOBS, "1")) * processes))


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def keep_memory() -> None:
    """Have glibc keep what is freed, for the next of the same size; another C library: slower, nothing else.

    Fetching the memory of every activation, or of every decoded photo, from the system anew costs a training step on
    a CPU a third of its time, and a photo as long as its decoding.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_MMAP_MAX, 0)


def trim_memory() -> None:
    """Have glibc hand all free memory back to the system, once; another C library: nothing."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def ignore_signals(*names: str) -> None:
    """Ignore those of the signals that the system has: a terminal and a cluster signal all processes of a job."""
    for name in names:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
