"""How sure a score is: bootstrap over people, because the photos of one person are not independent.

Percentile intervals (Efron & Tibshirani 1993, "An Introduction to the Bootstrap"): as many people as there are, drawn
with replacement, with all their photos. A draw counts people, so every score of a draw is a weighted sum of what each
person contributes, and a thousand draws are one matrix product. A class of few people is missing in some draws and
counts 0 in their macro F1, so that its interval reaches further down than up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mask_lightning.errors import PredictionsError
from mask_lightning.inference.predictions import Predictions, in_order
from mask_lightning.metrics.scores import Answers, Ints, known_answers, people_of

Floats = npt.NDArray[np.float64]
Metric = Literal["f1", "accuracy"]

METRICS: tuple[Metric, ...] = ("f1", "accuracy")
DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A score and how far it would vary with other people of the same kind; None with a single person."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """How much better A is than B on the same photos.

    Attributes:
        value: score of A minus score of B.
        low, high: its interval; None with a single person.
        not_better: share of draws in which A is at most as good as B.
    """

    value: float
    low: float | None
    high: float | None
    not_better: float | None

    @property
    def is_real(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def intervals(
    predictions: Predictions, *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> dict[str, dict[Metric, Interval]]:
    """Task, and `joint` -> macro F1 and accuracy with their intervals."""
    people = people_of(predictions)
    return {
        name: answer_intervals(answers, people, draws=draws, level=level, seed=seed)
        for name, answers in known_answers(predictions).items()
    }


def answer_intervals(
    answers: Answers, people: npt.NDArray[np.str_], *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> dict[Metric, Interval]:
    """Macro F1 and accuracy of some answers; `people` of all photos of the predictions (N,)."""
    scores = score_draws(answers, people, draws=draws, seed=seed)
    return {metric: to_interval(scores[metric], level) for metric in METRICS}


def score_draws(
    answers: Answers, people: npt.NDArray[np.str_], *, draws: int = DRAWS, seed: int = 0
) -> Mapping[Metric, Floats]:
    """Metric -> score of everybody once, then of every draw (1 + draws,): one seed draws the same people every time."""
    _, person = np.unique(people[answers.rows], return_inverse=True)
    return _scores(_count(answers, person), _draws(person, draws, seed))


def compare(
    a: Predictions, b: Predictions, *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> dict[str, dict[Metric, Difference]]:
    """Paired bootstrap of A minus B: both are scored on the same draws of people.

    Returns:
        Task that both answer, and `joint` where both answer the same tasks -> metric -> difference.

    Raises:
        PredictionsError: the photos or their labels differ, or no task is common.
    """
    b, people = in_order(b, a), people_of(a)
    ours, theirs = known_answers(a), known_answers(b)
    common = [name for name in ours if name in theirs and ours[name].classes == theirs[name].classes]
    if not common:
        raise PredictionsError(
            f"expected two answers to the same task, found {', '.join(ours)} and {', '.join(theirs)}; "
            "compare runs that share a task"
        )
    return {
        name: _differences(ours[name], theirs[name], people, name=name, draws=draws, level=level, seed=seed)
        for name in common
    }


def draw_people(people: int, *, draws: int, seed: int) -> Ints:
    """How often each person is in each draw (draws, people); the rows sum to the number of people."""
    drawn = np.random.default_rng(seed).integers(people, size=(draws, people))
    flat = (drawn + people * np.arange(draws)[:, None]).ravel()
    return np.bincount(flat, minlength=draws * people).reshape(draws, people).astype(np.int64)


def _differences(
    ours: Answers, theirs: Answers, people: npt.NDArray[np.str_], *, name: str, draws: int, level: float, seed: int
) -> dict[Metric, Difference]:
    if not (np.array_equal(ours.rows, theirs.rows) and np.array_equal(ours.truth, theirs.truth)):
        raise PredictionsError(f"expected the same labels of {name} for both, found others; predict both anew")
    _, person = np.unique(people[ours.rows], return_inverse=True)
    weights = _draws(person, draws, seed)
    first, second = (_scores(_count(answers, person), weights) for answers in (ours, theirs))
    return {metric: to_difference(first[metric] - second[metric], level) for metric in METRICS}


def _draws(person: npt.NDArray[np.intp], draws: int, seed: int) -> Ints:
    """As `draw_people`; no draw of a single person, which would say that its score is certain."""
    people = int(person.max()) + 1
    return draw_people(people, draws=draws if people > 1 else 0, seed=seed)


def _count(answers: Answers, person: npt.NDArray[np.intp]) -> Ints:
    """Per person and class: hits, photos that are of it, photos said to be of it (3, people, C)."""
    shape = (int(person.max()) + 1, len(answers.classes))
    counts = np.zeros((3, *shape), np.int64)
    hit = answers.truth == answers.said
    np.add.at(counts[0], (person[hit], answers.truth[hit]), 1)
    np.add.at(counts[1], (person, answers.truth), 1)
    np.add.at(counts[2], (person, answers.said), 1)
    return counts


def _scores(counts: Ints, weights: Ints) -> Mapping[Metric, Floats]:
    """Metric -> score of everybody once, then of every draw (1 + draws,)."""
    everybody = np.ones((1, weights.shape[1]), np.int64)
    hits, true, said = np.concatenate([everybody, weights]).astype(np.float64) @ counts.astype(np.float64)
    return {
        "f1": (2 * hits / np.maximum(true + said, 1)).mean(axis=1),
        "accuracy": hits.sum(axis=1) / true.sum(axis=1),
    }


def to_interval(scores: Floats, level: float = LEVEL) -> Interval:
    """From `score_draws`."""
    return Interval(float(scores[0]), *_percentiles(scores[1:], level))


def to_difference(scores: Floats, level: float = LEVEL) -> Difference:
    """From `score_draws` of A minus those of B."""
    low, high = _percentiles(scores[1:], level)
    return Difference(float(scores[0]), low, high, None if low is None else float((scores[1:] <= 0).mean()))


def _percentiles(draws: Floats, level: float) -> tuple[float | None, float | None]:
    if not len(draws):
        return None, None
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
