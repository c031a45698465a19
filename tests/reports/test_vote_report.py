"""Terminal report of a vote."""

from __future__ import annotations

import numpy as np
import pytest

from mask_lightning.ensemble.scoring import Agreement, CandidateScore, Comparison, EnsembleScores, Gain
from mask_lightning.ensemble.voting import Vote
from mask_lightning.metrics.bootstrap import Difference, Interval
from mask_lightning.reports import vote_report

WITH_INTERVAL, WITHOUT = Interval(0.5, 0.4, 0.6), Interval(0.7, None, None)
ACCURACY = Difference(0.1, 0.05, 0.2, 0.0)


def gain(over: str, f1: Difference) -> Gain:
    return Gain("age", "hard vote", over, {"f1": f1, "accuracy": ACCURACY})


@pytest.fixture
def scores() -> EnsembleScores:
    gains = [
        gain("age[1]", Difference(0.021, -0.004, 0.046, 0.1)),
        gain("mean member", Difference(0.05, 0.01, 0.09, 0.0)),
    ]
    rows = [
        CandidateScore("age", "age[1]", "member", {"f1": WITH_INTERVAL, "accuracy": WITHOUT}),
        CandidateScore("age", "hard vote", "vote", {"f1": WITHOUT, "accuracy": WITH_INTERVAL}),
        CandidateScore("joint", "hard vote", "vote", {"f1": WITH_INTERVAL, "accuracy": WITH_INTERVAL}),
    ]
    agreement = Agreement(("age[1]", "age2"), np.array([[1, 0.75], [0.75, 1]]))
    votes = {"hard": Vote(None, {"age": 3})}  # type: ignore[arg-type]
    soups = {"soup_age_greedy": ("age[1]",)}
    return EnsembleScores(12, 84, votes, Comparison(rows, gains), {"age": agreement}, soups)


def test_members_scores_gains_and_agreement_are_printed(
    scores: EnsembleScores, capsys: pytest.CaptureFixture[str]
) -> None:
    vote_report.print_members(["age[1]", "age2"], 27.3, ["age4 (failed: no [photos])"], ["age4"])
    vote_report.print_scores(scores, kind="hard")
    shown = capsys.readouterr()
    assert "left out: age4 (failed: no [photos])\nmissing: age4;" in shown.err
    assert "2 members, 27 MB of weights: age[1], age2" in shown.err
    for text in (
        "age: 12 held-out people, 84 photos",
        "over age[1], the best",
        "+0.021 [-0.004, +0.046] ",
        "+0.050 [+0.010, +0.090] *",
        "all tasks combined",
        "soup_age_greedy.ckpt: age[1]",
        "two members agree on 75.0% of the photos; 3 of 84 votes were ties",
    ):
        assert text in shown.out
    assert shown.out.count("*") == 2  # the significant gain, and the explanation of the sign
