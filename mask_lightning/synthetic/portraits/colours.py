"""Colours as plain RGB triples, and the few things that are done to them."""

from collections.abc import Sequence
from typing import TypeAlias

Colour: TypeAlias = tuple[int, int, int]

BLACK: Colour = (18, 16, 18)
WHITE: Colour = (250, 249, 246)
GREY: Colour = (196, 194, 192)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Mix two colours.

    Args:
        first: The colour returned at share 0.
        second: The colour returned at share 1.
        share: How much of ``second``; clipped to [0, 1].
    """
    share = min(max(share, 0.0), 1.0)
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """Darken (factor < 1) or lighten (factor > 1) a colour, each channel clipped to 0..255."""
    red, green, blue = (min(max(round(value * factor), 0), 255) for value in colour)
    return red, green, blue


def along(scale: Sequence[Colour], position: float) -> Colour:
    """Read a colour between two entries of a scale; ``position`` counts them and is clipped to the ends."""
    position = min(max(position, 0.0), len(scale) - 1.0)
    lower = min(int(position), len(scale) - 2)
    return mix(scale[lower], scale[lower + 1], position - lower)
