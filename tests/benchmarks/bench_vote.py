"""One pass over the photos for all members against the sum of its parts: their forward passes and one decode.

    python tests/benchmarks/bench_vote.py [result.json] [--members 22] [--photos 64] [--size 224] [--device cpu]

The two take turns within one run, because only ratios from one run count on a shared machine; on a CPU they are seconds
of this process's computing, which other processes disturb less. On drawn portraits of 384 x 512 pixels, with random
weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mask_lightning.data.batching import normalise
from mask_lightning.data.index import read_index
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.engine.modules import module_class
from mask_lightning.ensemble.voting import vote_predictions
from mask_lightning.inference.dataset import PredictionDataset, collate_photos
from mask_lightning.inference.predict import predict_many
from mask_lightning.inference.trained import Trained
from mask_lightning.labels import FACE
from mask_lightning.metrics.predictions import Source
from mask_lightning.synthetic.portraits import write_portraits

BATCH = 32


def build(members: int, backbone: str, spec: TransformSpec, device: str) -> list[Trained]:
    """Networks for age, mask and gender in turn."""
    networks = []
    for i in range(members):
        space = FACE.only([FACE.names[i % 3]])
        torch.manual_seed(i)
        module = module_class(space)(
            tasks=space.to_plain(),
            backbone=backbone,
            class_counts={task.name: [1] * task.num_classes for task in space.tasks},
            transform=spec.to_plain(),
            network={},
            loss={},
            optim={"name": "adamw", "lr": 1e-3, "weight_decay": 0.0},
            schedule={"name": "constant"},
            phases=[{"epochs": 1}],
        )
        module.requires_grad_(False).eval().to(device=device, memory_format=torch.channels_last)
        networks.append(Trained(module, spec, Source(str(i), "", backbone, space.names, spec.to_plain())))
    return networks


def seconds(work: Callable[[], Any], device: str) -> tuple[float, Any]:
    """How long a call takes, and what it returns."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    result = work()
    if device != "cpu":
        torch.accelerator.synchronize()
    return clock() - start, result


def decode(rows: pd.DataFrame, spec: TransformSpec, device: str) -> list[Tensor]:
    """Every photo as the networks want it, in batches on the device."""
    dataset = PredictionDataset(rows["path"].tolist(), [spec], "none")
    loader = DataLoader(dataset, batch_size=BATCH, collate_fn=collate_photos)
    return [normalise(batch.images[0][:, 0].to(device), spec.mean, spec.std) for batch in loader]


@torch.inference_mode()
def forward(networks: list[Trained], batches: list[Tensor]) -> None:
    """Every network over every batch, and nothing else."""
    for images in batches:
        for network in networks:
            network.module(images)


def main() -> None:
    """Print the times and their ratio; write them as JSON where a path is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--members", type=int, default=22)
    parser.add_argument("--photos", type=int, default=64)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    spec = TransformSpec(size=args.size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    networks = build(args.members, args.backbone, spec, args.device)
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        rows = read_index(write_portraits(Path(folder) / "portraits", people=max(12, -(-args.photos // 7))))
        rows = rows.head(args.photos)
        for _ in range(args.rounds + 1):
            decoding, batches = seconds(lambda: decode(rows, spec, args.device), args.device)
            passing, _ = seconds(lambda batches=batches: forward(networks, batches), args.device)
            voting, _ = seconds(
                lambda: vote_predictions(predict_many(networks, rows, batch_size=BATCH, num_workers=0), kind="hard"),
                args.device,
            )
            rounds.append({"decode_s": decoding, "forward_s": passing, "vote_s": voting})
    rounds = rounds[1:]  # the first pass makes kernels and buffers
    ratios = [each["vote_s"] / (each["decode_s"] + each["forward_s"]) for each in rounds]
    naive = [each["vote_s"] / (args.members * each["decode_s"] + each["forward_s"]) for each in rounds]
    facts = {
        "members": args.members,
        "photos": len(rows),
        "backbone": args.backbone,
        "size": args.size,
        "device": args.device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **{name: round(statistics.median(each[name] for each in rounds), 3) for name in rounds[0]},
        "ratio_to_a_decode_per_member": round(statistics.median(naive), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "bars": [
            {
                "what": f"{args.members} members' pass over decode + forward",
                "value": round(statistics.median(ratios), 3),
                "at_most": 1.15,
            }
        ],
    }
    print(json.dumps(facts, indent=2))
    if args.path is not None:
        args.path.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
