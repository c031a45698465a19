"""Confusion matrices as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from mask_lightning.reports.figures import new_figure


def plot_confusion(
    counts: npt.NDArray[np.int64], classes: Sequence[str], title: str, *, show: Literal["counts", "rates"] = "counts"
) -> Figure:
    """Counts (C, C), rows the truth -> a heat map of each row's shares, with counts or percentages written in."""
    total = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(total, 1)
    side = max(3.6, 0.5 * len(classes) + 1.6)
    figure = new_figure(side + 0.9, side)
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(classes))
    axis.set_xticks(ticks, classes, rotation=90 if len(classes) > 6 else 0, fontsize=8)
    axis.set_yticks(ticks, [f"{name} ({n})" for name, n in zip(classes, total[:, 0], strict=True)], fontsize=8)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true (photos)")
    axis.set_title(title, fontsize=10)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = str(count) if show == "counts" else f"{shares[row, column]:.0%}"
            axis.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, ax=axis, label="share of the true class", shrink=0.8)
    return figure
