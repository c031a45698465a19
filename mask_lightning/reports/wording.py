"""Numbers and lists as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence


def join(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def count(n: int, noun: str) -> str:
    """`1 photo`, `2,000 photos`, `3 people`."""
    plural = {"person": "people"}.get(noun, f"{noun}s")
    return f"{n:,} {noun if n == 1 else plural}"


def number(value: float | None) -> str:
    """A score as the field writes it: .507, 1.000; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.3f}".removeprefix("0")


def percent(share: float) -> str:
    """`53%`; a decimal where little is missing from all or none, since 99.8 % is not 100 %."""
    rounded = f"{share:.0%}"
    if rounded in ("0%", "100%") and share not in (0, 1):
        return f"{min(max(share, 0.001), 0.999):.1%}"
    return rounded
