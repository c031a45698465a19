"""What holds of every vote and every submission, whatever was said."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mask_lightning.ensemble.voting import agreement, hard_vote, soft_vote
from mask_lightning.inference.submission import Submission, find_problems, read_answers, read_rows, write_submission
from mask_lightning.labels import FACE

Floats = npt.NDArray[np.float64]

shapes = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(2, 4))
scores = shapes.flatmap(lambda shape: arrays.arrays(np.float64, shape, elements=st.integers(1, 9).map(float)))
probs = scores.map(lambda values: values / values.sum(axis=2, keepdims=True))
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(probs, st.randoms(use_true_random=False))
def test_no_member_is_more_than_another(said: Floats, rng) -> None:
    order = rng.sample(range(len(said)), len(said))
    for vote in (hard_vote, soft_vote):
        one, other = vote(said), vote(said[order])
        decided = _gap(one.probs) > 1e-9
        np.testing.assert_array_equal(one.preds[decided], other.preds[decided])
        np.testing.assert_allclose(one.probs, other.probs)
    np.testing.assert_allclose(agreement(said)[np.ix_(order, order)], agreement(said[order]))


@quick
@given(probs)
def test_the_winner_of_a_hard_vote_has_most_ballots(said: Floats) -> None:
    vote = hard_vote(said)
    for photo, winner in enumerate(vote.preds):
        ballots = np.bincount(said[:, photo].argmax(axis=1), minlength=said.shape[2])
        assert ballots[winner] == ballots.max()
        np.testing.assert_allclose(vote.probs[photo], ballots / len(said))


@quick
@given(probs)
def test_a_photo_does_not_hang_on_others(said: Floats) -> None:
    for vote in (hard_vote, soft_vote):
        alone = [vote(said[:, [photo]]).preds[0] for photo in range(said.shape[1])]
        np.testing.assert_array_equal(vote(said).preds, alone)


@quick
@given(probs, st.integers(2, 4))
def test_members_that_come_several_times_weigh_as_much(said: Floats, times: int) -> None:
    weights = [times, *[1] * (len(said) - 1)]
    repeated = np.concatenate([said[:1]] * (times - 1) + [said])
    for vote in (hard_vote, soft_vote):
        np.testing.assert_allclose(vote(said, weights).probs, vote(repeated).probs)


def _gap(shares: Floats) -> Floats:
    """How far the first class is before the second."""
    ordered = np.sort(shares, axis=1)
    return ordered[:, -1] - ordered[:, -2]


# What a file may be called, and a CSV in UTF-8 can hold; pandas reads a carriage return within quotes as another line.
names = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=12)
answers = st.lists(names, min_size=1, max_size=8, unique=True).flatmap(
    lambda ids: st.tuples(
        st.just(tuple(ids)), st.lists(st.integers(0, FACE.num_codes - 1), min_size=len(ids), max_size=len(ids))
    )
)


@quick
@given(answers)
def test_a_submission_is_read_as_it_was_written(tmp_path, said: tuple[tuple[str, ...], list[int]]) -> None:
    ids, codes = said
    path = tmp_path / "submission.csv"
    write_submission(path, Submission(ids, np.array(codes, np.int64)))
    assert find_problems(read_rows(path)[1], ids) == []
    back = read_answers(path)
    assert (back.image_ids, back.codes.tolist()) == (ids, codes)


@quick
@given(answers, st.randoms(use_true_random=False))
def test_every_order_is_found_again(said: tuple[tuple[str, ...], list[int]], rng) -> None:
    ids, codes = said
    mixed = rng.sample(ids, len(ids))
    whole = Submission(ids, np.array(codes, np.int64))
    turned = whole.in_order(mixed)
    assert dict(zip(turned.image_ids, turned.codes.tolist(), strict=True)) == dict(zip(ids, codes, strict=True))
    assert turned.in_order(ids).codes.tolist() == codes
    with pytest.raises(Exception, match="expected answers for the same"):
        whole.in_order([*mixed, "\0"])
