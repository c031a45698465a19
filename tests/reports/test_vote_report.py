"""What a vote shows: numbers and names as they are, and figures of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mask_lightning.ensemble.scoring import Agreement, Gain, Standing, Trial, Verdict
from mask_lightning.ensemble.voting import Ballot
from mask_lightning.metrics.bootstrap import Difference, Interval
from mask_lightning.reports import vote_report
from mask_lightning.reports.figures import save_figure
from mask_lightning.reports.votes import plot_agreement, plot_standings

SURE, UNSURE = Interval(0.5, 0.4, 0.6), Interval(0.7, None, None)


def trial() -> Trial:
    gains = [
        Gain("age", "hard vote", "age[1]", Difference(0.021, -0.004, 0.046, 0.1), Difference(0.1, 0.05, 0.2, 0.0)),
        Gain("age", "hard vote", "mean member", Difference(0.05, 0.01, 0.09, 0.0), Difference(0.1, 0.05, 0.2, 0.0)),
    ]
    standings = [
        Standing("age", "age[1]", "member", SURE, UNSURE),
        Standing("age", "hard vote", "vote", UNSURE, SURE),
        Standing("joint", "hard vote", "vote", SURE, SURE),
    ]
    agreement = Agreement(("age[1]", "age2"), np.array([[1, 0.75], [0.75, 1]]))
    ballots = {"hard": Ballot(None, {"age": 3})}  # type: ignore[arg-type]
    return Trial(12, 84, ballots, Verdict(standings, gains), {"age": agreement}, {"soup_age_greedy": ("age[1]",)})


def test_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    vote_report.print_jury(["age[1]", "age2"], 27.3, ["age4 (failed: no [photos])"], ["age4"])
    vote_report.print_trial(trial(), kind="hard")
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
    assert shown.out.count("*") == 2  # the gain that is shown to be real, and what the sign means


@pytest.mark.parametrize("members", [2, 13])
def test_figures(tmp_path: Path, members: int) -> None:
    rng = np.random.default_rng(0)
    shares = rng.uniform(0.5, 1, (members, members))
    np.fill_diagonal(shares, 1)
    names = tuple(f"age{i}" for i in range(members))
    figures = (
        plot_agreement({"age": Agreement(names, shares)}),
        plot_standings([Standing("age", name, "member", SURE, SURE) for name in names] + trial().verdict.standings),
    )
    for figure in figures:
        save_figure(figure, tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 5000
    assert [text.get_text() for text in figures[0].axes[0].get_xticklabels()] == list(names)
    assert bool(figures[0].axes[0].texts) == (members == 2)
    assert [axis.get_title() for axis in figures[1].axes] == ["age", "all tasks (joint)"]
