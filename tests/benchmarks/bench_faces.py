"""Face detection: how often a face is found, and its time against decoding and a network.

    python tests/benchmarks/bench_faces.py [result.json] --photos NAME=FOLDER ... [--most 400] [--rounds 3]

Rates: share of the photos below each folder in which a face is found, at the first size alone, at all sizes, and with
uncertain faces as the crop "face" uses them. Times: decoding, detection with alignment, and tf_efficientnet_lite0 at
224 pixels in batches of 32, of the same photos in one thread. They take turns in each round; the median round counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image

from mask_lightning.data.images import is_photo, open_photo
from mask_lightning.data.transforms import TransformSpec, to_uint8
from mask_lightning.faces.alignment import align, face_frame
from mask_lightning.faces.detector import LONG_SIDES, UNCERTAIN_SCORE, CenterFace, load_detector
from mask_lightning.models.network import MultiTaskNetwork

BATCH = 32
SPEC = TransformSpec(None, None, crop="face")


def choose(folder: Path, most: int) -> list[str]:
    """Return at most so many photos below a folder, spread evenly over their sorted paths."""
    paths = sorted(str(path) for path in folder.rglob("*") if path.is_file() and is_photo(path))
    return [paths[i] for i in np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int)]


def rates(photos: Sequence[Image.Image]) -> dict[str, float]:
    """Return the share of photos with a face."""
    first, every = CenterFace(long_sides=LONG_SIDES[:1]), load_detector()
    found = {
        f"long side {LONG_SIDES[0]}": [bool(first.find(photo)) for photo in photos],
        f"long sides {LONG_SIDES}": [bool(every.find(photo)) for photo in photos],
        f"with scores from {UNCERTAIN_SCORE}": [every.find_one(photo) is not None for photo in photos],
    }
    return {name: round(statistics.mean(values), 4) for name, values in found.items()}


def detect(photo: Image.Image) -> Image.Image:
    """Find and align the face."""
    face = load_detector().find_one(photo)
    return photo.resize((SPEC.size, SPEC.size)) if face is None else align(photo, face_frame(face), SPEC.size)


@torch.inference_mode()
def measure(paths: Sequence[str], network: torch.nn.Module) -> dict[str, float]:
    """Return milliseconds per photo of decoding, detection with alignment, and the network."""
    start = perf_counter()
    photos = [open_photo(path) for path in paths]
    decoded = perf_counter()
    faces = [detect(photo) for photo in photos]
    detected = perf_counter()
    images = (
        torch.stack([to_uint8(face) for face in faces]).float().div(255).contiguous(memory_format=torch.channels_last)
    )
    begin = perf_counter()
    for batch in images.split(BATCH):
        network(batch)
    seconds = {"decode": decoded - start, "detect": detected - decoded, "network": perf_counter() - begin}
    return {name: 1_000 * value / len(paths) for name, value in seconds.items()}


def main() -> None:
    """Print rates, times and their ratio; write them as JSON where a path is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--photos", nargs="+", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--most", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    torch.set_num_threads(1)
    network = MultiTaskNetwork("tf_efficientnet_lite0", {"mask": 3}).eval().to(memory_format=torch.channels_last)
    sets: dict[str, Any] = {}
    for name, folder in (entry.split("=", 1) for entry in args.photos):
        paths = choose(Path(folder), args.most)
        chosen = paths[:: max(len(paths) // (4 * BATCH), 1)][: 4 * BATCH]
        rounds = [measure(chosen, network) for _ in range(args.rounds + 1)][1:]  # the first fills the system's cache
        times = {what: statistics.median(each[what] for each in rounds) for what in rounds[0]}
        ratio = statistics.median(each["detect"] / (each["decode"] + each["network"]) for each in rounds)
        sets[name] = {
            "photos": len(paths),
            "with_a_face": rates([open_photo(path) for path in paths]),
            "ms_per_photo": {what: round(value, 2) for what, value in times.items()},
            "detection_over_decoding_and_network": round(ratio, 3),
        }
    facts = {
        "threads": 1,
        "network": f"tf_efficientnet_lite0 at {SPEC.size}, batches of {BATCH}",
        "sets": sets,
        "bars": [
            {
                "what": "detection over decoding and network, worst set",
                "value": max(each["detection_over_decoding_and_network"] for each in sets.values()),
                "at_most": 1.0,
            }
        ],
    }
    print(json.dumps(facts, indent=2))
    if args.path is not None:
        args.path.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
