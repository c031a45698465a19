"""One submission from several, by vote; the mean of probabilities is `predictions.average`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mask_lightning.inference.submission import Submission
from mask_lightning.labels import FACE

Codes = npt.NDArray[np.int64]


def majority(codes: Codes, num_codes: int) -> Codes:
    """Votes (M, N) -> the class with most votes (N,); of classes with equally many, the one of the lowest number."""
    counts = (codes[:, :, None] == np.arange(num_codes)).sum(axis=0)
    winners: Codes = counts.argmax(axis=1)  # the first of several equals
    return winners


def vote(ballots: Sequence[Submission]) -> Submission:
    """Each submission has one vote per photo over the 18 classes; photos in the order of the first.

    Raises:
        SubmissionError: they answer different photos.
    """
    image_ids = ballots[0].image_ids
    codes = np.stack([ballot.in_order(image_ids).codes for ballot in ballots])
    return Submission(image_ids, majority(codes, FACE.num_codes))
