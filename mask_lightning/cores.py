"""How many of the machine's cores are for this process."""

from __future__ import annotations

import os

JOBS = "MASK_LIGHTNING_JOBS"  # how many jobs a launcher runs at once on this machine: conf/launcher sets it


def share_of_cores(processes: int = 1) -> int:
    """Cores for each of `processes` alike ones: those that this one may run on, divided among all that run at once.

    At least 1; where a launcher was asked for one job per core (n_jobs=-1), 1.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // (int(os.environ.get(JOBS, "1")) * processes))
