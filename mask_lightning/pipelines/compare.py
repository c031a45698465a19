"""Compare runs in a table."""

from __future__ import annotations

import sys

from mask_lightning.errors import RunFolderError
from mask_lightning.reports.sweep_report import print_table
from mask_lightning.settings.evaluation import CompareSettings
from mask_lightning.sweeps.table import best_first, collect_runs, differing_options, to_frame, write_csv


def compare_runs(settings: CompareSettings) -> None:
    """Print the runs below the folders, the best first, and write them to `out`; name those that cannot be read.

    Raises:
        RunFolderError: there are no runs, or the CSV cannot be written.
    """
    names = ", ".join(map(str, settings.runs))
    for place in settings.runs:
        if not place.is_dir():
            raise RunFolderError(f"expected a folder with runs at {place}, found none; set runs to where they are")
    found = collect_runs(settings.runs)
    for line in found.unreadable:
        print(f"warning: {line}", file=sys.stderr)
    if not found.rows:
        raise RunFolderError(f"expected runs below {names}, found none; train one first")
    rows = [found.rows[i] for i in best_first(found.rows)]
    frame = to_frame(rows, differing_options(rows))
    print_table(frame, f"{len(rows)} runs below {names}")
    if settings.out is None:
        return
    path = settings.out / "compare.csv" if settings.out.is_dir() else settings.out
    try:
        write_csv(frame, path)
    except OSError as error:
        raise RunFolderError(f"cannot write {path} ({error.strerror}); set out to another file") from error
    print(path)
