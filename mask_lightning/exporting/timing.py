"""Throughput, latency and peak memory of a model file, measured in a process of its own."""

from __future__ import annotations

import multiprocessing
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from mask_lightning.exporting.runtimes import open_model
from mask_lightning.utils.system import share_of_cores

MIN_CALLS = 5
WARM_UP = 2


@dataclass(frozen=True)
class Timing:
    """Speed of one model with one batch size.

    Attributes:
        batch_size: photos per call.
        calls: number of measured calls.
        photos_per_second: photos of all calls divided by their time.
        p50_ms, p95_ms, p99_ms: percentiles of the time of a call, in milliseconds.
        peak_mb: largest resident memory of the process up to here, in MB; None where the system does not tell.
    """

    batch_size: int
    calls: int
    photos_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    peak_mb: float | None


def time_in_process(
    path: Path, *, engine: str, size: int, batch_sizes: Sequence[int], seconds: float, threads: int | None
) -> list[Timing]:
    """Measure a model as `time_model` in a new process, which contains nothing but the runtime."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(
            time_model, path, engine=engine, size=size, batch_sizes=batch_sizes, seconds=seconds, threads=threads
        ).result()


def time_model(
    path: Path, *, engine: str, size: int, batch_sizes: Sequence[int], seconds: float, threads: int | None = None
) -> list[Timing]:
    """Measure calls with images of noise in memory: no decoding, no other process.

    Args:
        path: model file.
        engine: torch, onnx or openvino.
        size: S, side of the images in pixels.
        batch_sizes: B of the calls; measured from the smallest up, since the peak memory never falls.
        seconds: duration of each measurement; at least MIN_CALLS calls.
        threads: of the runtime; None: one per core.

    Returns:
        One entry per batch size, from the smallest up.

    Raises:
        ExportError: as `open_model`.
    """
    threads = threads or share_of_cores()
    if engine == "torch":
        import torch

        torch.set_num_threads(threads)
    model = open_model(path, engine=engine, threads=threads)
    rng = np.random.default_rng(0)
    found = []
    for batch_size in sorted(batch_sizes):
        images = rng.integers(0, 256, (batch_size, size, size, 3), np.uint8)
        for _ in range(WARM_UP):
            model(images)
        times: list[float] = []
        while sum(times) < seconds or len(times) < MIN_CALLS:
            start = perf_counter()
            model(images)
            times.append(perf_counter() - start)
        p50, p95, p99 = (float(1000 * each) for each in np.percentile(times, (50, 95, 99)))
        speed = batch_size * len(times) / sum(times)
        found.append(Timing(batch_size, len(times), speed, p50, p95, p99, peak_megabytes()))
    return found


def peak_megabytes() -> float | None:
    """Return the largest resident memory of this process so far, in MB; None on Windows.

    On Linux `getrusage` would include the parent process, whose peak a child inherits.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        return int(found[1]) * 1024 / 1e6 if found else None
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS
