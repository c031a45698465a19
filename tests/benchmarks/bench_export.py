"""Exported formats against PyTorch, per backbone: difference of the probabilities, file size, speed.

    python tests/benchmarks/bench_export.py [result.json] [--backbones resnet34 ...] [--seconds 2]

Each network has random weights and a head of every kind: cross-entropy, regression, classes and regression, CORAL,
CORN. Differences are those on 16 images of noise. The speed is that of the network alone with batches of 32, relative
to safetensors, which PyTorch runs layer by layer; each format is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mask_lightning.errors import ExportError
from mask_lightning.exporting.formats import write_model
from mask_lightning.exporting.graph import ExportGraph, Member, build_network
from mask_lightning.exporting.runtimes import Images, open_model
from mask_lightning.exporting.timing import time_in_process

BACKBONES = {  # timm name -> side of the photos
    "resnet34": 224,
    "efficientnet_b2": 260,
    "tf_efficientnet_lite0": 224,
    "tf_efficientnet_lite2": 260,
    "ecaresnet26t": 224,
    "vit_tiny_patch16_224": 224,
}
HEADS = {
    "classes": {"name": "cross_entropy"},
    "regression": {"name": "regression", "top": 60.0, "borders": [29.5, 59.5]},
    "both": {"name": "classes_and_regression", "top": 60.0},
    "coral": {"name": "coral"},
    "corn": {"name": "corn"},
}
ENGINES = {"safetensors": "torch", "torch_export": "torch", "onnx": "onnx", "openvino": "openvino"}
BATCH = 32


def make_member(backbone: str, size: int) -> Member:
    """Return a network with random weights, whose heads are scaled so that probabilities differ."""
    torch.manual_seed(0)
    heads = {name: options for name, options in HEADS.items() if name != "classes"}
    architecture: dict[str, Any] = {
        "backbone": backbone,
        "num_classes": dict.fromkeys(HEADS, 3),
        "options": {"image_size": size, "sharing": None, "heads": heads},
    }
    network = build_network(architecture).requires_grad_(False)
    for head in network.heads.values():
        head.linear.weight.mul_(5)
    return Member(network, architecture, (0.5,) * 3, (0.5,) * 3)


def measure(backbone: str, size: int, images: Images, seconds: float) -> list[dict[str, Any]]:
    """Return a row per format."""
    member = make_member(backbone, size)
    with torch.inference_mode():
        expected = ExportGraph([member]).eval()(torch.from_numpy(images))
    rows: list[dict[str, Any]] = []
    for name, engine in ENGINES.items():
        row: dict[str, Any] = {"backbone": backbone, "size": size, "format": name}
        with tempfile.TemporaryDirectory() as folder:
            try:
                path = write_model(Path(folder), [member], name, size=size, flip=False)  # type: ignore[arg-type]
            except ExportError as error:
                rows.append({**row, "error": str(error)})
                continue
            found = open_model(path)(images)
            row["differences"] = {
                task: float(np.abs(found[task] - values.numpy()).max()) for task, values in expected.items()
            }
            row["megabytes"] = round(sum(each.stat().st_size for each in Path(folder).iterdir()) / 1e6, 2)
            (timing,) = time_in_process(
                path, engine=engine, size=size, batch_sizes=[BATCH], seconds=seconds, threads=None
            )
            row["photos_per_second"] = round(timing.photos_per_second, 1)
        rows.append(row)
        row["ratio"] = round(row["photos_per_second"] / rows[0]["photos_per_second"], 2)
        print(f"{backbone:<24}{name:<14}{max(row['differences'].values()):.1e}  x {row['ratio']}", flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", nargs="?", type=Path)
    parser.add_argument("--backbones", nargs="+", choices=list(BACKBONES), default=list(BACKBONES))
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for backbone in options.backbones:
        size = BACKBONES[backbone]
        images = rng.integers(0, 256, (16, size, size, 3), np.uint8)
        rows += measure(backbone, size, images, options.seconds)
        if options.result:
            options.result.write_text(json.dumps({"batch": BATCH, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
