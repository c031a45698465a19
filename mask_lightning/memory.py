"""Freed memory: kept in the process, where the C library would hand it back to the system each time, or given back."""

from __future__ import annotations

import contextlib
import ctypes

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
