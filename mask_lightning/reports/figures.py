"""How every figure is made and saved: no display, no global state, whole files only."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text

from mask_lightning.utils.files import write_atomically

# Okabe & Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#777777"
SIDE_COLOURS = {"train": GREY, "clean_train": ORANGE, "val": BLUE}
SIDE_NAMES = {"train": "train (augmented)", "clean_train": "clean train", "val": "validation"}


class ShownFigure(Figure):
    """A figure that Jupyter shows where a cell ends with it, although pyplot was never asked."""

    def _repr_png_(self) -> bytes:
        return to_png(self)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that lays itself out."""
    return ShownFigure(figsize=(width, height), layout="constrained")


def to_png(figure: Figure, *, dpi: int = 120) -> bytes:
    """The figure as the content of a PNG file."""
    buffer = BytesIO()
    with matplotlib.rc_context({"text.parse_math": False}):  # a class may be called $5; of texts made while drawing
        for text in figure.findobj(Text):
            text.set_parse_math(False)
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, atomically."""
    write_atomically(path, to_png(figure))
