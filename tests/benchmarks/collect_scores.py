"""Collect the scores of finished sweeps in one CSV file, as the tables of docs/results.md read them.

    python tests/benchmarks/collect_scores.py ablation.csv "from_faces=outputs/sweeps/A" "augment=none=outputs/sweeps/B"
    python tests/benchmarks/collect_scores.py learning_curve.csv --plot learning_curve.png "quick=SWEEP" "quick=SWEEP"

Each argument is LABEL=SWEEP, with one row per run of the sweep: the label, the number of people who trained, the seed,
the scores on the held-out people, and the seconds. Several sweeps may have one label.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from mask_lightning.runs.folder import RunFolder
from mask_lightning.sweeps.table import collect_runs

SCORES = ("f1", "accuracy", "mask/f1", "gender/f1", "age/f1")
TITLES = {"f1": "18 classes", "mask/f1": "mask", "gender/f1": "gender", "age/f1": "age"}


def scores_of(label: str, sweep: Path) -> Iterator[dict[str, object]]:
    """Yield a row per finished run. Raises SystemExit if one is unfinished or there is none."""
    rows = collect_runs([sweep]).rows
    unfinished = [str(row.folder) for row in rows if row.status != "finished"]
    if unfinished or not rows:
        raise SystemExit(f"expected finished runs below {sweep}, found {', '.join(unfinished) or 'none'}")
    for row in rows:
        folder = RunFolder(row.folder)
        result = folder.read_result()
        yield {
            "options": label,
            "people": result.data["train"]["people"],
            "seed": folder.read_config()["seed"],
            **{name: round(result.best[f"val/{name}"], 4) for name in SCORES},
            "seconds": round(result.seconds),
        }


def plot_curve(curve: pd.DataFrame, path: Path, *, by: str = "options", titles: Mapping[str, str] = TITLES) -> None:
    """Plot scores over the number of training people.

    Args:
        curve: one row per run, with the columns `by`, `people` and those of `titles`.
        path: the PNG.
        by: column with the name of the run's line.
        titles: column -> title of its panel.
    """
    people = sorted(curve.people.unique())
    figure, panels = plt.subplots(1, len(titles), figsize=(12, 3.2), layout="constrained")
    for panel, (column, title) in zip(panels, titles.items(), strict=True):
        for label, own in curve.groupby(by, sort=False):
            of_size = own.groupby("people")[column]
            panel.errorbar(of_size.mean().index, of_size.mean(), of_size.std(), label=label, marker="o", capsize=3)
        panel.set(xscale="log", xticks=people, xticklabels=people, xlabel="training people", title=title)
        panel.minorticks_off()
    panels[0].set_ylabel("macro F1, mean and deviation")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Write the table, print its means, and plot it where a path is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="the CSV file to write")
    parser.add_argument("sweeps", nargs="+", help="LABEL=SWEEP")
    parser.add_argument("--plot", type=Path, help="PNG of the scores over the number of training people")
    args = parser.parse_args()
    pairs = [each.rpartition("=") for each in args.sweeps]
    table = pd.DataFrame(row for label, _, sweep in pairs for row in scores_of(label, Path(sweep)))
    table.to_csv(args.path, index=False, lineterminator="\n")
    print(table.groupby(["options", "people"], sort=False)[list(SCORES)].agg(["mean", "std"]).round(3))
    if args.plot is not None:
        plot_curve(table, args.plot)


if __name__ == "__main__":
    main()
