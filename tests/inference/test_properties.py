"""Properties of every vote and every submission (hypothesis)."""

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
def test_the_order_of_the_members_does_not_matter(member_probs: Floats, rng) -> None:
    order = rng.sample(range(len(member_probs)), len(member_probs))
    for vote in (hard_vote, soft_vote):
        one, other = vote(member_probs), vote(member_probs[order])
        decided = _gap(one.probs) > 1e-9
        np.testing.assert_array_equal(one.preds[decided], other.preds[decided])
        np.testing.assert_allclose(one.probs, other.probs)
    np.testing.assert_allclose(agreement(member_probs)[np.ix_(order, order)], agreement(member_probs[order]))


@quick
@given(probs)
def test_the_winner_of_a_hard_vote_has_most_votes(member_probs: Floats) -> None:
    vote = hard_vote(member_probs)
    for photo, winner in enumerate(vote.preds):
        counts = np.bincount(member_probs[:, photo].argmax(axis=1), minlength=member_probs.shape[2])
        assert counts[winner] == counts.max()
        np.testing.assert_allclose(vote.probs[photo], counts / len(member_probs))


@quick
@given(probs)
def test_photos_are_independent(member_probs: Floats) -> None:
    for vote in (hard_vote, soft_vote):
        alone = [vote(member_probs[:, [photo]]).preds[0] for photo in range(member_probs.shape[1])]
        np.testing.assert_array_equal(vote(member_probs).preds, alone)


@quick
@given(probs, st.integers(2, 4))
def test_a_repeated_member_equals_a_weight(member_probs: Floats, times: int) -> None:
    weights = [times, *[1] * (len(member_probs) - 1)]
    repeated = np.concatenate([member_probs[:1]] * (times - 1) + [member_probs])
    for vote in (hard_vote, soft_vote):
        np.testing.assert_allclose(vote(member_probs, weights).probs, vote(repeated).probs)


def _gap(shares: Floats) -> Floats:
    """Difference between the largest and the second largest share."""
    ordered = np.sort(shares, axis=1)
    return ordered[:, -1] - ordered[:, -2]


# File names that a CSV in UTF-8 can hold; pandas reads a carriage return within quotes as another line.
names = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=12)
answers = st.lists(names, min_size=1, max_size=8, unique=True).flatmap(
    lambda ids: st.tuples(
        st.just(tuple(ids)), st.lists(st.integers(0, FACE.num_codes - 1), min_size=len(ids), max_size=len(ids))
    )
)


@quick
@given(answers)
def test_a_submission_is_read_as_written(tmp_path, answer: tuple[tuple[str, ...], list[int]]) -> None:
    ids, codes = answer
    path = tmp_path / "submission.csv"
    write_submission(path, Submission(ids, np.array(codes, np.int64)))
    assert find_problems(read_rows(path)[1], ids) == []
    back = read_answers(path)
    assert (back.image_ids, back.codes.tolist()) == (ids, codes)


@quick
@given(answers, st.randoms(use_true_random=False))
def test_any_order_can_be_restored(answer: tuple[tuple[str, ...], list[int]], rng) -> None:
    ids, codes = answer
    mixed = rng.sample(ids, len(ids))
    whole = Submission(ids, np.array(codes, np.int64))
    turned = whole.in_order(mixed)
    assert dict(zip(turned.image_ids, turned.codes.tolist(), strict=True)) == dict(zip(ids, codes, strict=True))
    assert turned.in_order(ids).codes.tolist() == codes
    with pytest.raises(Exception, match="expected answers for the same"):
        whole.in_order([*mixed, "\0"])
