"""Predict photos with trained networks."""

from __future__ import annotations

from pathlib import Path

from mask_lightning.inference import prediction_file, submission
from mask_lightning.inference.photo_list import PhotoList, read_photo_list
from mask_lightning.inference.predict import predict_many
from mask_lightning.inference.trained import Trained, choose_device, load_trained
from mask_lightning.metrics.predictions import Predictions, combine, combine_spaces
from mask_lightning.pipelines.output import refuse_existing, writable
from mask_lightning.reports import predictions as reports
from mask_lightning.settings.inference import PredictSettings

CSV_NAME = "predictions.csv"  # for people and spreadsheets
OUTPUT_NAMES = (prediction_file.FILE_NAME, CSV_NAME, submission.FILE_NAME)


def predict_photos(settings: PredictSettings, folder: Path) -> Predictions:
    """Predict every photo with every network, and write the predictions into `folder`.

    Raises:
        MaskLightningError: the user can correct the cause; raised before anything is written.
    """
    assert settings.data.root is not None
    refuse_existing(folder, OUTPUT_NAMES)
    photos = read_photo_list(settings.data.root, follow_symlinks=settings.data.follow_symlinks)
    device = choose_device(settings.accelerator)
    networks = [load_trained(path, device) for path in settings.ckpt]
    submit = _must_submit(networks, photos, settings)
    parts = predict_many(
        networks,
        photos.table,
        tta=settings.tta,
        calibrated=settings.calibrated == "auto",
        batch_size=settings.batch_size,
        num_workers=settings.num_workers,
        progress=settings.progress,
    )
    predictions = combine(parts)
    write_output(folder, predictions, submit=submit)
    if photos.kind == "photo":
        reports.print_photo(predictions)
    else:
        reports.print_summary(predictions)
    reports.print_probabilities(predictions)
    reports.print_files(folder, _check_command(folder, photos) if photos.kind == "info" and submit else None)
    return predictions


def _must_submit(networks: list[Trained], photos: PhotoList, settings: PredictSettings) -> bool:
    """Return True if a submission will be written. Raise if the networks do not fit together or cannot make one."""
    space = combine_spaces([(network.source.checkpoint, network.space) for network in networks])
    if settings.submission is True or (settings.submission == "auto" and photos.kind == "info"):
        submission.require_face(space)
    return settings.submission is not False and submission.can_submit(space)


def write_output(folder: Path, predictions: Predictions, *, submit: bool) -> None:
    """Write predictions.parquet, predictions.csv and submission.csv, in this order: with the last, all are complete.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    with writable(folder):
        prediction_file.write_predictions(folder / prediction_file.FILE_NAME, predictions)
        prediction_file.write_csv(folder / CSV_NAME, predictions)
        if submit:
            submission.write_submission(folder / submission.FILE_NAME, submission.submission_of(predictions))


def _check_command(folder: Path, photos: PhotoList) -> str:
    return f"python -m mask_lightning.check_submission file={folder} data.root={photos.root}"
