"""Throughput of one core: training photos from the cache against torchvision's pipeline on PIL images.

    python tests/benchmarks/bench_input.py [result.json] [--root PHOTOS] [--photos 448] [--size 224] [--rounds 5]

Both make batches of 32 normalised photos, augmented by RandAugment(3, 6), and take turns within one run, each in a
process of its own, because only ratios from one run count on a shared machine. Counted are seconds of computing, which
other processes disturb less. On drawn portraits of 384 x 512 pixels unless a competition's folder is named.

warm: from the cache. cold: the cache is made first, and counted. off: without one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate
from torchvision import transforms

from mask_lightning.data.batching import normalise
from mask_lightning.data.cache import cached_photos
from mask_lightning.data.dataset import FaceDataset, collate
from mask_lightning.data.index import read_index
from mask_lightning.data.transforms import TransformSpec, train_pipeline
from mask_lightning.labels import FACE
from mask_lightning.settings.augment import AugmentSettings
from mask_lightning.synthetic.portraits import write_portraits
from mask_lightning.utils.system import keep_memory

BATCH = 32
# photos, what becomes of them, where a cache is -> how many it made
Work = Callable[[pd.DataFrame, TransformSpec, Path], int]


def torchvision_pipeline(rows: pd.DataFrame, spec: TransformSpec, folder: Path) -> int:
    """The usual one: decode, crop, resize, RandAugment, tensor, normalise, for each photo."""
    pipeline = transforms.Compose(
        [
            transforms.CenterCrop((spec.crop_height, spec.crop_width)),
            transforms.Resize((spec.size, spec.size)),
            transforms.RandAugment(3, 6),
            transforms.ToTensor(),
            transforms.Normalize(spec.mean, spec.std),
        ]
    )
    photos = list(zip(rows["path"], rows["age"].tolist(), strict=True))

    def sample(row: int) -> tuple[Tensor, int]:
        path, age = photos[row]
        return pipeline(Image.open(path).convert("RGB")), age

    batches = (default_collate([sample(row) for row in some]) for some in _batches(len(photos)))
    return sum(len(images) for images, _ in batches)


def warm(rows: pd.DataFrame, spec: TransformSpec, folder: Path) -> int:
    """From the cache, which is there."""
    paths = rows["path"].tolist()
    return _ours(rows, spec, cached_photos(paths, spec, root=Path("bench"), folder=folder, workers=0))


def cold(rows: pd.DataFrame, spec: TransformSpec, folder: Path) -> int:
    """From a cache that is made first."""
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        return warm(rows, spec, Path(fresh))


def off(rows: pd.DataFrame, spec: TransformSpec, folder: Path) -> int:
    """Decoding each photo."""
    return _ours(rows, spec, None)


def _ours(rows: pd.DataFrame, spec: TransformSpec, cache: Any) -> int:
    dataset = FaceDataset(rows, FACE.names, train_pipeline(spec, AugmentSettings()), cache=cache)
    batches = (collate([dataset[row, row] for row in some]) for some in _batches(len(rows)))
    return sum(len(normalise(batch["image"], spec.mean, spec.std)) for batch in batches)


def _batches(photos: int) -> Iterator[Sequence[int]]:
    return (range(start, min(start + BATCH, photos)) for start in range(0, photos, BATCH))


def seconds_per_photo(work: Work, rows: pd.DataFrame, spec: TransformSpec, folder: Path) -> float:
    """Return seconds of CPU time in this process."""
    start = time.process_time()
    photos = work(rows, spec, folder)
    return (time.process_time() - start) / photos


def start_process(ours: bool) -> None:
    """As a loader's worker is: one thread; ours keeps its memory, as our training does."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if ours:
        keep_memory()


def compare(rows: pd.DataFrame, spec: TransformSpec, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Contender -> seconds per photo, round by round; the first round, which warms up, is left out."""
    contenders: dict[str, Work] = {"torchvision": torchvision_pipeline, "warm": warm, "cold": cold, "off": off}
    context = multiprocessing.get_context("spawn")
    start = {name: partial(start_process, name != "torchvision") for name in contenders}
    pools = {name: ProcessPoolExecutor(1, context, start[name]) for name in contenders}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, work in contenders.items():
            times[name].append(pools[name].submit(seconds_per_photo, work, rows, spec, folder).result())
    for pool in pools.values():
        pool.shutdown()
    return {name: values[1:] for name, values in times.items()}


def main() -> None:
    """Print photos per second and core, and ratios; write them as JSON where a path is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--photos", type=int, default=448)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()

    spec = TransformSpec(size=args.size)
    with tempfile.TemporaryDirectory() as folder:
        root = args.root or write_portraits(Path(folder) / "portraits", people=max(12, -(-args.photos // 7)))
        rows = read_index(root).head(args.photos)
        times = compare(rows, spec, Path(folder), args.rounds)
    ratios = {
        name: statistics.median(peer / own for peer, own in zip(times["torchvision"], times[name], strict=True))
        for name in ("warm", "cold", "off")
    }
    facts = {
        "photos": len(rows),
        "root": args.root.name if args.root else "drawn portraits",
        "size": args.size,
        "torch": torch.__version__,
        "photos_per_second_and_core": {name: round(1 / statistics.median(values)) for name, values in times.items()},
        "bars": [
            {"what": "warm cache over torchvision, photos/s", "value": round(ratios["warm"], 3), "at_least": 2.5},
            {"what": "cold cache over torchvision, photos/s", "value": round(ratios["cold"], 3), "at_least": 1.0},
            {"what": "no cache over torchvision, photos/s", "value": round(ratios["off"], 3), "at_least": 1.0},
        ],
    }
    print(json.dumps(facts, indent=2))
    if args.path is not None:
        args.path.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
