"""Score runs on photos of which only is known whether a mask is there, in the folders with_mask/ and without_mask/.

    python tests/benchmarks/masked_or_bare.py masked_or_bare.csv --photos wild "crop=face=SWEEP" "faces=RUN"

Each argument is LABEL=SWEEP or LABEL=RUN, with one row per run. A `+` joins runs whose mean probabilities are scored,
as `vote kind=soft` decides: "both=RUN+RUN". The scores are the balanced accuracy of masked (worn or incorrect) against
bare, and the shares of masked faces called incorrect, of masked ones called bare, and of bare ones called masked.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from mask_lightning.inference.predict import predict_many
from mask_lightning.inference.trained import load_trained
from mask_lightning.runs.folder import RunFolder
from mask_lightning.sweeps.table import collect_runs

WORN, INCORRECT, BARE = range(3)


def read_photos(root: Path) -> pd.DataFrame:
    """Return `path` and `masked` of the photos in both folders."""
    folders = {"with_mask": True, "without_mask": False}
    files = [(str(path), masked) for name, masked in folders.items() for path in sorted((root / name).iterdir())]
    return pd.DataFrame(files, columns=["path", "masked"])


def score(probs: npt.NDArray[np.float32], masked: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Score probabilities (N, 3) of the mask task."""
    preds = probs.argmax(axis=1)
    missed, alarms = (preds[masked] == BARE).mean(), (preds[~masked] != BARE).mean()
    return {
        "balanced": 1 - (missed + alarms) / 2,
        "masked_incorrect": (preds[masked] == INCORRECT).mean(),
        "masked_bare": missed,
        "bare_masked": alarms,
    }


def rows_of(label: str, place: str, photos: pd.DataFrame) -> Iterator[dict[str, object]]:
    """Yield a row per run of a sweep, or one for runs that are joined by `+`."""
    joined = [Path(each) for each in place.split("+")]
    groups = [joined] if len(joined) > 1 else [[row.folder] for row in collect_runs(joined).rows]
    for folders in groups:
        networks = [load_trained(folder, torch.device("cpu")) for folder in folders]
        probs = np.mean([each.probs["mask"] for each in predict_many(networks, photos[["path"]])], axis=0)
        seeds = " + ".join(str(RunFolder(folder).read_config()["seed"]) for folder in folders)
        yield {"model": label, "seed": seeds, **score(probs, photos["masked"].to_numpy())}


def main() -> None:
    """Write the table, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="the CSV file to write")
    parser.add_argument("runs", nargs="+", help="LABEL=SWEEP, LABEL=RUN or LABEL=RUN+RUN")
    parser.add_argument("--photos", type=Path, required=True, help="folder of with_mask/ and without_mask/")
    args = parser.parse_args()
    photos = read_photos(args.photos)
    pairs = [each.rpartition("=") for each in args.runs]
    table = pd.DataFrame(row for label, _, place in pairs for row in rows_of(label, place, photos)).round(4)
    table.to_csv(args.path, index=False, lineterminator="\n")
    print(table.to_string())


if __name__ == "__main__":
    main()
