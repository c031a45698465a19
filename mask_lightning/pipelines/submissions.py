"""Blend submissions, and check them before they are handed in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from mask_lightning.data.index import read_index
from mask_lightning.errors import SubmissionError
from mask_lightning.inference import prediction_file, submission
from mask_lightning.inference.photo_list import read_photo_list
from mask_lightning.inference.submission import Submission, vote_submissions
from mask_lightning.labels import FACE
from mask_lightning.metrics.predictions import average
from mask_lightning.pipelines.output import refuse_existing, writable
from mask_lightning.pipelines.predict import OUTPUT_NAMES, write_output
from mask_lightning.reports import predictions as reports
from mask_lightning.settings.inference import BlendSettings, CheckSubmissionSettings

log = logging.getLogger(__name__)


def blend(settings: BlendSettings, folder: Path) -> Submission:
    """Blend the files and write the result into `folder`: a submission, and predictions if `kind=mean`.

    Raises:
        MaskLightningError: a file is not valid, or they are about different photos; nothing is written then.
    """
    refuse_existing(folder, OUTPUT_NAMES)
    blended, parts = _blend_means(settings, folder) if settings.kind == "mean" else _blend_votes(settings, folder)
    reports.print_blend(dict(zip(map(str, settings.files), parts, strict=True)), blended)
    reports.print_files(folder, f"python -m mask_lightning.check_submission file={folder} data.root=EVAL")
    return blended


Blend = tuple[Submission, Sequence[Submission | None]]  # the result, and the submissions it was blended from


def _blend_means(settings: BlendSettings, folder: Path) -> Blend:
    parts = [prediction_file.read_predictions(path) for path in settings.files]
    decided = [str(file) for file, part in zip(settings.files, parts, strict=True) if part.decisions is not None]
    if decided:
        log.warning(
            "%s: made with decision=macro_f1, which kind=mean drops; the blend has the classes with the largest mean "
            "probability. To blend decisions, set kind=vote",
            ", ".join(decided),
        )
    predictions = average(parts)
    blended = submission.submission_of(predictions)
    write_output(folder, predictions, submit=True)
    return blended, [submission.submission_of(part) if submission.can_submit(part.space) else None for part in parts]


def _blend_votes(settings: BlendSettings, folder: Path) -> Blend:
    parts = [submission.read_answers(path) for path in settings.files]
    blended = vote_submissions(parts)
    with writable(folder):
        submission.write_submission(folder / submission.FILE_NAME, blended)
    return blended, parts


def check_submission(settings: CheckSubmissionSettings) -> None:
    """Print the problems of a submission, its class distribution, and its difference from another.

    Raises:
        SubmissionError: it is not valid.
    """
    path, rows = submission.read_rows(settings.file)
    data = settings.data
    listed = read_photo_list(data.root, follow_symlinks=data.follow_symlinks) if data.root else None
    official = listed.table["photo"].tolist() if listed else None
    problems = submission.find_problems(rows, official)
    reports.print_problems(path, len(rows), problems, official=official is not None)
    if problems:
        raise SubmissionError(f"{path} is not a valid submission: {problems[0]}; correct it")
    answers = submission.read_answers(path)
    train = settings.train or _train_beside(settings.data.root)
    truth = FACE.encode(dict(read_index(train)[list(FACE.names)])).to_numpy() if train else None
    reports.print_distribution(answers.codes, truth)
    if settings.against:
        other = submission.read_answers(settings.against).in_order(answers.image_ids)
        reports.print_difference(settings.against, answers.codes, other.codes)


def _train_beside(root: Path | None) -> Path | None:
    """Return the folder of the labelled photos if `root` holds eval/ and train/, or is eval/ beside train/."""
    for folder in (root, root.parent) if root else ():
        if folder is not None and (folder / "train" / "images").is_dir():
            return folder
    return None
