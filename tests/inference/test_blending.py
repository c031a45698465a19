"""Votes against a count by hand."""

from collections import Counter

import numpy as np
import pytest

from mask_lightning.errors import SubmissionError
from mask_lightning.inference.blending import majority, vote
from mask_lightning.inference.submission import Submission


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        ([3], 3),
        ([3, 3, 1], 3),
        ([17, 0, 17], 17),
        ([5, 2], 2),  # of equals the lowest
        ([9, 4, 9, 4, 12], 4),
        ([7, 6, 5], 5),
    ],
)
def test_majority(votes: list[int], winner: int) -> None:
    assert majority(np.array(votes)[:, None], 18).tolist() == [winner]


def test_majority_of_many() -> None:
    votes = np.random.default_rng(0).integers(0, 18, (9, 200))
    counts = [Counter(column.tolist()) for column in votes.T]
    expected = [min(count, key=lambda code: (-count[code], code)) for count in counts]
    np.testing.assert_array_equal(majority(votes, 18), expected)


def test_ballots_are_matched_by_name() -> None:
    first = Submission(("a", "b"), np.array([1, 2]))
    others = [Submission(("b", "a"), np.array([5, 4]))] * 2
    assert vote([first, *others]).image_ids == ("a", "b")
    assert vote([first, *others]).codes.tolist() == [4, 5]
    with pytest.raises(SubmissionError, match="expected answers for the same 2 photos, found 1"):
        vote([first, Submission(("a",), np.array([1]))])
