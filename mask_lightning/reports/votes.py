"""Pictures of an ensemble: how often its members agree, and how they and their votes score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mask_lightning.ensemble.scoring import Agreement, Group, Standing
from mask_lightning.reports.figures import BLUE, GREEN, GREY, ORANGE, new_figure

COLOURS: dict[Group, str] = {"member": GREY, "reference": GREEN, "vote": BLUE, "soup": ORANGE}
MOST_WRITTEN = 12  # members whose shares are written into the matrix


def plot_agreement(agreements: Mapping[str, Agreement]) -> Figure:
    """A matrix per task: the share of photos on which two members say the same class."""
    figure = new_figure(4.6 * len(agreements) + 0.8, 4.6)
    axes = figure.subplots(1, len(agreements), squeeze=False)[0]
    darkest = min(float(agreement.shares.min()) for agreement in agreements.values())
    for axis, (task, agreement) in zip(axes, agreements.items(), strict=True):
        image = axis.imshow(agreement.shares, cmap="viridis", vmin=min(darkest, 0.99), vmax=1)
        ticks = range(len(agreement.names))
        axis.set_xticks(ticks, agreement.names, rotation=90, fontsize=7)
        axis.set_yticks(ticks, agreement.names, fontsize=7)
        axis.set_title(task, fontsize=10)
        _write_shares(axis, agreement.shares, darkest)
    figure.colorbar(image, ax=axes, label="photos on which both say the same", shrink=0.8)
    return figure


def _write_shares(axis: Axes, shares: npt.NDArray[np.floating], darkest: float) -> None:
    if len(shares) > MOST_WRITTEN:
        return
    for (row, column), share in np.ndenumerate(shares):
        if row != column:
            colour = "white" if share < (1 + darkest) / 2 else "black"
            text = f"{share:.2f}".removeprefix("0")
            axis.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)


def plot_standings(standings: Sequence[Standing]) -> Figure:
    """A panel per task: macro F1 of every member, vote and soup with its 95 % interval, the members' mean as a line."""
    tasks = list(dict.fromkeys(standing.task for standing in standings))
    rows = {task: [standing for standing in standings if standing.task == task] for task in tasks}
    figure = new_figure(4.4 * len(tasks) + 0.4, 1.2 + 0.26 * max(map(len, rows.values())))
    axes = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axis, (task, shown) in zip(axes, rows.items(), strict=True):
        for place, standing in enumerate(shown):
            _whisker(axis, place, standing)
        of_members = [standing.f1.value for standing in shown if standing.group == "member"]
        if of_members:
            axis.axvline(float(np.mean(of_members)), color=GREY, lw=1, ls="--", zorder=0)
        axis.set_yticks(range(len(shown)), [standing.name for standing in shown], fontsize=8)
        axis.invert_yaxis()
        axis.set_xlabel("macro F1 on held-out people")
        axis.set_title(f"all tasks ({task})" if task == "joint" else task, fontsize=10)
        axis.grid(axis="x", alpha=0.25)
    return figure


def _whisker(axis: Axes, place: int, standing: Standing) -> None:
    score, colour = standing.f1, COLOURS[standing.group]
    if score.low is not None and score.high is not None:
        axis.plot([score.low, score.high], [place, place], color=colour, lw=1.5)
    axis.plot(score.value, place, "o", color=colour, markersize=5)
