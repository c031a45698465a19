"""Score soft votes of 1, 2, ... members of ensembles whose members differ in their seed only.

    python tests/benchmarks/seed_votes.py seed_votes.csv "quick=SWEEP" "quick=SWEEP" --tta flip

Each argument is LABEL=SWEEP, where a sweep holds the members of one split (`-m ensemble=seeds`). Each row of the CSV
file is one number of members of one sweep, on the people whom all held out: the mean score of all votes of that many
members, and the time to train them one after the other, seconds. `seed` is the seed of the split.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from statistics import median

import pandas as pd
import torch

from mask_lightning.ensemble.members import find_members, load_members
from mask_lightning.ensemble.voting import vote_predictions
from mask_lightning.inference.predict import predict_many
from mask_lightning.metrics.scores import score
from mask_lightning.pipelines.labelled import cache_of_run, photos_of_run
from mask_lightning.settings.inference import Tta

METRICS_OF = {"f1": ("joint", "f1"), "accuracy": ("joint", "accuracy")} | {
    f"{task}/f1": (task, "f1") for task in ("mask", "gender", "age")
}


def rows_of(label: str, sweep: Path, tta: Tta) -> Iterator[dict[str, object]]:
    """Yield a row per number of members."""
    members = find_members([sweep]).members
    photos = photos_of_run(members[0].folder, remedy="restore them")
    loaded = load_members(members, torch.device("cpu"))
    cache = cache_of_run(members[0].folder, photos.root)
    parts = predict_many(loaded.networks, photos.split.val, tta=tta, cache=cache)
    seconds = [member.result.seconds for member in members]
    for count in range(1, len(members) + 1):
        votes = [vote_predictions(some, kind="soft").predictions for some in combinations(parts, count)]
        scores = [score(voted) for voted in votes]
        means = {
            name: sum(each[task].values[metric] for each in scores) / len(scores)
            for name, (task, metric) in METRICS_OF.items()
        }
        yield {
            "options": label,
            "people": members[0].result.data["train"]["people"],
            "members": count,
            "seed": members[0].config["data"]["split_seed"],
            **{name: round(float(value), 4) for name, value in means.items()},
            "seconds": round(median(seconds) * count),
        }


def main() -> None:
    """Write the table, and print its means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="the CSV file to write")
    parser.add_argument("sweeps", nargs="+", help="LABEL=SWEEP")
    parser.add_argument("--tta", choices=["none", "flip"], default="none", help="test-time augmentation")
    args = parser.parse_args()
    pairs = [each.rpartition("=") for each in args.sweeps]
    table = pd.DataFrame(row for label, _, sweep in pairs for row in rows_of(label, Path(sweep), args.tta))
    table.to_csv(args.path, index=False, lineterminator="\n")
    print(table.groupby(["options", "members"], sort=False)[list(METRICS_OF)].agg(["mean", "std"]).round(3))


if __name__ == "__main__":
    main()
