"""Linear probes on the features of pretrained networks: crop modes, and face pretraining, at little cost.

    python tests/benchmarks/bench_probes.py WORK --root PHOTOS [--faces RUN] [--size 128] [--seeds 10 11 12 13 14]

The photos are a folder in the competition's layout. A network is a pretrained backbone with one way to prepare photos;
its features of all photos are computed once (WORK/NAME.npy). For each seed, 200 people are held out, and the three
tasks are fitted to the features of 50 to 400 others by the logistic regression of `finetune=probe`: classes weighted
by their inverse frequency, strength by cross-validation over people. Two results:

probe_crops.csv: macro F1 of each crop mode with the backbone's own weights, and 200 training people.
probe_curve.csv, .png: macro F1 over the number of training people, with the own weights, with those of --faces (a run
of `experiment=faces`), and with the features of either network for the tasks it is better at; all with its crop mode.

A probe says how much of the answer is in the features as they are; fine-tuning changes them, and may change the order.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from collect_scores import plot_curve
from torch.utils.data import DataLoader

from mask_lightning.data.dataset import FaceDataset, collate
from mask_lightning.data.index import read_index
from mask_lightning.data.splits import limit_people, split_people
from mask_lightning.data.transforms import eval_pipeline
from mask_lightning.engine.features import compute_features
from mask_lightning.inference.trained import load_trained
from mask_lightning.labels import FACE
from mask_lightning.metrics.scores import count_confusion, macro_f1
from mask_lightning.optim.logistic_regression import cross_validate, fit_logistic_regression

CROPS = {
    "centre": (),
    "centre, aspect kept": ("data.keep_aspect=true",),
    "share": ("data.crop=share", "data.share_height=0.742", "data.share_width=0.667"),
    "face": ("data.crop=face",),
}
PEOPLE, HELD_OUT = (50, 100, 200, 400), 1 / 3
STRATA = ("gender", "age")

Features = npt.NDArray[np.float32]


def make_network(folder: Path, root: Path, size: int, options: Sequence[str]) -> Path:
    """Write a run whose checkpoint holds the pretrained backbone and the crop mode; its own heads are not used."""
    if not (folder / "checkpoints" / "best.ckpt").is_file():
        few = ("finetune=probe", "data.limit_people=30", "data.val_fraction=0.05", "data.cache=off", "logger=none")
        command = [sys.executable, "-m", "mask_lightning.train", "experiment=quick", *few, *options]
        paths = (f"data.root={root}", f"hydra.run.dir={folder}", f"outputs={folder.parent / 'outputs'}")
        subprocess.run([*command, *paths, f"model.image_size={size}", "trainer.progress=false"], check=True)
    return folder


def features_of(run: Path, rows: pd.DataFrame) -> Features:
    """Return the features (N, F) of all photos by a run's backbone, from a file beside the run if it is there."""
    file = run.with_suffix(".npy")
    if not file.is_file():
        trained = load_trained(run, torch.device("cpu"))
        dataset = FaceDataset(rows, FACE.names, eval_pipeline(trained.spec))
        batches = DataLoader(dataset, batch_size=64, collate_fn=collate)
        found = compute_features(
            trained.module.network.sharing, batches, trained.spec, torch.device("cpu"), progress=True
        )
        np.save(file, found["age"])
    features: Features = np.load(file)
    return features


def fit_and_score(
    features: Mapping[str, Features], rows: pd.DataFrame, people: Sequence[int], seed: int
) -> Iterator[dict[str, object]]:
    """Yield the macro F1 of the held-out people for each number of training people; features are by task."""
    index = rows.assign(row=np.arange(len(rows)))
    split = split_people(index, val_fraction=HELD_OUT, seed=seed, strata=STRATA, labels=index)
    val = split.val["row"].to_numpy()
    for count in people:
        train = limit_people(split.train, count, seed=seed, strata=STRATA, labels=index)
        chosen = train["row"].to_numpy()
        truth, preds, scores = [], [], {}
        for task in FACE.tasks:
            target = rows[task.name].to_numpy("int64")
            of_task = {"num_classes": task.num_classes, "balanced": True}
            families = train["family"].astype(str).tolist()
            x = features[task.name]
            strength = cross_validate(x[chosen], target[chosen], families, seed=seed, **of_task).strength
            fitted = fit_logistic_regression(x[chosen], target[chosen], strength=strength, **of_task)
            truth.append(target[val])
            preds.append((x[val] @ fitted.weight.T + fitted.bias).argmax(1))
            scores[task.name] = macro_f1(count_confusion(truth[-1], preds[-1], task.num_classes))
        sizes = [task.num_classes for task in FACE.tasks]
        true_codes, codes = (np.ravel_multi_index(each, sizes) for each in (truth, preds))
        yield {
            "people": count,
            "seed": seed,
            "f1": macro_f1(count_confusion(true_codes, codes, int(np.prod(sizes)))),
            **scores,
        }


def main() -> None:
    """Compute what WORK does not have yet, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--faces", type=Path, help="run of experiment=faces")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 14])
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    args.work.mkdir(parents=True, exist_ok=True)
    root, rows = args.root.resolve(), read_index(args.root.resolve())

    def features(name: str, options: Sequence[str]) -> dict[str, Features]:
        folder = args.work.resolve() / name.replace(", ", "_").replace(" ", "_")
        return dict.fromkeys(FACE.names, features_of(make_network(folder, root, args.size, options), rows))

    def table(networks: Mapping[str, Mapping[str, Features]], column: str, people: Sequence[int]) -> pd.DataFrame:
        return pd.DataFrame(
            {column: name, "pixels": args.size, **line}
            for name, values in networks.items()
            for seed in args.seeds
            for line in fit_and_score(values, rows, people, seed)
        ).round(4)

    crops = {name: features(name, options) for name, options in CROPS.items()}
    tables = {"probe_crops": table(crops, "crop", (200,))}
    if args.faces:
        faces = features("pretrained on faces", (*CROPS["face"], f"model.pretrained={args.faces.resolve()}"))
        weights = {
            "ImageNet": crops["face"],
            "ImageNet, then faces": faces,
            "ImageNet for mask, faces for the rest": {**faces, "mask": crops["face"]["mask"]},
        }
        tables["probe_curve"] = table(weights, "weights", PEOPLE)
    for name, result in tables.items():
        result.to_csv(args.results / f"{name}.csv", index=False)
        if name == "probe_curve":
            titles = {"f1": "18 classes", **{task: task for task in FACE.names}}
            plot_curve(result, args.results / f"{name}.png", by="weights", titles=titles)
        print(result.groupby(list(result.columns[:3]), sort=False)[["f1", *FACE.names]].agg(["mean", "std"]).round(3))


if __name__ == "__main__":
    main()
