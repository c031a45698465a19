"""Scores of an ensemble on held-out people: members, votes and soups side by side, and what votes and soups gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from mask_lightning.ensemble.cross_fit import cross_fitted_decision, cross_fitted_vote, person_folds
from mask_lightning.ensemble.members import LoadedMembers
from mask_lightning.ensemble.voting import Vote, Weights, agreement, stack_probs, vote_predictions
from mask_lightning.metrics.bootstrap import (
    Difference,
    Floats,
    Interval,
    Texts,
    mean_score_draws,
    score_draws,
    to_difference,
    to_interval,
)
from mask_lightning.metrics.evaluation import to_plain
from mask_lightning.metrics.predictions import Predictions, combine, join_spaces
from mask_lightning.metrics.scores import (
    JOINT,
    MAIN_METRIC,
    MEAN,
    METRICS,
    LabelledPreds,
    has_labels,
    headline,
    labelled_preds,
    people_of,
    score,
)

Group = Literal["member", "reference", "vote", "soup"]
Scores = Mapping[str, Floats]  # metric -> score of all photos, then of every bootstrap draw

MEAN_MEMBER = "mean member"
EACH_BEST = "best member of each task"
VOTE_LABELS = {"macro_f1": "soft vote, macro_f1"}
SOUP_LABELS = {"renewed": "best member, renewed", "uniform": "uniform soup", "greedy": "greedy soup"}


@dataclass(frozen=True)
class Candidate:
    """One member, vote or soup with its predictions for the held-out photos, in the same order for all candidates."""

    name: str
    group: Group
    predictions: Predictions


@dataclass(frozen=True)
class CandidateScore:
    """Score of a candidate in one task.

    Attributes:
        task: name of the task; `joint` is the combined class of all tasks, `mean of the tasks` replaces it.
        name, group: of the candidate.
        intervals: metric -> score with its interval.
    """

    task: str
    name: str
    group: Group
    intervals: Mapping[str, Interval]

    def to_plain(self) -> dict[str, Any]:
        """Convert to plain values, the metrics beside the other fields."""
        return {"task": self.task, "name": self.name, "group": self.group, **to_plain(self.intervals)}


@dataclass(frozen=True)
class Gain:
    """Score of a vote or soup minus the score of `over`: the best member of the task, or the mean member.

    Attributes:
        task: name of the task; `joint` is the combined class of all tasks, `mean of the tasks` replaces it.
        name, over: of the two candidates.
        differences: metric -> difference with its interval.
    """

    task: str
    name: str
    over: str
    differences: Mapping[str, Difference]

    def to_plain(self) -> dict[str, Any]:
        """Convert to plain values, the metrics beside the other fields."""
        return {"task": self.task, "name": self.name, "over": self.over, **to_plain(self.differences)}


@dataclass(frozen=True)
class Comparison:
    """Scores of all candidates, and gains of the votes and soups, task by task."""

    scores: list[CandidateScore]
    gains: list[Gain]


@dataclass(frozen=True)
class Agreement:
    """Names of the M members of one task, and the share of photos on which each pair has the same pred (M, M)."""

    names: tuple[str, ...]
    shares: Floats


@dataclass(frozen=True)
class SoupPredictions:
    """Names of the members in a soup, and its predictions for the held-out photos."""

    members: tuple[str, ...]
    predictions: Predictions


@dataclass(frozen=True)
class EnsembleScores:
    """Result of `score_ensemble`.

    Attributes:
        people, photos: how many were held out.
        votes: `hard`, `soft` and, with weights, `weighted` -> vote; `macro_f1` is the soft vote with that decision.
        comparison: scores and gains of members, votes and soups.
        agreements: task -> agreement of its members.
        soups: name -> names of the members in the soup.
    """

    people: int
    photos: int
    votes: dict[str, Vote]
    comparison: Comparison
    agreements: dict[str, Agreement]
    soups: dict[str, tuple[str, ...]]


def score_ensemble(
    loaded: LoadedMembers,
    parts: Sequence[Predictions],
    *,
    weights: Weights | None,
    by_score: bool = False,
    decided: bool = False,
    soups: Mapping[str, SoupPredictions],
) -> EnsembleScores:
    """Compare members, votes and soups on the same held-out photos.

    Args:
        loaded: the members.
        parts: predictions of each member.
        weights: for the weighted vote; None leaves it out.
        by_score: True if the weights are scores on these photos: each fold of the people is then weighted by the scores
            on the other folds, see `ensemble.cross_fit`.
        decided: also score the soft vote with decision=macro_f1, cross-fitted over the people, as vote `macro_f1`.
        soups: by names that end in a key of SOUP_LABELS.
    """
    photos = parts[0].photos
    members = [Candidate(member.name, "member", part) for member, part in zip(loaded.members, parts, strict=True)]
    votes = {"hard": vote_predictions(parts, kind="hard"), "soft": vote_predictions(parts, kind="soft")}
    if weights is not None:
        fold = person_folds(parts[0]) if by_score else None
        votes["weighted"] = (
            vote_predictions(parts, kind="hard", weights=weights) if fold is None else cross_fitted_vote(parts, fold)
        )
    if decided and (fold := person_folds(parts[0])) is not None:
        votes["macro_f1"] = replace(votes["soft"], predictions=cross_fitted_decision(votes["soft"].predictions, fold))
    best = best_of_each(members)
    candidates = [
        *members,
        *([best] if best else []),
        *(Candidate(VOTE_LABELS.get(kind, f"{kind} vote"), "vote", each.predictions) for kind, each in votes.items()),
        *_soup_candidates(soups),
    ]
    return EnsembleScores(
        people=int(photos["person_id"].nunique()),
        photos=len(photos),
        votes=votes,
        comparison=compare_candidates(candidates),
        agreements={task: _agreement(loaded, parts, task) for task in loaded.space.names},
        soups={name: soup.members for name, soup in soups.items()},
    )


def compare_candidates(candidates: Sequence[Candidate]) -> Comparison:
    """Score every candidate in each task that it predicts, and in all tasks together if it predicts all.

    All tasks together are the combined class, or the mean of the tasks if that is not scored.

    All candidates are scored on the same bootstrap draws of people.

    Raises:
        PredictionsError: no photo has a label.
    """
    tasks = join_spaces([each.predictions.space for each in candidates]).names
    labelled = {each.name: labelled_preds(each.predictions) for each in candidates}
    people = people_of(candidates[0].predictions)
    comparison = Comparison([], [])
    for task in [*tasks, JOINT, MEAN]:
        scored = {
            (each.name, each.group): scores
            for each in candidates
            if _is_scored(each, task, tasks) and (scores := _draws(labelled[each.name], task, people)) is not None
        }
        draws = _with_mean(scored)
        for (name, group), scores in draws.items():
            intervals = {metric: to_interval(scores[metric], METRICS[metric]) for metric in METRICS}
            comparison.scores.append(CandidateScore(task, name, group, intervals))
        comparison.gains.extend(_gains(task, draws))
    return comparison


def mean_score(predictions: Predictions) -> float:
    """Average the main metric (macro F1) over the tasks with labels; 0 without any label."""
    if not has_labels(predictions):
        return 0.0
    scores = score(predictions)
    return float(np.mean([scores[task].values[MAIN_METRIC] for task in predictions.space.names if task in scores]))


def best_of_each(members: Sequence[Candidate]) -> Candidate | None:
    """Combine the best member of each task; None with one task, or if a member predicts several tasks."""
    by_task: dict[str, list[Predictions]] = {}
    for member in members:
        first, *more = member.predictions.space.names
        if more:
            return None
        by_task.setdefault(first, []).append(member.predictions)
    if len(by_task) < 2:
        return None
    return Candidate(EACH_BEST, "reference", combine([max(parts, key=mean_score) for parts in by_task.values()]))


def _is_scored(candidate: Candidate, task: str, tasks: Sequence[str]) -> bool:
    """Return False for all tasks together unless the candidate has them all; EACH_BEST is scored in nothing else."""
    if task in (JOINT, MEAN):
        return set(candidate.predictions.space.names) == set(tasks)
    return candidate.name != EACH_BEST


def _draws(labelled: Mapping[str, LabelledPreds], task: str, people: Texts) -> Scores | None:
    """Score the bootstrap draws of a task, or of all tasks together; None if the labels do not allow it."""
    if task == MEAN:
        return mean_score_draws(labelled.values(), people) if headline(labelled) == MEAN else None
    return score_draws(labelled[task], people) if task in labelled else None


def _with_mean(draws: Mapping[tuple[str, Group], Scores]) -> dict[tuple[str, Group], Scores]:
    """Insert the mean of the members after them, if there are several."""
    members = {key: scores for key, scores in draws.items() if key[1] == "member"}
    others = {key: scores for key, scores in draws.items() if key[1] != "member"}
    if len(members) < 2:
        return {**members, **others}
    mean = {metric: np.mean([scores[metric] for scores in members.values()], axis=0) for metric in METRICS}
    return {**members, (MEAN_MEMBER, "reference"): mean, **others}


def _gains(task: str, draws: Mapping[tuple[str, Group], Scores]) -> list[Gain]:
    bases = {name: scores for (name, group), scores in draws.items() if group in ("member", "reference")}
    mean = {MEAN_MEMBER: bases.pop(MEAN_MEMBER)} if MEAN_MEMBER in bases else {}
    best = max(bases, key=lambda name: bases[name][MAIN_METRIC][0], default=None)
    compared = ({best: bases[best]} if best else {}) | mean
    return [
        Gain(
            task,
            name,
            over,
            {metric: to_difference(scores[metric] - base[metric], METRICS[metric]) for metric in METRICS},
        )
        for (name, group), scores in draws.items()
        if group in ("vote", "soup")
        for over, base in compared.items()
    ]


def _soup_candidates(soups: Mapping[str, SoupPredictions]) -> list[Candidate]:
    """Combine soups of one recipe for different tasks, so that they also get a score in the combined class."""
    candidates: list[Candidate] = []
    for recipe, label in SOUP_LABELS.items():
        same = [soup.predictions for name, soup in soups.items() if name.endswith(f"_{recipe}")]
        tasks = [task for part in same for task in part.space.names]
        together = [combine(same)] if same and len(set(tasks)) == len(tasks) else same
        candidates.extend(Candidate(label, "soup", part) for part in together)
    return candidates


def _agreement(loaded: LoadedMembers, parts: Sequence[Predictions], task: str) -> Agreement:
    names = tuple(loaded.members[i].name for i in loaded.positions(task))
    return Agreement(names, agreement(stack_probs(parts, task)))
