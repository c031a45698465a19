"""Shared parts of the reports: figure style, saving, and text formatting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from mask_lightning.utils.files import write_atomically

# Palette of Okabe & Ito, distinguishable by colour-blind readers.
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#777777"
SIDE_COLOURS = {"train": GREY, "clean_train": ORANGE, "val": BLUE}
SIDE_NAMES = {"train": "train (augmented)", "clean_train": "clean train", "val": "validation"}


class ShownFigure(Figure):
    """Figure that Jupyter displays as the result of a cell, without pyplot."""

    def _repr_png_(self) -> bytes:
        return to_png(self)


def new_figure(width: float, height: float) -> Figure:
    """Create an empty figure of `width` x `height` inches with constrained layout."""
    return ShownFigure(figsize=(width, height), layout="constrained")


def to_png(figure: Figure, *, dpi: int = 120) -> bytes:
    """Render the figure and return the content of a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Write the figure as a PNG file, atomically."""
    write_atomically(path, to_png(figure))


def literal(name: object) -> str:
    r"""Escape `$` in a name that comes from the data, so that matplotlib shows it instead of parsing mathematics.

    Every title, label, legend entry and caption that contains a class, person, file or option name needs this.

    Example:
        >>> literal("$5")
        '\\$5'
    """
    return str(name).replace("$", r"\$")


def join(names: Sequence[str]) -> str:
    """Join names as a sentence does.

    Example:
        >>> join(["mask", "gender", "age"])
        'mask, gender and age'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def count(n: int, noun: str) -> str:
    """Format a number with its noun in singular or plural.

    Example:
        >>> count(1, "photo"), count(2000, "photo"), count(3, "person")
        ('1 photo', '2,000 photos', '3 people')
    """
    plural = {"person": "people"}.get(noun, f"{noun}s")
    return f"{n:,} {noun if n == 1 else plural}"


def number(value: float | None) -> str:
    """Format a score with three decimals and no leading zero; None and NaN become a dash.

    Example:
        >>> number(0.5071), number(1.0), number(None)
        ('.507', '1.000', '–')
    """
    return "–" if value is None or math.isnan(value) else f"{value:.3f}".removeprefix("0")


def percent(share: float) -> str:
    """Format a share as a percentage; nearly none and nearly all get a decimal, because 99.8 % is not 100 %.

    Example:
        >>> percent(0.534), percent(0.998), percent(1.0)
        ('53%', '99.8%', '100%')
    """
    rounded = f"{share:.0%}"
    if rounded in ("0%", "100%") and share not in (0, 1):
        return f"{min(max(share, 0.001), 0.999):.1%}"
    return rounded
