"""How many labels that were made wrong on purpose are found: recall and precision of the list, per task.

    python tests/benchmarks/bench_suspects.py flip PHOTOS flipped.csv [--share 0.03] [--seed 0]
    python -m mask_lightning.train -m data.root=PHOTOS data.corrections=flipped.csv data.folds=5 data.fold=0,1,2,3,4 ...
    python -m mask_lightning.suspects runs=SWEEP share=0.03
    python tests/benchmarks/bench_suspects.py score flipped.csv outputs/suspects/STAMP

The photos are not touched: the wrong labels are a file of corrections. Labels that were wrong before count as false
alarms when they are found, so the precision is a lower bound.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from mask_lightning.data.csv_files import read_csv
from mask_lightning.data.index import read_index
from mask_lightning.labels import FACE, PERSON_TASKS, Task

FIELDS = {"mask": "mask", "gender": "gender", "age": "age_band"}


def flip(table: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """Corrections that give that share of the people (mask: of the photos) another class, drawn with equal chances."""
    rng = np.random.default_rng(seed)
    people = table.drop_duplicates("person_id")
    return pd.concat([_lines(people if t.name in PERSON_TASKS else table, t, share, rng) for t in FACE.tasks])


def _lines(labels: pd.DataFrame, task: Task, share: float, rng: np.random.Generator) -> pd.DataFrame:
    chosen = labels.iloc[np.sort(rng.choice(len(labels), round(share * len(labels)), replace=False))]
    others = (chosen[task.name] + rng.integers(1, task.num_classes, len(chosen))) % task.num_classes
    values = others.map(dict(enumerate(task.classes)))
    if task.name not in PERSON_TASKS:
        values = chosen["path"].map(lambda path: Path(path).name) + ":" + values
    return pd.DataFrame({"person_id": chosen["person_id"], "field": FIELDS[task.name], "value": values})


def score(flipped: pd.DataFrame, listed: pd.DataFrame) -> pd.DataFrame:
    """Per task: labels made wrong, listed, found; recall and precision."""
    rows = {}
    for task, field in FIELDS.items():
        wrong, said = _labels(flipped, field), _labels(listed, field)
        found = len(wrong & said)
        rows[task] = (len(wrong), len(said), found, found / max(len(wrong), 1), found / max(len(said), 1))
    return pd.DataFrame.from_dict(rows, "index", columns=["flipped", "listed", "found", "recall", "precision"])


def _labels(lines: pd.DataFrame, field: str) -> set[tuple[str, str]]:
    """Person, and photo where it is a photo's label."""
    chosen = lines[lines["field"] == field]
    photos = chosen["value"].str.rpartition(":")[0].map(lambda photo: Path(photo).name)
    return set(zip(chosen["person_id"], photos, strict=True))


def main() -> None:
    """Flip, or score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    flipping = commands.add_parser("flip")
    flipping.add_argument("photos", type=Path)
    flipping.add_argument("out", type=Path)
    flipping.add_argument("--share", type=float, default=0.03)
    flipping.add_argument("--seed", type=int, default=0)
    scoring = commands.add_parser("score")
    scoring.add_argument("flipped", type=Path)
    scoring.add_argument("suspects", type=Path)
    given = parser.parse_args()
    if given.command == "flip":
        lines = flip(read_index(given.photos), given.share, given.seed)
        lines.to_csv(given.out, index=False)
        print(lines["field"].value_counts(sort=False).to_string())
    else:
        found = score(read_csv(given.flipped), read_csv(given.suspects / "suspects.csv"))
        print(found.round(3).to_string())


if __name__ == "__main__":
    main()
