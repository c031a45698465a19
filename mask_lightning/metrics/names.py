"""The names of a run's scores, such as `val/age/f1`."""

from __future__ import annotations

from collections.abc import Iterable

LOSS = "loss"


def score_keys(sides: Iterable[str], tasks: Iterable[str]) -> list[str]:
    """Every score of some sides of the split: of all tasks together, then of each."""
    of = ("", *(f"{task}/" for task in tasks))
    return [f"{side}/{task}{name}" for side in sides for task in of for name in ("f1", "accuracy", LOSS)]


def lower_is_better(key: str) -> bool:
    """Whether a smaller value of this score is the better one: of losses it is."""
    return key.endswith(f"/{LOSS}")
