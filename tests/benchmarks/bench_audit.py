"""An audit of many photos against decoding alone: photos/s as a ratio.

    python tests/benchmarks/bench_audit.py [result.json] [--root PHOTOS] [--people 270] [--copies 10] [--rounds 3]

The audit is the whole command's work but for Python's start: index, hashes, likeness and pictures included. Decoding
alone is Pillow's, in as many processes as there are cores, that stand already. Both take turns within one run, by the
clock, because what counts is what all cores do together: the machine must be idle. The photos are the same ones under
several ids (links), so that the audit has more to list than it has of a real folder; a first round, which is left out,
fills the system's cache.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from bench_memory import repeat
from PIL import Image

from mask_lightning.synthetic.portraits import write_portraits
from mask_lightning.utils.system import share_of_cores

# What is heavy is imported where it is used: the audit's workers import this file anew, as they do the command's.
CHUNK = 64


def decode(path: str) -> int:
    """One photo, to its last pixel."""
    with Image.open(path) as photo:
        return photo.convert("RGB").height


def decode_all(pool: ProcessPoolExecutor, paths: list[str]) -> None:
    """All photos, on all cores."""
    for _ in pool.map(decode, paths, chunksize=CHUNK):
        pass


def audit(root: Path, folder: Path) -> None:
    """As the command does, without its words."""
    from mask_lightning.cli.compose import compose
    from mask_lightning.pipelines.audit import audit_run
    from mask_lightning.settings.base import check
    from mask_lightning.settings.evaluation import AuditSettings

    overrides = ["data=competition", f"data.root={root}", f"outputs={folder}"]
    settings = check(AuditSettings, compose("audit", AuditSettings, overrides))
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        audit_run(settings, Path(tempfile.mkdtemp(dir=folder)))


def seconds(work: Callable[[], Any]) -> float:
    """By the clock."""
    start = perf_counter()
    work()
    return perf_counter() - start


def compare(root: Path, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of both, round by round."""
    from mask_lightning.data.index import read_index

    paths = read_index(root)["path"].tolist()
    cores, times = share_of_cores(), {"decode": [], "audit": []}
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as pool:
        contenders = {"decode": partial(decode_all, pool, paths), "audit": partial(audit, root, folder)}
        for _ in range(rounds + 1):
            for name, work in contenders.items():
                times[name].append(seconds(work))
    return {name: values[1:] for name, values in times.items()}


def main() -> None:
    """Print photos per second and their ratio; write them as JSON where a path is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--people", type=int, default=270)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        drawn = args.root or write_portraits(folder / "drawn", people=args.people)
        photos = repeat(drawn, folder / "copies", args.people, args.copies)
        times = compare(folder / "copies", folder, args.rounds)
    ratios = [alone / whole for alone, whole in zip(times["decode"], times["audit"], strict=True)]
    facts = {
        "photos": photos,
        "root": args.root.name if args.root else "drawn portraits",
        "cores": share_of_cores(),
        "photos_per_second": {name: round(photos / statistics.median(values)) for name, values in times.items()},
        "bars": [
            {
                "what": "audit over decoding alone, photos/s",
                "value": round(statistics.median(ratios), 3),
                "at_least": 0.9,
            }
        ],
    }
    print(json.dumps(facts, indent=2))
    if args.path is not None:
        args.path.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
