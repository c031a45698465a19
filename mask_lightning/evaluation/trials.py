"""An ensemble tried on people that all its members held out: every member, every kind of vote, and soups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mask_lightning.evaluation.votes import Candidate, Verdict, best_of_each, judge
from mask_lightning.inference.ballots import Ballot, Weights, cast_votes, stack_probs
from mask_lightning.inference.juries import Jury
from mask_lightning.inference.predictions import Predictions, combine
from mask_lightning.inference.voting import Floats, agreement

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
