"""Predicted against true numbers, such as ages, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import SupportsFloat

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from mask_lightning.reports.figures import BLUE, GREY, ORANGE, new_figure


def plot_numbers(
    numbers: npt.NDArray[np.float32],
    classes: Sequence[str],
    *,
    top: float,
    errors: Mapping[str, SupportsFloat],
    title: str,
) -> Figure:
    """A point per photo, the diagonal of right answers, and per class the mean of what is predicted.

    Args:
        numbers: target, true and predicted number of each photo (N, 3).
        classes: names of the classes that are cut from the number.
        top: what all larger numbers count as, and the largest that can be predicted.
        errors: as `training.metrics.number_errors` computes them.
        title: of the figure.
    """
    figure = new_figure(6.4, 4.8)
    axis = figure.subplots()
    target, truth, said = numbers.T
    spread = np.random.default_rng(0).uniform(-0.4, 0.4, len(truth))  # whole years would lie on each other
    axis.scatter(truth + spread, said, s=8, alpha=0.3, color=BLUE, linewidths=0, label="a photo")
    end = max(truth.max(initial=top), top)
    axis.plot([0, top, end], [0, top, top], color=GREY, linewidth=1, label="right")
    axis.plot([], [], color=ORANGE, linewidth=2, label="mean of a class")
    for i, name in enumerate(classes):
        of_class = target == i
        if of_class.any():
            left, right, mean = truth[of_class].min(), truth[of_class].max(), said[of_class].mean()
            axis.hlines(mean, left - 0.5, right + 0.5, color=ORANGE, linewidth=2)
            text = f"{name}: {float(errors[f'bias/{name}']):+.1f}"
            axis.annotate(text, (left, mean), xytext=(0, 3), textcoords="offset points", fontsize=8)
    axis.set_xlabel("true")
    axis.set_ylabel("predicted")
    axis.set_xlim(0, end + 2)
    axis.set_ylim(0, top + 4)
    axis.set_title(title, fontsize=10)
    axis.legend(loc="upper left", fontsize=8)
    return figure
