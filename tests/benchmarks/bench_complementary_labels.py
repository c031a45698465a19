"""Which epoch is the best if half of the people are labelled only for mask, and the others only for age?

    python tests/benchmarks/bench_complementary_labels.py WORK --root PHOTOS [--seeds 0 1 2] [--people 120] [--epochs 4]
    python tests/benchmarks/bench_complementary_labels.py WORK --results tests/benchmarks/results     only compute again

The photos are a folder in the competition's layout; three of a person's seven photos are used, one per mask state.
Version 0.1.0 scored the combined class of photos that are labelled for both tasks. There is none, so the score is 0
after every epoch, and the first epoch stays the best. Today the score is the mean of the tasks' macro F1. `--others`,
who take no part in the training and have all labels, tell the true mean of every epoch.

Results of trained seeds stay in WORK: after an interruption, the same command continues.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from bench_held_out_choices import DATA, SHOTS, SIZE, mean_and_error, people_of_seed

from mask_lightning.callbacks.checkpoints import BestCheckpoint
from mask_lightning.cli.compose import compose
from mask_lightning.data.index import read_index
from mask_lightning.engine import trainer as engine
from mask_lightning.inference.predict import predict_many
from mask_lightning.inference.trained import choose_device, load_trained
from mask_lightning.labels import FACE
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.metrics.scores import count_confusion, macro_f1, score
from mask_lightning.pipelines.train import train_run
from mask_lightning.settings.base import check
from mask_lightning.settings.train import TrainSettings
from mask_lightning.utils.files import write_json

TASKS = ("mask", "age")
RECIPE = ("experiment=quick", "data.val_fraction=0.333", "trainer.validate_every=1", f"model.image_size={SIZE}")


class EveryEpoch(BestCheckpoint):
    """Keep the model of every validation, beside the best one."""

    def compare(self, trainer: pl.Trainer, pl_module: pl.LightningModule, scores: dict[str, float]) -> None:
        """Save the model as epoch<N>.ckpt, N from 1."""
        super().compare(trainer, pl_module, scores)
        trainer.save_checkpoint(self.path.with_name(f"epoch{trainer.current_epoch + 1}.ckpt"))


def train(folder: Path, table: pd.DataFrame, args: argparse.Namespace, seed: int) -> Path:
    """Train on complementary labels, and return the run's folder."""
    named = table.assign(**{task: table[task].map(dict(enumerate(FACE[task].classes))) for task in TASKS})
    people = np.random.default_rng(seed).permutation(np.sort(table["person_id"].unique()))
    has_mask = named["person_id"].isin(people[: len(people) // 2])
    named.loc[~has_mask, "mask"] = named.loc[has_mask, "age"] = ""
    named[["path", "person_id", *TASKS]].to_csv(folder / "people.csv", index=False)
    options = {
        "labels": "face",
        "task.tasks": f"[{','.join(TASKS)}]",
        "data": "table",
        "data.crop_height": 380,  # as data=competition
        "data.crop_width": 256,
        "data.num_workers": 0,
        "data.clean_train_photos": 32,
        "seed": seed,
        "finetune.epochs": args.epochs,
        "trainer.accelerator": "cpu",
        "trainer.progress": "false",
        "logger": "none",
    }
    config = compose("train", TrainSettings, [*RECIPE, *(f"{name}={value}" for name, value in options.items())])
    config["data"] |= {"table": folder / "people.csv", "root": args.root.resolve(), "cache_dir": args.work / "cache"}
    train_run(check(TrainSettings, config), folder / "run")
    return folder / "run"


def measure(run: Path, others: pd.DataFrame) -> list[dict[str, float]]:
    """Score every epoch: as version 0.1.0, as today, and on the others."""
    reported = pd.read_csv(run / "metrics.csv")["val/f1"]
    networks = [
        load_trained(run / "checkpoints" / f"epoch{epoch}.ckpt", choose_device("cpu"))
        for epoch in range(1, len(reported) + 1)
    ]
    parts = predict_many(networks, others, num_workers=0)  # one pass: each photo is decoded once
    return [
        {"version_0_1": no_photos(), "today": round(float(own), 4), **measures(part)}
        for own, part in zip(reported, parts, strict=True)
    ]


def no_photos() -> float:
    """Return macro F1 over the photos that are labelled for both tasks: none."""
    none = np.zeros(0, np.int64)
    return float(macro_f1(count_confusion(none, none, FACE.only(TASKS).num_codes)))


def measures(predictions: Predictions) -> dict[str, float]:
    """Macro F1 of each task on the others, and the mean."""
    found = {task: score(predictions)[task].f1 for task in TASKS}
    return {name: round(value, 4) for name, value in {**found, "mean": float(np.mean([*found.values()]))}.items()}


def run_seed(args: argparse.Namespace, index: pd.DataFrame, seed: int) -> None:
    """Train and measure a seed, and write epochs.json into its folder."""
    folder = args.work / f"seed{seed}"
    if not (folder / "epochs.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        table, others = people_of_seed(index, seed, args.people, args.others)
        write_json(folder / "epochs.json", measure(train(folder, table, args, seed), others))


def choices(epochs: list[Mapping[str, float]]) -> dict[str, Any]:
    """Return the epoch that each score chooses (from 1; the first of equal ones), and its scores on the others."""
    found: dict[str, Any] = {}
    for name in ("version_0_1", "today"):
        best = max(range(len(epochs)), key=lambda i: epochs[i][name])
        found[name] = {"epoch": best + 1, **{key: epochs[best][key] for key in ("mean", *TASKS)}}
    return found


def results(args: argparse.Namespace) -> dict[str, Any]:
    """Join the seeds that are complete."""
    files = {seed: args.work / f"seed{seed}" / "epochs.json" for seed in args.seeds}
    epochs = {seed: json.loads(file.read_text()) for seed, file in files.items() if file.is_file()}
    chosen = {seed: choices(each) for seed, each in epochs.items()}
    return {
        "data": DATA,
        "recipe": f"{' '.join(RECIPE)} (lite0), finetune.epochs={args.epochs}",
        "photos_per_person": len(SHOTS),
        "people": args.people,
        "people_who_took_no_part": args.others,
        "by_seed": [{"seed": seed, "epochs": epochs[seed], **chosen[seed]} for seed in epochs],
        "today_minus_version_0_1": {
            key: mean_and_error([each["today"][key] - each["version_0_1"][key] for each in chosen.values()])
            for key in ("mean", *TASKS)
        },
        "values": "version_0_1 and today: val/f1 on held-out people with half of the labels; mean, mask, age: macro F1 "
        "on people who took no part; difference: mean and standard error over the seeds",
    }


def main() -> None:
    """Train and measure what is missing, then print or write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--root", type=Path, help="the photos; without it, nothing is trained")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--people", type=int, default=120)
    parser.add_argument("--others", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--results", type=Path, help="folder for the JSON file; without it, it is printed")
    args = parser.parse_args()
    args.work = args.work.resolve()
    if args.root:
        engine.BestCheckpoint = EveryEpoch  # type: ignore[attr-defined, misc]
        index = read_index(args.root.resolve())
        index = index[index["shot"].isin(SHOTS)]
        for seed in args.seeds:
            run_seed(args, index, seed)
    if args.results:
        write_json(args.results / "complementary_labels.json", results(args))
    else:
        print(json.dumps(results(args), indent=2))


if __name__ == "__main__":
    main()
