"""One network's pass over photos against decoding and forward passes alone, and what an evaluation adds to the pass.

    python tests/benchmarks/bench_predict.py [result.json] [--photos 128] [--evaluated 4200] [--rounds 5]

They take turns within one run, in one process and without workers; counted are seconds of its computing, which other
processes disturb less. On drawn portraits of 384 x 512 pixels, with random weights. The evaluation (scores, intervals
by bootstrap, calibration, slices) is of as many photos as a real one has: the pass's answers again and again, each time
as other people's, against a pass over as many.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from bench_vote import BATCH, decode, forward, seconds

from mask_lightning.data.index import read_index
from mask_lightning.data.transforms import TransformSpec
from mask_lightning.engine.modules import module_class
from mask_lightning.inference.predict import predict
from mask_lightning.inference.trained import Trained
from mask_lightning.labels import FACE
from mask_lightning.metrics.evaluation import evaluate
from mask_lightning.metrics.predictions import Predictions, Source
from mask_lightning.synthetic.portraits import write_portraits


def build(backbone: str, spec: TransformSpec) -> Trained:
    """A network for all tasks."""
    torch.manual_seed(0)
    module = module_class(FACE)(
        tasks=FACE.to_plain(),
        backbone=backbone,
        class_counts={task.name: [1] * task.num_classes for task in FACE.tasks},
        transform=spec.to_plain(),
        network={},
        loss={},
        optim={"name": "adamw", "lr": 1e-3, "weight_decay": 0.0},
        schedule={"name": "constant"},
        phases=[{"epochs": 1}],
    )
    module.requires_grad_(False).eval().to(memory_format=torch.channels_last)
    return Trained(module, spec, Source("network", "", backbone, FACE.names, spec.to_plain()))


def repeat(predictions: Predictions, photos: int) -> Predictions:
    """The same answers for that many photos, of other people each time; probabilities differ a little."""
    rows = np.arange(photos) % len(predictions)
    time = (np.arange(photos) // len(predictions)).astype(str)
    table = predictions.photos.iloc[rows].reset_index(drop=True)
    table = table.assign(**{name: time + table[name].to_numpy(str) for name in ("person_id", "photo")})
    rng = np.random.default_rng(0)
    mixed = {task: probs[rows] * rng.uniform(0.5, 1.5, (photos, 1)) for task, probs in predictions.probs.items()}
    probs = {task: (values + 0.1) / (values + 0.1).sum(axis=1, keepdims=True) for task, values in mixed.items()}
    return replace(
        predictions,
        photos=table,
        probs={task: values.astype(np.float32) for task, values in probs.items()},
        targets={task: values[rows] for task, values in predictions.targets.items()},
        losses={task: values[rows] for task, values in predictions.losses.items()},
    )


def measure(trained: Trained, rows: pd.DataFrame, evaluated: int) -> dict[str, float]:
    """One round: seconds of each part."""
    decoding, batches = seconds(lambda: decode(rows, trained.spec, "cpu"), "cpu")
    passing, _ = seconds(lambda: forward([trained], batches), "cpu")
    predicting, said = seconds(lambda: predict(trained, rows, batch_size=BATCH, num_workers=0), "cpu")
    many = repeat(said, evaluated)
    evaluating, _ = seconds(lambda: evaluate(many), "cpu")
    return {"decode_s": decoding, "forward_s": passing, "predict_s": predicting, "evaluate_s": evaluating}


def main() -> None:
    """Print the times and their ratios; write them as JSON where a path is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--photos", type=int, default=128)
    parser.add_argument("--evaluated", type=int, default=4200)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()

    spec = TransformSpec(size=args.size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    trained = build(args.backbone, spec)
    with tempfile.TemporaryDirectory() as folder:
        root = write_portraits(Path(folder) / "portraits", people=max(24, -(-args.photos // 7)))
        rows = read_index(root).head(args.photos)
        rounds = [measure(trained, rows, args.evaluated) for _ in range(args.rounds + 1)]
    rounds = rounds[1:]  # the first pass makes kernels and buffers
    passes = [each["predict_s"] / (each["decode_s"] + each["forward_s"]) for each in rounds]
    share = len(rows) / args.evaluated
    extras = [share * each["evaluate_s"] / each["predict_s"] for each in rounds]
    facts = {
        "photos": len(rows),
        "evaluated": args.evaluated,
        "backbone": args.backbone,
        "size": args.size,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **{name: round(statistics.median(each[name] for each in rounds), 3) for name in rounds[0]},
        "bars": [
            {
                "what": "a pass over decode + forward alone",
                "value": round(statistics.median(passes), 3),
                "at_most": 1.05,
            },
            {
                "what": "the rest of an evaluation over its pass",
                "value": round(statistics.median(extras), 3),
                "at_most": 0.1,
            },
        ],
    }
    print(json.dumps(facts, indent=2))
    if args.path is not None:
        args.path.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
