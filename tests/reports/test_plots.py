"""Figures of evaluation results."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from mask_lightning.ensemble.scoring import Agreement, CandidateScore
from mask_lightning.labels import AGE
from mask_lightning.metrics.bootstrap import Interval
from mask_lightning.metrics.calibration import Reliability, TaskCalibration
from mask_lightning.metrics.slices import Slice
from mask_lightning.reports.figures import BLUE, ORANGE, to_png
from mask_lightning.reports.plots import (
    plot_balance,
    plot_confusion,
    plot_numbers,
    plot_reliability,
    plot_slices,
)
from mask_lightning.reports.vote_report import plot_agreement, plot_candidates

NUMBERS = np.array([[0, 20, 30], [0, 25, 21], [1, 41, 40], [2, 75, 44]], np.float32)
WITH_INTERVAL, WITHOUT = Interval(0.5, 0.4, 0.6), Interval(0.7, None, None)
NAME = "$x^2$ 100$"


def counts(**photos: int) -> pd.DataFrame:
    return pd.DataFrame({"photos": photos, "people": {name: n // 2 for name, n in photos.items()}}, index=list(photos))


def candidate(name: str, task: str = "age", interval: Interval = WITH_INTERVAL) -> CandidateScore:
    return CandidateScore(task, name, "member", {"f1": interval, "accuracy": interval})


def calibration() -> TaskCalibration:
    half = np.array([0.25, 0.75])
    reliability = Reliability(np.array([0, 0.5, 1]), np.array([4, 6]), half, half, 0.0)
    return TaskCalibration(reliability, 1.5, given=False, after=reliability)


def test_bars_have_the_lengths_and_labels_of_the_counts() -> None:
    figure = plot_balance({"age": counts(young=90, old=8, none=0)}, counts(a=50, b=48), title="98 photos")
    age, codes = figure.axes
    assert [patch.get_width() for patch in age.patches] == [90, 8, 0]  # type: ignore[attr-defined]
    assert [text.get_text().strip() for text in age.texts] == [
        "90  (91.8%, 45 people)",
        "8  (8.2%, 4 people)",
        "none",
    ]
    assert [patch.get_width() for patch in codes.patches] == [50, 48]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("rare", "colour"), [(16, ORANGE), (17, BLUE)])
def test_less_than_a_third_of_an_equal_share_is_orange(rare: int, colour: str) -> None:
    figure = plot_balance({"age": counts(many=100 - rare, few=rare)}, counts(a=1), title="")
    assert figure.axes[0].patches[1].get_facecolor() == to_rgba(colour)


def test_no_photos_can_be_drawn() -> None:
    plot_balance({"age": counts(young=0, old=0)}, counts(a=0), title="nothing")


def test_the_worst_slice_has_its_own_colour() -> None:
    slices = [
        Slice("race", f"$x_{i}", 10, 70, Interval(score, score - 0.1, score + 0.1), 0.5, {})
        for i, score in enumerate((0.4, 0.6, 0.8))
    ]
    alone = Slice("city", "one", 1, 7, Interval(0.1, None, None), 0.1, {})
    figure = plot_slices([*slices, alone], Interval(0.6, 0.5, 0.7), slices[0])
    (axis,) = figure.axes
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert [float(np.asarray(line.get_xdata())[0]) for line in dots] == [0.4, 0.6, 0.8, 0.1]
    assert len({line.get_color() for line in dots}) == 2
    assert len(axis.collections) == 3  # no interval for a single person


def test_numbers_are_points_and_every_class_has_its_mean_and_bias() -> None:
    errors = {"bias/<30": 3.0, "bias/30-59": -1.0, "bias/>=60": -16.0}
    (axis,) = plot_numbers(NUMBERS, AGE.classes, top=60.0, errors=errors, title="ages").axes
    points = axis.collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 0], NUMBERS[:, 1], atol=0.5)
    np.testing.assert_array_equal(points[:, 1], NUMBERS[:, 2])
    assert [text.get_text() for text in axis.texts] == ["<30: +3.0", "30-59: -1.0", ">=60: -16.0"]
    assert [text.xy[1] for text in axis.texts] == [25.5, 40, 44]  # type: ignore[attr-defined]
    diagonal = axis.lines[0].get_xydata().tolist()
    assert diagonal == [[0, 0], [60, 60], [75, 60]], "60 is correct for everyone older"


def test_a_class_without_photos_has_no_mean() -> None:
    (axis,) = plot_numbers(NUMBERS[:2], AGE.classes, top=60.0, errors={"bias/<30": 3.0}, title="ages").axes
    assert len(axis.texts) == 1


@pytest.mark.parametrize("members", [2, 13])
def test_ensembles_of_any_size_can_be_drawn(members: int) -> None:
    rng = np.random.default_rng(0)
    shares = rng.uniform(0.5, 1, (members, members))
    np.fill_diagonal(shares, 1)
    names = tuple(f"age{i}" for i in range(members))
    agreement = plot_agreement({"age": Agreement(names, shares)})
    scores = [*map(candidate, names), candidate("hard vote", interval=WITHOUT), candidate("hard vote", "joint")]
    candidates = plot_candidates(scores)
    assert all(len(to_png(figure)) > 5000 for figure in (agreement, candidates))
    assert [text.get_text() for text in agreement.axes[0].get_xticklabels()] == list(names)
    assert bool(agreement.axes[0].texts) == (members == 2)
    assert [axis.get_title() for axis in candidates.axes] == ["age", "all tasks (joint)"]


@pytest.mark.parametrize(
    ("plot", "shown"),
    [
        (lambda: plot_confusion(np.eye(2, dtype=np.int64), [NAME, "b"], NAME), [NAME, f"{NAME} (1)"]),
        (
            lambda: plot_balance({NAME: counts(**{NAME: 3})}, counts(**{NAME: 3}), title=f"2 {NAME}"),
            [NAME, f"2 {NAME}"],
        ),
        (lambda: plot_reliability({NAME: calibration()}), [f"{NAME}: ECE 0.000 -> 0.000"]),
        (
            lambda: plot_slices([Slice(NAME, NAME, 1, 7, WITHOUT, 0.1, {})], WITHOUT, None),
            [f"{NAME} {NAME} (1 people)"],
        ),
        (
            lambda: plot_numbers(NUMBERS[:2], [NAME], top=60.0, errors={f"bias/{NAME}": 3.0}, title=NAME),
            [f"{NAME}: +3.0", NAME],
        ),
        (lambda: plot_agreement({NAME: Agreement(("a", f"{NAME} 1"), np.ones((2, 2)))}), [NAME, f"{NAME} 1"]),
        (lambda: plot_candidates([candidate(f"{NAME} 1", NAME)]), [NAME, f"{NAME} 1"]),
    ],
)
def test_names_are_shown_literally(draw_texts, plot: Callable[[], Figure], shown: list[str]) -> None:
    drawn = draw_texts(plot())
    assert set(shown) <= set(drawn.literal)
    assert drawn.math == ()
