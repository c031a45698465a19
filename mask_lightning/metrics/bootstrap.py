"""Confidence intervals by bootstrap over people, because photos of one person are not independent.

Percentile intervals (Efron & Tibshirani 1993, "An Introduction to the Bootstrap"). Each draw takes as many people as
there are, with replacement, with all their photos. The confusion matrix of a draw is a weighted sum of the matrices of
the people, so that a thousand draws are one matrix product. A class with few people is missing from some draws and
counts 0 in their macro F1: its interval extends further down than up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from mask_lightning.errors import PredictionsError
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.metrics.scores import (
    MEAN,
    METRICS,
    LabelledPreds,
    Metric,
    headline,
    labelled_preds,
    people_of,
)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Texts = npt.NDArray[np.str_]

DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """Score with its bootstrap interval.

    Attributes:
        value: score of all photos.
        low, high: percentiles over the draws; None with a single person, and for metrics without interval.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """Score of A minus score of B on the same photos.

    Attributes:
        value: the difference.
        low, high: its bootstrap interval, None with a single person.
        not_better: share of draws in which A is not better than B.
    """

    value: float
    low: float | None
    high: float | None
    not_better: float | None

    @property
    def is_real(self) -> bool:
        """True if the interval excludes 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def intervals(
    predictions: Predictions, *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> dict[str, dict[str, Interval]]:
    """Compute every metric with its interval.

    Args:
        predictions: with targets.
        draws: number of bootstrap draws.
        level: share of the draws inside the interval.
        seed: of the draws.

    Returns:
        Task -> metric -> interval; with several tasks also `joint`, or MEAN if the combined class is not scored.
    """
    people, labelled = people_of(predictions), labelled_preds(predictions)
    found = {
        name: metric_intervals(each, people, draws=draws, level=level, seed=seed) for name, each in labelled.items()
    }
    if headline(labelled) == MEAN:
        found[MEAN] = mean_intervals(labelled.values(), people, draws=draws, level=level, seed=seed)
    return found


def metric_intervals(
    labelled: LabelledPreds, people: Texts, *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> dict[str, Interval]:
    """Compute every metric of one task; `people` (N,) are those of all photos of the predictions."""
    scores = score_draws(labelled, people, draws=draws, seed=seed)
    return {name: to_interval(scores[name], METRICS[name], level) for name in METRICS}


def mean_intervals(
    tasks: Iterable[LabelledPreds],
    people: Texts,
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Interval]:
    """Compute every metric's mean over several tasks, which may have labels for different photos."""
    scores = mean_score_draws(tasks, people, draws=draws, seed=seed)
    return {name: to_interval(scores[name], METRICS[name], level) for name in METRICS}


def score_draws(labelled: LabelledPreds, people: Texts, *, draws: int = DRAWS, seed: int = 0) -> dict[str, Floats]:
    """Score all photos, then each draw. The same seed draws the same people every time.

    Returns:
        Metric -> scores (1 + draws,), that of all photos first.
    """
    _, person = np.unique(people[labelled.rows], return_inverse=True)
    return _score(labelled, person, _draw_weights(person, draws, seed))


def mean_score_draws(
    tasks: Iterable[LabelledPreds], people: Texts, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Floats]:
    """Score all photos, then each draw of the people of any task, by the mean over the tasks; as `score_draws`."""
    tasks = list(tasks)
    names, person = np.unique(people[np.concatenate([each.rows for each in tasks])], return_inverse=True)
    weights = _draw_weights(person, draws, seed)
    scores = [_score(each, np.searchsorted(names, people[each.rows]), weights) for each in tasks]
    return {name: np.mean([each[name] for each in scores], axis=0) for name in METRICS}


def compare(
    a: Predictions, b: Predictions, *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> dict[str, dict[str, Difference]]:
    """Compute the paired bootstrap of A minus B: both are scored on the same draws of people.

    Returns:
        Task that both predict -> metric -> difference; if both predict the same tasks also `joint`, or MEAN.

    Raises:
        PredictionsError: the photos or their labels differ, or no task is common.
    """
    b, people = b.in_order_of(a), people_of(a)
    first, second = labelled_preds(a), labelled_preds(b)
    common = [name for name in first if name in second and first[name].classes == second[name].classes]
    if not common:
        raise PredictionsError(
            f"expected predictions of the same task, found {', '.join(first)} and {', '.join(second)}; "
            "compare runs that share a task"
        )
    found = {}
    for name in common:
        ours, theirs = first[name], second[name]
        if not (np.array_equal(ours.rows, theirs.rows) and np.array_equal(ours.targets, theirs.targets)):
            raise PredictionsError(
                f"expected the same labels of {name} for both, found different ones; predict both again"
            )
        scores, others = (score_draws(each, people, draws=draws, seed=seed) for each in (ours, theirs))
        found[name] = _differences(scores, others, level)
    if set(first) == set(second) == set(found) and headline(found) == MEAN:
        scores, others = (mean_score_draws(each.values(), people, draws=draws, seed=seed) for each in (first, second))
        found[MEAN] = _differences(scores, others, level)
    return found


def mean_difference(
    pairs: Sequence[tuple[Predictions, Predictions]],
    *,
    metric: str,
    task: str | None = None,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> Difference:
    """Compute the paired bootstrap of the mean of A minus B over several pairs, such as runs of several seeds.

    A person who is part of several pairs is drawn equally often in all of them, so the interval tells how much the mean
    depends on the people, not on the seeds.

    Args:
        pairs: A and B, for the same photos.
        metric: name in METRICS.
        task: name of the task; None for the combined class, the mean of the tasks, or the only task, see `headline`.
        draws: number of bootstrap draws.
        level: share of the draws inside the interval.
        seed: of the draws.

    Raises:
        PredictionsError: the photos differ, or a pair has no labels of the task.
    """
    aligned = [(a, b.in_order_of(a)) for a, b in pairs]
    names, person = np.unique(np.concatenate([people_of(a) for a, _ in aligned]), return_inverse=True)
    weights = _draw_weights(person, draws, seed)
    differences = []
    for a, b in aligned:
        people = np.searchsorted(names, people_of(a))
        ours, theirs = (_score_headline(each, task, metric, people, weights) for each in (a, b))
        differences.append(ours - theirs)
    return to_difference(np.mean(differences, axis=0), METRICS[metric], level)


def _score_headline(
    predictions: Predictions, task: str | None, metric: str, people: npt.NDArray[np.intp], weights: Ints
) -> Floats:
    """Score the task, or what `headline` chooses (1 + draws,)."""
    labelled = labelled_preds(predictions)
    chosen = headline(labelled) if task is None else task
    if chosen != MEAN and chosen not in labelled:
        raise PredictionsError(f"expected labels of {chosen} in {predictions.name}, found none; set metric")
    parts = labelled.values() if chosen == MEAN else [labelled[chosen]]
    scores: Floats = np.mean([_score(each, people[each.rows], weights)[metric] for each in parts], axis=0)
    return scores


def _differences(scores: Mapping[str, Floats], others: Mapping[str, Floats], level: float) -> dict[str, Difference]:
    return {metric: to_difference(scores[metric] - others[metric], METRICS[metric], level) for metric in METRICS}


def draw_people(people: int, *, draws: int, seed: int) -> Ints:
    """Draw people with replacement.

    Returns:
        How often each person is in each draw (draws, people); rows sum to `people`.
    """
    drawn = np.random.default_rng(seed).integers(people, size=(draws, people))
    flat = (drawn + people * np.arange(draws)[:, None]).ravel()
    return np.bincount(flat, minlength=draws * people).reshape(draws, people).astype(np.int64)


def to_interval(scores: Floats, metric: Metric, level: float = LEVEL) -> Interval:
    """Reduce the scores (1 + draws,) of `score_draws` to an interval."""
    low, high = _percentiles(scores[1:], level) if metric.interval else (None, None)
    return Interval(float(scores[0]), low, high)


def to_difference(scores: Floats, metric: Metric, level: float = LEVEL) -> Difference:
    """Reduce differences (1 + draws,) between two results of `score_draws` to a difference with interval."""
    low, high = _percentiles(scores[1:], level) if metric.interval else (None, None)
    gains = scores[1:] if metric.higher_is_better else -scores[1:]
    return Difference(float(scores[0]), low, high, None if low is None else float((gains <= 0).mean()))


def _draw_weights(person: npt.NDArray[np.intp], draws: int, seed: int) -> Ints:
    """Draw as `draw_people`; no draws of a single person, since they would claim that its score is certain."""
    people = int(person.max()) + 1
    return draw_people(people, draws=draws if people > 1 else 0, seed=seed)


def _score(labelled: LabelledPreds, person: npt.NDArray[np.intp], weights: Ints) -> dict[str, Floats]:
    """Score everybody once, then each draw, from weights (draws, people)."""
    classes, people = len(labelled.classes), weights.shape[1]
    cells = labelled.targets * classes + labelled.preds
    counts = csr_array((np.ones(len(cells), np.int64), (cells, person)), shape=(classes**2, people))
    everybody = np.ones((1, people), np.int64)
    confusion = (counts @ np.concatenate([everybody, weights]).T).T.reshape(-1, classes, classes)
    return {name: np.asarray(metric.compute(confusion), np.float64) for name, metric in METRICS.items()}


def _percentiles(draws: Floats, level: float) -> tuple[float | None, float | None]:
    if not len(draws):
        return None, None
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
