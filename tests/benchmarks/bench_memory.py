"""Peak memory of a training on ten times as many photos: the same ones, each under ten paths.

    python tests/benchmarks/bench_memory.py [result.json] [--root PHOTOS] [--people 200] [--copies 10] [--batches N]

Each training is a command of its own, over one epoch of all photos (or N batches); what counts is the resident memory
of its largest process, as the system reports it at its end. A tiny backbone makes it fast and the test strict: growth
is told as a share of a small process. The cache of prepared photos is on, and is built by that very process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from mask_lightning.synthetic.portraits import write_portraits

OPTIONS = (
    "model.pretrained=false",
    "model.image_size=224",
    "finetune=none",
    "finetune.epochs=1",
    "logger=none",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
)


def repeat(root: Path, target: Path, people: int, copies: int) -> int:
    """The folder's first people `copies` times under other ids; their photos are links, which take no room."""
    photos = 0
    for folder in sorted((root / "train" / "images").iterdir())[:people]:
        person, _, rest = folder.name.partition("_")
        for copy in range(copies):
            twin = target / "train" / "images" / f"{copy + 1}{person}_{rest}"
            twin.mkdir(parents=True)
            for photo in folder.iterdir():
                (twin / photo.name).symlink_to(photo.resolve())
                photos += 1
    return photos


def peak_memory(root: Path, outputs: Path, backbone: str, batches: int | None) -> float:
    """Return the peak memory of the largest process of a training, in MB."""
    options = [f"data.root={root}", f"outputs={outputs}", f"model.backbone={backbone}", *OPTIONS]
    options.append(f"trainer.max_batches={batches or 'null'}")
    command = [sys.executable, "-m", "mask_lightning.train", *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    """Print both peaks and the growth; write them as JSON where a path is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--batches", type=int)
    parser.add_argument("--backbone", default="test_resnet")
    args = parser.parse_args()

    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        drawn = args.root or write_portraits(Path(folder) / "drawn", people=args.people)
        for copies in (1, args.copies):
            root = Path(folder) / f"copies-{copies}"
            photos = repeat(drawn, root, args.people, copies)
            peaks[photos] = peak_memory(root, Path(folder) / "outputs", args.backbone, args.batches)
    few, many = peaks.values()
    facts = {
        "backbone": args.backbone,
        "torch": version("torch"),
        "peak_mb": {str(photos): round(peak) for photos, peak in peaks.items()},
        "bars": [{"what": "growth of peak memory", "value": round(many / few - 1, 4), "at_most": 0.05}],
    }
    print(json.dumps(facts, indent=2))
    if args.path is not None:
        args.path.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
