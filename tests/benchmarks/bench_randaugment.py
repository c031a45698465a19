"""RandAugment(3, 6) of a whole batch at once against PIL images one by one: photos/s on this CPU, kernels for a GPU.

    python tests/benchmarks/bench_randaugment.py [result.json] [--size 224] [--rounds 5]

Both change the same 32 photos with the same draws, in turns within one process of one thread, because only ratios from
one run count on a shared machine. Counted are seconds of computing, which other processes disturb less.

On a GPU the batch costs the host the launch of its kernels, about 5 microseconds each, hardly more of them for more
photos; on PIL images each photo costs a core its time. `cores` is how many it would take to keep up with the launches.
Kernels are the operations that torch dispatches, without views; a few of them are more than one kernel on a GPU. What
Python and torch take to launch them is measured, too: on photos of 8 pixels there is little else to do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mask_lightning.data.randaugment import NUM_BINS, CachedRandAugment, augment_batch, draw_operations
from mask_lightning.data.transforms import to_uint8

NUM_OPS, MAGNITUDE = 3, 6
BATCH = 32
LAUNCH = 5e-6  # seconds
Batch = list[Image.Image]


class CountKernels(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts aten operations that compute something."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.namespace == "aten" and not func.is_view
        return func(*args, **(kwargs or {}))


def photos(count: int, size: int) -> Batch:
    """Noise: no operation's time depends on what is in a photo."""
    rng = np.random.default_rng(0)
    return [Image.fromarray(pixels) for pixels in rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)]


def stack(batch: Batch) -> Tensor:
    """As they lie in a batch (B, 3, S, S), channels last."""
    return torch.stack([to_uint8(photo).permute(1, 2, 0) for photo in batch]).permute(0, 3, 1, 2)


def one_by_one(batch: Batch) -> Tensor:
    """On PIL images."""
    augment = CachedRandAugment(NUM_OPS, MAGNITUDE, NUM_BINS)
    return stack([augment(photo) for photo in batch])


def at_once(batch: Batch) -> Tensor:
    """On tensors."""
    changes = np.stack([draw_operations(NUM_OPS, 0.0) for _ in batch])
    return augment_batch(stack(batch), changes, magnitude=MAGNITUDE)


def seconds_per_photo(work: Callable[[Batch], Tensor], batch: Batch, seed: int, batches: int = 4) -> float:
    """Return seconds of CPU time in this process."""
    torch.manual_seed(seed)
    start = time.process_time()
    for _ in range(batches):
        work(batch)
    return (time.process_time() - start) / (batches * len(batch))


def compare(size: int, rounds: int) -> dict[str, list[float]]:
    """Contender -> seconds per photo, round by round; the first round, which warms up, is left out."""
    batch = photos(BATCH, size)
    contenders = {"one_by_one": one_by_one, "at_once": at_once}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for seed in range(rounds + 1):
        for name, work in contenders.items():
            times[name].append(seconds_per_photo(work, batch, seed))
    return {name: values[1:] for name, values in times.items()}


def launches_per_batch(count: int, batches: int = 20) -> tuple[float, float]:
    """Kernels and seconds of the host for `count` photos, means over `batches`."""
    images = stack(photos(count, 8))
    torch.manual_seed(0)
    drawn = [np.stack([draw_operations(NUM_OPS, 0.0) for _ in range(count)]) for _ in range(batches)]
    with CountKernels() as counter:
        for changes in drawn:
            augment_batch(images, changes, magnitude=MAGNITUDE)
    start = time.process_time()
    for changes in drawn:
        augment_batch(images, changes, magnitude=MAGNITUDE)
    return float(counter.count) / batches, (time.process_time() - start) / batches


def main() -> None:
    """Print photos per second, and what a GPU's host would have to launch; write it as JSON where a path is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)

    times = compare(args.size, args.rounds)
    pil = statistics.median(times["one_by_one"])
    ratios = [alone / together for alone, together in zip(times["one_by_one"], times["at_once"], strict=True)]
    gpu = {}
    for count in (BATCH, 128):
        kernels, host = launches_per_batch(count)
        launches = kernels * LAUNCH
        gpu[str(count)] = {
            "kernels": round(kernels),
            "milliseconds_of_launches": round(1000 * launches, 2),
            "milliseconds_of_this_host": round(1000 * host, 2),
            "milliseconds_of_a_core_on_pil": round(1000 * pil * count, 2),
            "cores": round(pil * count / launches, 1),
        }
    facts = {
        "size": args.size,
        "torch": torch.__version__,
        "photos_per_second": {name: round(1 / statistics.median(values)) for name, values in times.items()},
        "at_once_over_one_by_one_on_this_cpu": round(statistics.median(ratios), 3),
        "on_a_gpu_by_batch": gpu,
    }
    print(json.dumps(facts, indent=2))
    if args.path is not None:
        args.path.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
