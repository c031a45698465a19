"""`python -m mask_lightning.compare`: the leaderboard of runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from mask_lightning.cli.command import open_door, plain


def main(config: DictConfig) -> None:
    """The composed config -> a table on the terminal, and as CSV on request.

    Raises:
        MaskLightningError: no runs there, or the CSV cannot be written.
    """
    from mask_lightning.settings.base import check
    from mask_lightning.settings.evaluation import CompareSettings

    settings = check(CompareSettings, plain(config))
    compare(settings.runs, settings.out)


def compare(places: Sequence[Path], out: Path | None) -> None:
    """Print the runs below the places, the best first, and write them to `out`; name what cannot be read."""
    from mask_lightning.errors import RunFolderError
    from mask_lightning.sweeps.printing import print_table
    from mask_lightning.sweeps.summary import write_csv
    from mask_lightning.sweeps.table import collect_runs, differing_options, ranking, to_frame

    names = ", ".join(map(str, places))
    for place in places:
        if not place.is_dir():
            raise RunFolderError(f"expected a folder with runs at {place}, found none; set runs to where they are")
    found = collect_runs(places)
    for line in found.unreadable:
        print(f"warning: {line}", file=sys.stderr)
    if not found.rows:
        raise RunFolderError(f"expected runs below {names}, found none; train one first")
    rows = [found.rows[i] for i in ranking(found.rows)]
    frame = to_frame(rows, differing_options(rows))
    print_table(frame, f"{len(rows)} runs below {names}")
    if out is not None:
        path = out / "compare.csv" if out.is_dir() else out
        try:
            write_csv(frame, path)
        except OSError as error:
            raise RunFolderError(f"cannot write {path} ({error.strerror}); set out to another file") from error
        print(path)


if __name__ == "__main__":
    open_door("compare", main)
