"""Submissions to the competition, CSV files `ImageID,ans`: make, vote, write, read and check them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.data.csv_files import read_csv
from mask_lightning.errors import SampleTableError, SubmissionError
from mask_lightning.inference.prediction_file import describe_space, read_predictions
from mask_lightning.labels import FACE, LabelSpace
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.metrics.scores import JOINT
from mask_lightning.utils.files import writing_atomically

FILE_NAME = "submission.csv"
COLUMNS = ["ImageID", "ans"]
MAX_EXAMPLES = 3  # names in a message

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Submission:
    """Names of N photos, and their codes of FACE (N,)."""

    image_ids: tuple[str, ...]
    codes: Codes

    def __len__(self) -> int:
        return len(self.image_ids)

    def in_order(self, image_ids: Sequence[str]) -> Submission:
        """Reorder the submission.

        Raises:
            SubmissionError: the photos differ.
        """
        answers = dict(zip(self.image_ids, self.codes.tolist(), strict=True))
        missing = [image_id for image_id in image_ids if image_id not in answers]
        if missing or len(image_ids) != len(self):
            raise SubmissionError(
                f"expected answers for the same {len(image_ids)} photos, found {len(self)} "
                f"({_examples(missing) or 'with others among them'}); compare answers to the same photos"
            )
        return Submission(tuple(image_ids), np.array([answers[each] for each in image_ids], np.int64))


def submission_of(predictions: Predictions) -> Submission:
    """Make a submission from the preds, in the order of the photos.

    Raises:
        SubmissionError: a task of FACE is missing, or the rows are all faces of the photos.
    """
    require_face(predictions.space)
    if "face" in predictions.photos:
        raise SubmissionError(
            f"a submission has one answer per photo, found one per face from {predictions.name}; predict with faces=one"
        )
    preds = predictions.preds
    return Submission(tuple(predictions.photos["photo"]), FACE.encode({task: preds[task] for task in FACE.names}))


def require_face(space: LabelSpace) -> None:
    """Raise SubmissionError unless the space has the tasks of FACE with the same classes."""
    if not can_submit(space):
        raise SubmissionError(
            f"a submission takes the {FACE.num_codes} classes of {describe_space(FACE)}, found "
            f"{describe_space(space)}; name runs that have them together: ckpt=[RUN,RUN,RUN]"
        )


def can_submit(space: LabelSpace) -> bool:
    """Return True if the space has the tasks of FACE with the same classes."""
    return all(task in space.tasks for task in FACE.tasks)


def vote_submissions(submissions: Sequence[Submission]) -> Submission:
    """Take the majority of several submissions over the 18 classes; photos in the order of the first.

    Raises:
        SubmissionError: the photos differ.
    """
    image_ids = submissions[0].image_ids
    codes = np.stack([each.in_order(image_ids).codes for each in submissions])
    return Submission(image_ids, majority_codes(codes, FACE.num_codes))


def majority_codes(codes: Codes, num_codes: int) -> Codes:
    """Find the most frequent code of each photo; after a tie, the lowest.

    Args:
        codes: (M, N), of M submissions.
        num_codes: number of combined classes.

    Returns:
        (N,).

    Example:
        >>> majority_codes(np.array([[3, 5], [3, 2], [1, 5]]), 18)
        array([3, 5])
    """
    counts = (codes[:, :, None] == np.arange(num_codes)).sum(axis=0)
    winners: Codes = counts.argmax(axis=1)  # argmax takes the first of equals
    return winners


def write_submission(path: Path, submission: Submission) -> None:
    """Write the CSV, atomically. Raises SubmissionError if there is something wrong with it."""
    with writing_submission(path) as write:
        write(submission)


@contextmanager
def writing_submission(path: Path) -> Iterator[Callable[[Submission], None]]:
    """Write the CSV part by part, for parts without common photos; it appears at the end of the block, atomically.

    Raises:
        SubmissionError: there is something wrong with a part.
    """
    with writing_atomically(path) as file:
        file.write((",".join(COLUMNS) + "\n").encode())

        def write(submission: Submission) -> None:
            rows = pd.DataFrame({"ImageID": submission.image_ids, "ans": [str(code) for code in submission.codes]})
            _raise_first(find_problems(rows), path)
            text = StringIO()
            csv.writer(text, lineterminator="\n").writerows(rows.itertuples(index=False))
            file.write(text.getvalue().encode())

        yield write


def read_answers(path: Path) -> Submission:
    """Read a submission.

    Args:
        path: CSV file, folder with submission.csv, or parquet file of predictions.

    Raises:
        SubmissionError: it is not a valid submission; names the first problem.
        PredictionsError: the parquet file cannot be read.
    """
    if path.suffix == ".parquet":
        return submission_of(read_predictions(path))
    path, rows = read_rows(path)
    _raise_first(find_problems(rows), path)
    return Submission(tuple(rows["ImageID"]), rows["ans"].to_numpy().astype(np.int64))


def read_rows(path: Path) -> tuple[Path, pd.DataFrame]:
    """Read the lines of a submission as text.

    Args:
        path: CSV file, or folder with submission.csv.

    Returns:
        Path of the CSV, and its lines.

    Raises:
        SubmissionError: there is no CSV.
    """
    path = path / FILE_NAME if path.is_dir() else path
    if not path.is_file():
        raise SubmissionError(f"expected a submission at {path}, found none; name its CSV or the folder that holds it")
    try:
        return path, read_csv(path, empty_only=True)
    except SampleTableError as error:
        raise SubmissionError(str(error)) from error


def find_problems(rows: pd.DataFrame, image_ids: Sequence[str] | None = None) -> list[str]:
    """Describe the problems of a submission.

    Args:
        rows: its lines, all values text.
        image_ids: the official names in order; None if they are not known.

    Returns:
        One text per problem; empty for a valid submission.
    """
    if list(rows.columns) != COLUMNS:
        return [f"expected the columns {','.join(COLUMNS)}, found {','.join(map(str, rows.columns))}"]
    names, answers = rows["ImageID"], rows["ans"]
    nameless = names.isna() | (names == "")
    valid = answers.isin([str(code) for code in range(FACE.num_codes)])
    found = {
        "lines have no ImageID": (nameless, rows.index + 2),
        "ImageIDs stand twice": (names.duplicated() & ~nameless, names),
        f"answers are not a class from 0 to {FACE.num_codes - 1}": (~valid, answers),
    }
    problems = [
        f"{int(wrong.sum())} {what} ({_examples(pd.Series(shown)[wrong.to_numpy()].tolist())})"
        for what, (wrong, shown) in found.items()
        if wrong.any()
    ]
    return problems + ([] if image_ids is None else _differences(names[~nameless].tolist(), image_ids))


def _differences(names: Sequence[str], image_ids: Sequence[str]) -> list[str]:
    problems = []
    there, official = set(names), set(image_ids)
    missing = [image_id for image_id in image_ids if image_id not in there]
    if missing:
        problems.append(f"{len(missing)} of {len(image_ids)} photos have no answer ({_examples(missing)})")
    others = [name for name in names if name not in official]
    if others:
        problems.append(f"{len(others)} answers are for photos that are not asked for ({_examples(others)})")
    if not problems and list(names) != list(image_ids):
        first = next((i for i, (a, b) in enumerate(zip(names, image_ids, strict=False)) if a != b), len(image_ids))
        problems.append(f"the order is not that of info.csv, from line {first + 2} on")
    return problems


def class_shares(codes: Codes) -> npt.NDArray[np.float64]:
    """Compute the share of each class of FACE (18,) among codes (N,)."""
    counts = np.bincount(codes, minlength=FACE.num_codes)
    shares: npt.NDArray[np.float64] = counts / max(len(codes), 1)
    return shares


def total_variation(shares: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> float:
    """Compute the total variation distance of two distributions: the share of photos to change to make them equal.

    Example:
        >>> total_variation(np.array([0.5, 0.5]), np.array([0.75, 0.25]))
        0.25
    """
    return float(np.abs(shares - others).sum() / 2)


def disagreement(codes: Codes, others: Codes) -> Mapping[str, npt.NDArray[np.bool_]]:
    """Compare two submissions (N,): task, and `joint` -> True where they differ (N,)."""
    ours, theirs = FACE.decode(codes), FACE.decode(others)
    return {JOINT: codes != others} | {task: ours[task] != theirs[task] for task in FACE.names}


def _raise_first(problems: Sequence[str], path: Path) -> None:
    if problems:
        raise SubmissionError(f"{path} is not a valid submission: {problems[0]}; correct it")


def _examples(values: Sequence[object]) -> str:
    return ", ".join(map(str, values[:MAX_EXAMPLES])) + (", ..." if len(values) > MAX_EXAMPLES else "")
