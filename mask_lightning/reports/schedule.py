"""The learning rates and the momentum of a whole run, before it begins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mask_lightning.optim.param_groups import NO_DECAY
from mask_lightning.optim.phases import Phase
from mask_lightning.optim.schedules import PhasedLR, locate
from mask_lightning.reports.figures import GREY, RED, new_figure

DRAWN = 400  # steps per phase; lines between them
DECADES = 2  # shown below the highest lr of the slowest layer group; one-cycle's end lies further down


def plot_schedule(scheduler: PhasedLR, phases: Sequence[Phase]) -> Figure:
    """Lr of every layer group, coloured by depth, above the momentum; phases as shaded spans.

    Args:
        scheduler: of the whole run; read, not moved.
        phases: its phases, in order.
    """
    points = sample_schedule(scheduler)
    figure = new_figure(9, 5)
    moving = bool(points["momentum"].notna().any())
    axes = list(figure.subplots(1 + moving, squeeze=False, sharex=True, height_ratios=[3, 1][: 1 + moving])[:, 0])
    _draw_lrs(axes[0], points)
    if moving:
        _draw(axes[1], points, "momentum", color=GREY)
        axes[1].set_ylabel("momentum")
    _mark_phases(axes, scheduler, phases)
    axes[-1].set_xlabel("optimizer step")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def sample_schedule(scheduler: PhasedLR, *, most: int = DRAWN) -> pd.DataFrame:
    """What each step of the run will be given, by the closed form; the scheduler stays where it is.

    Args:
        scheduler: of the whole run.
        most: steps per phase, its first and last among them.

    Returns:
        a row per step: `step`, `phase` (both from 0), `momentum` (NaN if the optimizer has none), and a column per
        layer group in the optimizer's order, NaN while it is frozen.
    """
    names = dict.fromkeys(str(group["name"]).removesuffix(NO_DECAY) for group in scheduler.optimizer.param_groups)
    rows, start = [], 0
    for index, phase in enumerate(scheduler.phases):
        maxima = {name: phase.lrs.get(name, phase.lrs.get(name + NO_DECAY, np.nan)) for name in names}
        for step in np.unique(np.linspace(start, start + phase.steps - 1, min(most, phase.steps)).astype(int)):
            _, pos = locate(scheduler.phases, int(step))
            curve = phase.schedule.momentum
            momentum = curve(pos) if curve else scheduler.base_momenta[0]
            lrs = {name: value * phase.schedule.lr(pos) for name, value in maxima.items()}
            rows.append({"step": step, "phase": index, "momentum": momentum, **lrs})
        start += phase.steps
    return pd.DataFrame(rows).astype({"momentum": float})


def _draw_lrs(axis: Axes, points: pd.DataFrame) -> None:
    names = list(points.columns[3:])
    colours = colormaps["viridis"](np.linspace(0.9, 0, len(names)))
    for name, colour in zip(names[:-1], colours, strict=False):
        _draw(axis, points, name, color=colour, lw=1.2, label=name if name in (names[0], names[-2]) else None)
    _draw(axis, points, names[-1], color=RED, lw=1.8, label=names[-1])
    axis.set_yscale("log")
    highest = points[names].max()
    axis.set_ylim(highest.min() / 10**DECADES, 1.6 * highest.max())
    axis.set_ylabel("learning rate")
    axis.legend(title="layer groups" if len(names) < 4 else f"{len(names)} layer groups", fontsize=8, title_fontsize=8)


def _draw(axis: Axes, points: pd.DataFrame, column: str, *, label: str | None = None, **style: object) -> None:
    """A line per phase, as the value may jump between two."""
    for _, part in points.groupby("phase"):
        if part[column].notna().any():
            axis.plot(part["step"], part[column], label=label, **style)  # type: ignore[arg-type]
            label = None


def _mark_phases(axes: Sequence[Axes], scheduler: PhasedLR, phases: Sequence[Phase]) -> None:
    start = 0
    for i, (part, phase) in enumerate(zip(scheduler.phases, phases, strict=True)):
        for axis in axes:
            axis.grid(alpha=0.25)
            if len(phases) > 1 and i % 2 == 0:
                axis.axvspan(start, start + part.steps, color=GREY, alpha=0.12, lw=0)
        epochs = f"{phase.epochs} epoch{'s' if phase.epochs > 1 else ''}"
        height = 1.01 + 0.04 * (i % 2)  # a short phase may be narrower than its name
        axes[0].text(start, height, f"{phase}, {epochs}", transform=axes[0].get_xaxis_transform(), fontsize=8)
        start += part.steps
    axes[0].set_xlim(0, start)
