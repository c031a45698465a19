"""What the doors after training do: predict, blend, check; from settings to files and tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mask_lightning.data.index import read_index
from mask_lightning.errors import RunFolderError, SubmissionError
from mask_lightning.inference import prediction_file, submission
from mask_lightning.inference.blending import vote
from mask_lightning.inference.forward import predict_many
from mask_lightning.inference.photo_list import PhotoList, check_readable, read_photo_list
from mask_lightning.inference.predictions import Predictions, average, combine, combine_spaces
from mask_lightning.inference.submission import Submission
from mask_lightning.inference.trained import Trained, choose_device, load_trained
from mask_lightning.labels import FACE
from mask_lightning.reports import prediction_report, submission_report
from mask_lightning.settings.inference import BlendSettings, CheckSubmissionSettings, PredictSettings

CSV_NAME = "predictions.csv"  # for people and spreadsheets


def predict_photos(settings: PredictSettings, folder: Path) -> Predictions:
    """Predict every photo with every network and leave the answers in `folder`.

    Raises:
        MaskLightningError: whatever can be mended; before anything is predicted or written.
    """
    assert settings.data.root is not None
    _claim(folder)
    photos = read_photo_list(settings.data.root)
    device = choose_device(settings.accelerator)
    networks = [load_trained(path, device) for path in settings.ckpt]
    submit = _must_submit(networks, photos, settings)
    check_readable(photos, progress=settings.progress)
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
    write_answers(folder, predictions, submit=submit)
    if photos.kind == "photo":
        prediction_report.print_photo(predictions)
    else:
        prediction_report.print_summary(predictions)
    prediction_report.print_probabilities(predictions)
    prediction_report.print_files(folder, _check_command(folder, photos) if photos.kind == "info" and submit else None)
    return predictions


def blend(settings: BlendSettings, folder: Path) -> Submission:
    """Blend the files and leave the result in `folder`: by vote a submission, by mean predictions as well.

    Raises:
        MaskLightningError: a file is not valid, or they answer different photos; nothing is written then.
    """
    _claim(folder)
    blended, ballots = _blend_means(settings, folder) if settings.kind == "mean" else _blend_votes(settings, folder)
    submission_report.print_blend(dict(zip(map(str, settings.files), ballots, strict=True)), blended)
    prediction_report.print_files(folder, f"python -m mask_lightning.check_submission file={folder} data.root=EVAL")
    return blended


Blend = tuple[Submission, Sequence[Submission | None]]  # the result, and what it was blended from


def _blend_means(settings: BlendSettings, folder: Path) -> Blend:
    parts = [prediction_file.read_predictions(path) for path in settings.files]
    predictions = average(parts)
    blended = submission.submission_of(predictions)
    write_answers(folder, predictions, submit=True)
    return blended, [submission.submission_of(part) if submission.can_submit(part.space) else None for part in parts]


def _blend_votes(settings: BlendSettings, folder: Path) -> Blend:
    ballots = [submission.read_answers(path) for path in settings.files]
    blended = vote(ballots)
    with writable(folder):
        submission.write_submission(folder / submission.FILE_NAME, blended)
    return blended, ballots


def check_submission(settings: CheckSubmissionSettings) -> None:
    """Print what is wrong with a submission, how its classes are distributed, and how it differs from another.

    Raises:
        SubmissionError: it is not valid.
    """
    assert settings.file is not None
    path, rows = submission.read_rows(settings.file)
    official = read_photo_list(settings.data.root).table["photo"].tolist() if settings.data.root else None
    problems = submission.find_problems(rows, official)
    submission_report.print_problems(path, len(rows), problems, official=official is not None)
    if problems:
        raise SubmissionError(f"{path} is not a valid submission: {problems[0]}; correct it")
    answers = submission.read_answers(path)
    train = settings.train or _train_beside(settings.data.root)
    truth = FACE.encode(dict(read_index(train)[list(FACE.names)])).to_numpy() if train else None
    submission_report.print_distribution(answers.codes, truth)
    if settings.against:
        other = submission.read_answers(settings.against).in_order(answers.image_ids)
        submission_report.print_difference(settings.against, answers.codes, other.codes)


def _must_submit(networks: list[Trained], photos: PhotoList, settings: PredictSettings) -> bool:
    """Whether a submission will be written; refuses networks that do not fit together, or cannot make it."""
    space = combine_spaces([(network.source.checkpoint, network.space) for network in networks])
    if settings.submission is True or (settings.submission == "auto" and photos.kind == "info"):
        submission.require_face(space)
    return settings.submission is not False and submission.can_submit(space)


def _claim(folder: Path) -> None:
    """Raise RunFolderError if answers lie there: they are never overwritten."""
    for name in (prediction_file.FILE_NAME, CSV_NAME, submission.FILE_NAME):
        if (folder / name).exists():
            raise RunFolderError(f"{folder} already holds {name}; name another folder, or none to get a new one")


def write_answers(folder: Path, predictions: Predictions, *, submit: bool) -> None:
    """Write predictions.parquet, predictions.csv and submission.csv; that last: where it lies, the rest lies too.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    with writable(folder):
        prediction_file.write_predictions(folder / prediction_file.FILE_NAME, predictions)
        prediction_file.write_csv(folder / CSV_NAME, predictions)
        if submit:
            submission.write_submission(folder / submission.FILE_NAME, submission.submission_of(predictions))


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Make the folder. Raises RunFolderError where that, or a write in the block, fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise RunFolderError(f"cannot write to {folder} ({error.strerror}); set outputs to another folder") from error


def _check_command(folder: Path, photos: PhotoList) -> str:
    return f"python -m mask_lightning.check_submission file={folder} data.root={photos.root}"


def _train_beside(root: Path | None) -> Path | None:
    """The labelled photos of a folder that holds eval/ and train/, or that is eval/ beside train/."""
    for folder in (root, root.parent) if root else ():
        if folder is not None and (folder / "train" / "images").is_dir():
            return folder
    return None
