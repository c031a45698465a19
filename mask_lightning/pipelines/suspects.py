"""List probably wrong labels from the runs of a cross-validation, or from stored predictions."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mask_lightning.errors import PredictionsError, RunFolderError
from mask_lightning.inference.prediction_file import FILE_NAME, read_predictions, write_predictions
from mask_lightning.metrics.label_issues import LabelIssues, find_issues
from mask_lightning.metrics.predictions import Predictions, join_rows
from mask_lightning.pipelines.labelled import predict_labelled
from mask_lightning.pipelines.output import refuse_existing, writable
from mask_lightning.reports import label_issues
from mask_lightning.runs.folder import RunFolder
from mask_lightning.runs.photos import held_out_photos, mark_photos, read_split
from mask_lightning.settings.base import check
from mask_lightning.settings.evaluation import SuspectsSettings
from mask_lightning.settings.identity import flatten, identity
from mask_lightning.settings.inference import InferenceSettings
from mask_lightning.settings.train import TrainSettings
from mask_lightning.sweeps.table import Row, collect_runs

log = logging.getLogger(__name__)

TRAIN_COMMAND = "python -m mask_lightning.train -m data.folds=5 data.fold=0,1,2,3,4"


def list_suspects(settings: SuspectsSettings, folder: Path) -> list[LabelIssues]:
    """Find labels that are probably wrong, and write the list into `folder` for a person to review.

    Raises:
        MaskLightningError: the user can correct the cause; raised before anything is predicted if possible.
    """
    refuse_existing(folder, [FILE_NAME, label_issues.CSV_NAME])
    predictions, corrections = _predictions(settings, folder)
    found = find_issues(predictions, share=settings.share)
    with writable(folder):
        label_issues.save(folder, found, predictions, shown=settings.shown)
    label_issues.print_label_issues(found)
    label_issues.print_next(folder, corrections)
    return found


def _predictions(settings: SuspectsSettings, folder: Path) -> tuple[Predictions, str | None]:
    """Return out-of-fold predictions, and the corrections file of the runs if known."""
    if settings.predictions is not None:
        return read_predictions(settings.predictions), None
    folds = find_folds(settings.runs or ())
    predictions = predict_out_of_fold(folds, settings)
    with writable(folder):
        write_predictions(folder / FILE_NAME, predictions)  # at once: they cost a pass over all photos
    return predictions, folds[0].read_config()["data"]["corrections"]


def predict_out_of_fold(folds: Sequence[RunFolder], options: InferenceSettings) -> Predictions:
    """Let each fold's network predict the people held out from it; with the runs of `find_folds`, these are all people.

    The networks are those of the last epoch: best.ckpt is the epoch that agrees best with the labels in doubt.

    Raises:
        MaskLightningError: as `predict_labelled` and `join_folds`.
    """
    warn_of_best(folds)
    ckpts = [run.last if run.last.is_file() else run.path for run in folds]
    return join_folds([predict_labelled([ckpt], options)[0].predictions for ckpt in ckpts])


def warn_of_best(folds: Sequence[RunFolder]) -> None:
    """Log which runs have no checkpoint of their last epoch, unless it is the best one."""
    chosen = []
    for run in folds:
        phases = run.read_config().get("finetune", {}).get("phases", [])
        if not run.last.is_file() and run.read_result().best_epoch != sum(phase["epochs"] for phase in phases):
            chosen.append(str(run.path))
    if chosen:
        log.warning(
            "expected the last epoch of every fold, found only best.ckpt in %s, whose epoch was chosen on the labels "
            "that are examined now, so fewer wrong ones are found; train the folds with checkpoint.keep=both",
            ", ".join(chosen),
        )


def find_folds(places: Sequence[Path]) -> list[RunFolder]:
    """Return the finished runs of one cross-validation below the folders, in the order of their folds.

    Raises:
        RunFolderError: there are no runs, a fold is missing or not finished, or runs of other splits, photos or options
            are among them.
    """
    names = ", ".join(map(str, places))
    for place in places:
        if not place.is_dir():
            raise RunFolderError(
                f"expected a folder with runs at {place}, found none; set runs to the folder of a sweep"
            )
    rows = [row for row in collect_runs(places).rows if row.result is not None]
    if not rows:
        raise RunFolderError(f"expected the folds of a cross-validation below {names}, found no run; {TRAIN_COMMAND}")
    _refuse_others(rows)
    return _order_folds(rows, names)


def _refuse_others(rows: Sequence[Row]) -> None:
    for row in rows:
        if row.options.get("data.folds") is None:
            raise RunFolderError(
                f"expected folds only, found {row.folder}, which was trained without data.folds; "
                f"name the folder of one sweep, or train one: {TRAIN_COMMAND}"
            )
    first, wanted = rows[0], _shared_options(rows[0])
    for row in rows[1:]:
        found = _shared_options(row)
        for name in wanted:
            if found.get(name) != wanted[name]:
                raise RunFolderError(
                    f"expected the folds of one split, found {name} {wanted[name]} in {first.folder} and "
                    f"{found.get(name)} in {row.folder}; name the folder of one sweep"
                )


def _shared_options(row: Row) -> dict[str, Any]:
    """Return what must be equal in all folds: every option that counts but the fold, and the photos."""
    settings = check(TrainSettings, RunFolder(row.folder).read_config())
    options = flatten(identity(settings))
    del options["data.fold"], options["data.val_fraction"]  # val_fraction is 1 / data.folds
    # With data.limit_people every fold draws other people.
    photos = row.result.data.get("fingerprint") if row.result and not settings.data.limit_people else None
    return {**options, "the photos' fingerprint": photos}


def _order_folds(rows: Sequence[Row], names: str) -> list[RunFolder]:
    count = int(rows[0].options["data.folds"])
    status = {row.options["data.fold"]: row.status for row in rows}
    finished = {row.options["data.fold"]: RunFolder(row.folder) for row in rows if row.status == "finished"}
    missing = [f"{fold} ({status.get(fold, 'not there')})" for fold in range(count) if fold not in finished]
    if missing:
        raise RunFolderError(
            f"expected all {count} folds below {names}, finished, found {len(finished)} of them; "
            f"missing: {', '.join(missing)}; the command of the sweep again trains those only"
        )
    folds = [finished[fold] for fold in range(count)]
    _refuse_other_splits(folds)
    return folds


def _refuse_other_splits(folds: Sequence[RunFolder]) -> None:
    """Raise RunFolderError unless split.csv of the folds, where recorded, hold out each photo once."""
    held_out = [held_out_photos(fold.split) for fold in folds]
    recorded = [photos for photos in held_out if photos is not None]
    if len(recorded) < len(folds):
        return
    everyone = mark_photos(read_split(folds[0].split)) if not _limits_people(folds[0]) else set().union(*recorded)
    times = Counter(photo for photos in recorded for photo in photos)
    wrong = sorted(photo.rpartition(":")[0] for photo in everyone | set(times) if times[photo] != 1)
    if wrong:
        named = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
        raise RunFolderError(
            f"expected the folds of one split, in which every photo is held out once, found {len(wrong)} photos held "
            f"out never or twice ({named}): other versions have other splits; train the folds again: "
            "skip_done=false"
        )


def _limits_people(run: RunFolder) -> bool:
    return check(TrainSettings, run.read_config()).data.limit_people is not None


def join_folds(parts: Sequence[Predictions]) -> Predictions:
    """Join predictions of different people; the column `fold` of the photos is the index of the part.

    Raises:
        PredictionsError: the parts have different tasks or classes, or two of them contain one person.
    """
    space = parts[0].space
    if any(part.space != space for part in parts):
        raise PredictionsError("expected folds of one label space, found different tasks or classes; name one sweep")
    joined = join_rows([replace(part, photos=part.photos.assign(fold=i)) for i, part in enumerate(parts)])
    photos = joined.photos
    folds = photos.groupby("person_id")["fold"].nunique()
    shared = folds.index[folds > 1].tolist()
    if shared:
        raise PredictionsError(
            f"expected every person in one fold, found {', '.join(map(str, shared[:5]))} in several; "
            "name the folds of one split"
        )
    return joined
