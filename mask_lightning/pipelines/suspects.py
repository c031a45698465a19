"""From a cross-validation, or predictions that are there already, to a list of suspects in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mask_lightning.errors import PredictionsError, RunFolderError
from mask_lightning.inference.prediction_file import FILE_NAME, read_predictions, write_predictions
from mask_lightning.inference.predictions import Predictions
from mask_lightning.metrics.label_issues import Suspects, find_suspects
from mask_lightning.pipelines.labelled import predict_labelled
from mask_lightning.reports import suspects_page, suspects_report
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.base import check
from mask_lightning.settings.evaluation import SuspectsSettings
from mask_lightning.settings.identity import flatten, identity
from mask_lightning.settings.train import TrainSettings
from mask_lightning.sweeps.table import Row, collect_runs


def list_suspects(settings: SuspectsSettings, folder: Path) -> list[Suspects]:
    """Find the likely wrong labels, show how many there are, and leave the list in `folder` for a person to review.

    Raises:
        MaskLightningError: whatever can be mended; before anything is predicted, where that is possible.
    """
    _claim(folder)
    predictions, corrections = _predictions(settings, folder)
    found = find_suspects(predictions, share=settings.share)
    try:
        suspects_report.save(folder, found, predictions)
        suspects_page.save(folder, found, predictions, shown=settings.shown)
    except OSError as error:
        raise _unwritable(folder, error) from error
    suspects_report.print_suspects(found)
    suspects_report.print_next(folder, corrections)
    return found


def _predictions(settings: SuspectsSettings, folder: Path) -> tuple[Predictions, str | None]:
    """Out-of-fold predictions, and the corrections that the labels were trained with, where that is known."""
    if settings.predictions is not None:
        return read_predictions(settings.predictions), None
    folds = find_folds(settings.runs or ())
    predictions = predict_out_of_fold(
        folds,
        batch_size=settings.batch_size,
        num_workers=settings.num_workers,
        accelerator=settings.accelerator,
        progress=settings.progress,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_predictions(folder / FILE_NAME, predictions)  # at once: they cost a pass over all photos
    except OSError as error:
        raise _unwritable(folder, error) from error
    return predictions, folds[0].read_config()["data"]["corrections"]


def _claim(folder: Path) -> None:
    for name in (FILE_NAME, suspects_report.CSV_NAME):
        if (folder / name).exists():
            raise RunFolderError(f"{folder} already holds {name}; name another folder, or none to get a new one")


def _unwritable(folder: Path, error: OSError) -> RunFolderError:
    return RunFolderError(f"cannot write to {folder} ({error.strerror}); set outputs to another folder")


TRAIN_THEM = "python -m mask_lightning.train -m data.folds=5 data.fold=0,1,2,3,4"


def predict_out_of_fold(
    folds: Sequence[RunFolder],
    *,
    batch_size: int = 64,
    num_workers: int | None = None,
    accelerator: str = "auto",
    progress: bool = False,
) -> Predictions:
    """Let each fold's network predict the people held out from it; of `find_folds`, together they are everybody.

    Raises:
        MaskLightningError: as `predict_labelled` and `join_folds`.
    """
    parts = [
        predict_labelled(
            run.path, batch_size=batch_size, num_workers=num_workers, accelerator=accelerator, progress=progress
        ).predictions
        for run in folds
    ]
    return join_folds(parts)


def find_folds(places: Sequence[Path]) -> list[RunFolder]:
    """The finished runs of one cross-validation below the places, in the order of their folds.

    Raises:
        RunFolderError: none there, a fold is missing or not finished, or runs of other splits, photos or options lie
            among them.
    """
    names = ", ".join(map(str, places))
    for place in places:
        if not place.is_dir():
            raise RunFolderError(
                f"expected a folder with runs at {place}, found none; set runs to the folder of a sweep"
            )
    rows = [row for row in collect_runs(places).rows if row.result is not None]
    if not rows:
        raise RunFolderError(f"expected the folds of a cross-validation below {names}, found no run; {TRAIN_THEM}")
    _refuse_others(rows)
    return _one_of_each(rows, names)


def _refuse_others(rows: Sequence[Row]) -> None:
    for row in rows:
        if row.options.get("data.folds") is None:
            raise RunFolderError(
                f"expected folds only, found {row.folder}, which was trained without data.folds; "
                f"name the folder of one sweep, or train one: {TRAIN_THEM}"
            )
    first, wanted = rows[0], _what_folds_share(rows[0])
    for row in rows[1:]:
        found = _what_folds_share(row)
        for name in wanted:
            if found.get(name) != wanted[name]:
                raise RunFolderError(
                    f"expected the folds of one split, found {name} {wanted[name]} in {first.folder} and "
                    f"{found.get(name)} in {row.folder}; name the folder of one sweep"
                )


def _what_folds_share(row: Row) -> dict[str, Any]:
    """Every option that counts but the fold, and the photos."""
    settings = check(TrainSettings, RunFolder(row.folder).read_config())
    options = flatten(identity(settings))
    del options["data.fold"], options["data.val_fraction"]  # the latter says again how many folds there are
    # Where people to train on are drawn, every fold draws others.
    photos = row.result.data.get("fingerprint") if row.result and not settings.data.limit_people else None
    return {**options, "the photos' fingerprint": photos}


def _one_of_each(rows: Sequence[Row], names: str) -> list[RunFolder]:
    count = int(rows[0].options["data.folds"])
    status = {row.options["data.fold"]: row.status for row in rows}
    finished = {row.options["data.fold"]: RunFolder(row.folder) for row in rows if row.status == "finished"}
    missing = [f"{fold} ({status.get(fold, 'not there')})" for fold in range(count) if fold not in finished]
    if missing:
        raise RunFolderError(
            f"expected all {count} folds below {names}, finished, found {len(finished)} of them; "
            f"missing: {', '.join(missing)}; the command of the sweep again trains those only"
        )
    return [finished[fold] for fold in range(count)]


def join_folds(parts: Sequence[Predictions]) -> Predictions:
    """Predictions of different people as one; `fold` in its photos tells which part each comes from.

    Raises:
        PredictionsError: the parts have different tasks or classes, or two of them answer for one person.
    """
    space = parts[0].space
    if any(part.space != space for part in parts):
        raise PredictionsError("expected folds of one label space, found different tasks or classes; name one sweep")
    photos = pd.concat([part.photos.assign(fold=i) for i, part in enumerate(parts)], ignore_index=True)
    folds = photos.groupby("person_id")["fold"].nunique()
    shared = folds.index[folds > 1].tolist()
    if shared:
        raise PredictionsError(
            f"expected every person in one fold, found {', '.join(map(str, shared[:5]))} in several; "
            "name the folds of one split"
        )
    return Predictions(
        space=space,
        photos=photos,
        probs={task: np.concatenate([part.probs[task] for part in parts]) for task in space.names},
        targets={task: np.concatenate([part.targets[task] for part in parts]) for task in space.names},
        losses={task: np.concatenate([part.losses[task] for part in parts]) for task in space.names},
        sources=tuple(source for part in parts for source in part.sources),
    )
