"""Compare runs in a table, or configurations over the same seeds."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mask_lightning.errors import PredictionsError, RunFolderError
from mask_lightning.inference.prediction_file import read_predictions
from mask_lightning.metrics.bootstrap import Difference, mean_difference
from mask_lightning.metrics.scores import METRICS
from mask_lightning.reports.sweep_report import paired_frame, print_paired, print_table
from mask_lightning.settings.evaluation import CompareSettings
from mask_lightning.sweeps.paired import Configuration, PairedDifference, find_baseline, group_by_seed, pair
from mask_lightning.sweeps.table import (
    Row,
    best_first,
    collect_runs,
    differing_options,
    to_frame,
    warn_of_means,
    write_csv,
)
from mask_lightning.utils.files import write_json


def compare_runs(settings: CompareSettings) -> None:
    """Print the runs below the folders, the best first, and write them to `out`; name those that cannot be read.

    With paired=seed the table has a row per configuration.

    Raises:
        RunFolderError: there are no runs, they cannot be paired, or the files cannot be written.
    """
    names = ", ".join(map(str, settings.runs))
    for place in settings.runs:
        if not place.is_dir():
            raise RunFolderError(f"expected a folder with runs at {place}, found none; set runs to where they are")
    found = collect_runs(settings.runs)
    mixed = warn_of_means(found.rows)
    for line in [*found.unreadable, *([mixed] if mixed else [])]:
        print(f"warning: {line}", file=sys.stderr)
    if not found.rows:
        raise RunFolderError(f"expected runs below {names}, found none; train one first")
    if settings.paired:
        _compare_paired(settings, found.rows)
        return
    rows = [found.rows[i] for i in best_first(found.rows)]
    frame = to_frame(rows, differing_options(rows))
    print_table(frame, f"{len(rows)} {'run' if len(rows) == 1 else 'runs'} below {names}")
    if settings.out is not None:
        path = settings.out / "compare.csv" if settings.out.is_dir() else settings.out
        try:
            write_csv(frame, path)
        except OSError as error:
            raise _cannot_write(path, error) from error
        print(path)


def _compare_paired(settings: CompareSettings, rows: Sequence[Row]) -> None:
    assert settings.baseline is not None
    configurations, notes = group_by_seed(rows)
    baseline = find_baseline(configurations, settings.baseline)
    monitored = {row.result.monitor for row in baseline.runs.values() if row.result}
    metric = settings.metric or sorted(monitored)[0]
    differences, more = pair(configurations, baseline, metric)
    by_name = {each.name: each for each in configurations}
    predictions = _find_predictions([*settings.runs, settings.evaluations])
    reasons: list[str] = []
    for i, each in enumerate(differences):
        people, reason = _bootstrap(each, by_name[each.name], baseline, metric, predictions)
        differences[i] = replace(each, people=people)
        if reason:
            reasons.append(reason)
    scores = baseline.scores(metric)
    print_paired(differences, baseline.name, scores, metric)
    notes += [*more, *dict.fromkeys(reasons)]
    for line in notes:
        print(f"note: {line}", file=sys.stderr)
    if settings.out is None:
        return
    path = settings.out / "compare.csv" if settings.out.is_dir() else settings.out.with_suffix(".csv")
    record: dict[str, Any] = {
        "metric": metric,
        "baseline": {"configuration": baseline.name, "seeds": {str(seed): value for seed, value in scores.items()}},
        "differences": [each.to_plain() for each in differences],
        "notes": notes,
    }
    try:
        write_csv(paired_frame(differences, baseline.name, scores), path)
        write_json(path.with_suffix(".json"), record)
    except OSError as error:
        raise _cannot_write(path, error) from error
    print(f"{path}, {path.with_suffix('.json').name}")


def _bootstrap(
    difference: PairedDifference,
    configuration: Configuration,
    baseline: Configuration,
    metric: str,
    predictions: Mapping[Path, Path],
) -> tuple[Difference | None, str | None]:
    """Compute the interval over people from stored predictions; without them, return the reason."""
    side, *task, name = metric.split("/")
    if side != "val" or name not in METRICS or len(task) > 1:
        return None, f"no intervals over people: {metric} is no metric of the predictions for held-out people"
    pairs = []
    for seed in difference.scores:
        folders = [each.runs[seed].folder for each in (configuration, baseline)]
        for folder in folders:
            if folder.resolve() not in predictions:
                return None, (
                    f"no interval over people for {difference.name}: there are no stored predictions of {folder}; "
                    f"store them: python -m mask_lightning.evaluate ckpt={folder}"
                )
        # Scores of best.ckpt are those of argmax.
        stored = [replace(read_predictions(predictions[folder.resolve()]), decisions=None) for folder in folders]
        pairs.append((stored[0], stored[1]))
    try:
        return mean_difference(pairs, metric=name, task=task[0] if task else None), None
    except PredictionsError as error:
        return None, f"no interval over people for {difference.name}: {error}"


def _find_predictions(places: Sequence[Path]) -> dict[Path, Path]:
    """Find the newest predictions of each run for the people whom it held out, without test-time augmentation."""
    found: dict[Path, Path] = {}
    records = {record for place in places if place.is_dir() for record in place.rglob("evaluation.json")}
    for record in sorted(records, key=lambda path: path.stat().st_mtime):
        try:
            about = json.loads(record.read_text())
            usable = about["data"]["held_out"] and about["network"]["tta"] == "none"
            run = about["network"]["run"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if usable and run:
            found[Path(run).resolve()] = record.parent
    return found


def _cannot_write(path: Path, error: OSError) -> RunFolderError:
    return RunFolderError(f"cannot write {path} ({error.strerror}); set out to another file")
