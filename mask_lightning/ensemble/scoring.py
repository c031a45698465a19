"""What an ensemble is worth on held-out people: its members, votes and soups beside each other, and what was gained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mask_lightning.engine.epoch_scores import JOINT
from mask_lightning.ensemble.members import Jury
from mask_lightning.ensemble.voting import Ballot, Weights, agreement, cast_votes, stack_probs
from mask_lightning.inference.predictions import Predictions, combine, join_spaces
from mask_lightning.metrics.bootstrap import (
    Difference,
    Floats,
    Interval,
    Metric,
    score_draws,
    to_difference,
    to_interval,
)
from mask_lightning.metrics.scores import known_answers, people_of, score

Group = Literal["member", "reference", "vote", "soup"]
Scores = Mapping[Metric, Floats]  # of everybody once, then of every draw

MEAN_MEMBER = "mean member"
EACH_BEST = "best member of each task"


@dataclass(frozen=True)
class Candidate:
    """One member, vote or soup, and what it said of the held-out photos: the same ones in the same order for all."""

    name: str
    group: Group
    predictions: Predictions


@dataclass(frozen=True)
class Standing:
    """How a candidate did in one task; `joint` is the combined class of all tasks."""

    task: str
    name: str
    group: Group
    f1: Interval
    accuracy: Interval


@dataclass(frozen=True)
class Gain:
    """By how much a vote or soup is better than `over`: the best member of the task, or the mean member."""

    task: str
    name: str
    over: str
    f1: Difference
    accuracy: Difference


@dataclass(frozen=True)
class Verdict:
    """Task by task: who did how well, and what the votes and soups gained."""

    standings: list[Standing]
    gains: list[Gain]


def judge(candidates: Sequence[Candidate]) -> Verdict:
    """Score every candidate in each task that it answers, and in the combined class if it answers all.

    Intervals are those of `bootstrap`; all candidates are scored on the same draws of people.

    Raises:
        PredictionsError: no photo has a label.
    """
    tasks = join_spaces([each.predictions.space for each in candidates]).names
    answers = {each.name: known_answers(each.predictions) for each in candidates}
    people = people_of(candidates[0].predictions)
    verdict = Verdict([], [])
    for task in [*tasks, JOINT]:
        scores = {
            (each.name, each.group): score_draws(answers[each.name][task], people)
            for each in candidates
            if task in answers[each.name] and _is_scored(each, task, tasks)
        }
        for (name, group), values in _with_mean(scores).items():
            verdict.standings.append(
                Standing(task, name, group, to_interval(values["f1"]), to_interval(values["accuracy"]))
            )
        verdict.gains.extend(_gains(task, _with_mean(scores)))
    return verdict


def mean_f1(predictions: Predictions) -> float:
    """Macro F1 of each task, averaged over the tasks."""
    scores = score(predictions)
    return float(np.mean([scores[task].f1 for task in predictions.space.names if task in scores]))


def best_of_each(members: Sequence[Candidate]) -> Candidate | None:
    """The best member of every task, put together; None unless there are several tasks and a member answers one."""
    by_task: dict[str, list[Predictions]] = {}
    for member in members:
        first, *more = member.predictions.space.names
        if more:
            return None
        by_task.setdefault(first, []).append(member.predictions)
    if len(by_task) < 2:
        return None
    return Candidate(EACH_BEST, "reference", combine([max(parts, key=mean_f1) for parts in by_task.values()]))


def _is_scored(candidate: Candidate, task: str, tasks: Sequence[str]) -> bool:
    """In the combined class only who answers all tasks; the best members together nowhere else."""
    if task == JOINT:
        return set(candidate.predictions.space.names) == set(tasks)
    return candidate.name != EACH_BEST


def _with_mean(scores: Mapping[tuple[str, Group], Scores]) -> dict[tuple[str, Group], Scores]:
    """The members, their mean where there are several, and the others."""
    members = {key: values for key, values in scores.items() if key[1] == "member"}
    others = {key: values for key, values in scores.items() if key[1] != "member"}
    if len(members) < 2:
        return {**members, **others}
    metrics: tuple[Metric, ...] = ("f1", "accuracy")
    mean = {metric: np.mean([values[metric] for values in members.values()], axis=0) for metric in metrics}
    return {**members, (MEAN_MEMBER, "reference"): mean, **others}


def _gains(task: str, scores: Mapping[tuple[str, Group], Scores]) -> list[Gain]:
    bases = {name: values for (name, group), values in scores.items() if group in ("member", "reference")}
    mean = {MEAN_MEMBER: bases.pop(MEAN_MEMBER)} if MEAN_MEMBER in bases else {}
    best = max(bases, key=lambda name: bases[name]["f1"][0], default=None)
    compared = ({best: bases[best]} if best else {}) | mean
    return [
        Gain(
            task,
            name,
            over,
            to_difference(values["f1"] - base["f1"]),
            to_difference(values["accuracy"] - base["accuracy"]),
        )
        for (name, group), values in scores.items()
        if group in ("vote", "soup")
        for over, base in compared.items()
    ]


RECIPES = {"renewed": "best member, renewed", "uniform": "uniform soup", "greedy": "greedy soup"}


@dataclass(frozen=True)
class Agreement:
    """Names of the M members of one task, and the share of photos on which each pair says the same (M, M)."""

    names: tuple[str, ...]
    shares: Floats


@dataclass(frozen=True)
class ServedSoup:
    """The members in a soup, and what it said."""

    members: tuple[str, ...]
    predictions: Predictions


@dataclass(frozen=True)
class Trial:
    """What the held-out people showed.

    Attributes:
        people, photos: how many.
        ballots: `hard`, `soft` and, where there are weights, `weighted` -> what was voted.
        verdict: the scores of members, votes and soups.
        agreements: task -> how alike its members are.
        soups: name -> the members in it.
    """

    people: int
    photos: int
    ballots: dict[str, Ballot]
    verdict: Verdict
    agreements: dict[str, Agreement]
    soups: dict[str, tuple[str, ...]]


def hold_trial(
    jury: Jury, parts: Sequence[Predictions], *, weights: Weights | None, soups: Mapping[str, ServedSoup]
) -> Trial:
    """Compare all of them on the same photos.

    Args:
        jury: the members.
        parts: what each said.
        weights: for the weighted vote; None leaves it out.
        soups: by names that end in one of RECIPES.
    """
    photos = parts[0].photos
    members = [Candidate(member.name, "member", part) for member, part in zip(jury.members, parts, strict=True)]
    ballots = {"hard": cast_votes(parts, kind="hard"), "soft": cast_votes(parts, kind="soft")}
    if weights is not None:
        ballots["weighted"] = cast_votes(parts, kind="hard", weights=weights)
    best = best_of_each(members)
    candidates = [
        *members,
        *([best] if best else []),
        *(Candidate(f"{kind} vote", "vote", ballot.predictions) for kind, ballot in ballots.items()),
        *_soup_candidates(soups),
    ]
    return Trial(
        people=int(photos["person_id"].nunique()),
        photos=len(photos),
        ballots=ballots,
        verdict=judge(candidates),
        agreements={task: _agreement(jury, parts, task) for task in jury.space.names},
        soups={name: soup.members for name, soup in soups.items()},
    )


def _soup_candidates(soups: Mapping[str, ServedSoup]) -> list[Candidate]:
    """Soups of one recipe for different tasks are scored together, so that they answer the combined class too."""
    candidates: list[Candidate] = []
    for recipe, label in RECIPES.items():
        same = [soup.predictions for name, soup in soups.items() if name.endswith(f"_{recipe}")]
        tasks = [task for part in same for task in part.space.names]
        together = [combine(same)] if same and len(set(tasks)) == len(tasks) else same
        candidates.extend(Candidate(label, "soup", part) for part in together)
    return candidates


def _agreement(jury: Jury, parts: Sequence[Predictions], task: str) -> Agreement:
    names = tuple(jury.members[i].name for i in jury.places(task))
    return Agreement(names, agreement(stack_probs(parts, task)))
