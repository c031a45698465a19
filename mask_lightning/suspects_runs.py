"""From a cross-validation, or predictions that are there already, to a list of suspects in a folder."""

from __future__ import annotations

from pathlib import Path

from mask_lightning.errors import RunFolderError
from mask_lightning.evaluation.suspects import Suspects, find_suspects
from mask_lightning.fold_runs import find_folds, predict_out_of_fold
from mask_lightning.inference.prediction_file import FILE_NAME, read_predictions, write_predictions
from mask_lightning.inference.predictions import Predictions
from mask_lightning.reports import suspects_page, suspects_report
from mask_lightning.settings.suspects import SuspectsSettings


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
