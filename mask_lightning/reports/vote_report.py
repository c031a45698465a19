"""Terminal report of a vote: scores of members, votes and soups, gains, agreement, and the next command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mask_lightning.ensemble.scoring import (
    EACH_BEST,
    MEAN_MEMBER,
    Agreement,
    CandidateScore,
    EnsembleScores,
    Gain,
    Group,
)
from mask_lightning.metrics.bootstrap import Difference, Interval
from mask_lightning.metrics.scores import JOINT, MAIN_METRIC, METRICS
from mask_lightning.reports.figures import BLUE, GREEN, GREY, ORANGE, literal, new_figure

RENEWED = (
    " The BatchNorm statistics of a soup are recomputed, which can help by itself: compare soups with the best member, "
    "renewed."
)
STYLES: dict[Group, str] = {"member": "dim", "reference": "", "vote": "bold", "soup": ""}
GROUP_COLOURS: dict[Group, str] = {"member": GREY, "reference": GREEN, "vote": BLUE, "soup": ORANGE}
MAX_WRITTEN = 12  # members up to which the agreement matrix contains numbers


def print_members(names: Sequence[str], megabytes: float, left_out: Sequence[str], missing: Sequence[str]) -> None:
    """Print the members, the size of their weights, and the runs and members that do not take part."""
    for line in left_out:
        _print_line(f"left out: {line}")
    if missing:
        _print_line(f"missing: {', '.join(missing)}; the ensembles vote without them")
    _print_line(f"{len(names)} members, {megabytes:.0f} MB of weights: {', '.join(names)}")


def print_scores(scores: EnsembleScores, *, kind: str) -> None:
    """Print scores and gains per task, the soups, and the agreement of the members.

    Args:
        scores: scores on the held-out people.
        kind: kind of the chosen vote, whose ties are printed.
    """
    comparison, console = scores.comparison, Console()
    for task in dict.fromkeys(each.task for each in comparison.scores):
        name = "all tasks combined" if task == JOINT else task
        title = f"{name}: {scores.people} held-out people, {scores.photos} photos"
        console.print(_scores_table([each for each in comparison.scores if each.task == task], title))
        gains = [each for each in comparison.gains if each.task == task]
        if gains:
            console.print(_gains_table(gains, f"{name}: gain in {METRICS[MAIN_METRIC].title}"))
    console.print(
        "* significant: the interval, paired by person, excludes 0. The best member was chosen on the same people, "
        "so its score is optimistic; weights and greedy soups are scored on others." + (RENEWED if scores.soups else "")
    )
    for name, members in scores.soups.items():
        console.print(f"{name}.ckpt: {', '.join(members)}", markup=False, highlight=False, soft_wrap=True)
    _print_agreement(scores.agreements, scores.votes[kind].ties, photos=scores.photos)


def print_remarks(remarks: Sequence[str]) -> None:
    """Print remarks, such as the reason why there are no soups."""
    for remark in remarks:
        _print_line(remark)


def print_files(folder: Path, following: str) -> None:
    """Print the written files and the next command."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix != ".log")
    _print_line(f"look at: {folder}/ {', '.join(names)}")
    _print_line(f"next:    {following}")


def _scores_table(scores: Sequence[CandidateScore], title: str) -> Table:
    table = _new_table(title, ("", *(heading for metric in METRICS.values() for heading in (metric.title, "95 %"))))
    for row in scores:
        intervals = [row.intervals[metric] for metric in METRICS]
        cells = [cell for each in intervals for cell in (f"{each.value:.3f}", _format_interval(each))]
        table.add_row(escape(row.name), *map(escape, cells), style=STYLES[row.group])
    return table


def _gains_table(gains: Sequence[Gain], title: str) -> Table:
    bases = list(dict.fromkeys(gain.over for gain in gains))
    references = (MEAN_MEMBER, EACH_BEST)
    headings = ("", *(f"over {base}{'' if base in references else ', the best'}" for base in bases))
    table = _new_table(title, headings, justify="left")  # aligns the numbers of one column
    for name in dict.fromkeys(gain.name for gain in gains):
        found = [gain.differences[MAIN_METRIC] for gain in gains if gain.name == name]
        cells = [f"{each.value:+.3f} {_format_interval(each, '+.3f')} {'*' if each.is_real else ''}" for each in found]
        table.add_row(name, *map(escape, cells))
    return table


def _new_table(title: str, headings: Sequence[str], *, justify: Literal["left", "right"] = "right") -> Table:
    table = Table(title=escape(title), title_justify="left")
    for heading in headings:
        table.add_column(escape(heading), justify=justify if heading else "left")
    return table


def _print_agreement(agreements: Mapping[str, Agreement], ties: Mapping[str, int], *, photos: int) -> None:
    """Print the mean agreement of the members of each task and the number of broken ties."""
    for task, agreement in agreements.items():
        count = len(agreement.names)
        if count > 1:
            mean = (agreement.shares.sum() - count) / (count * (count - 1))
            text = f"{task}: two members agree on {mean:.1%} of the photos; {ties[task]} of {photos} votes were ties"
            Console().print(text, markup=False, highlight=False)


def _format_interval(score: Interval | Difference, form: str = ".3f") -> str:
    return "" if score.low is None or score.high is None else f"[{score.low:{form}}, {score.high:{form}}]"


def _print_line(text: str) -> None:
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)


def plot_agreement(agreements: Mapping[str, Agreement]) -> Figure:
    """Plot a matrix per task: the share of photos for which two members predict the same class."""
    figure = new_figure(4.6 * len(agreements) + 0.8, 4.6)
    axes = figure.subplots(1, len(agreements), squeeze=False)[0]
    darkest = min(float(agreement.shares.min()) for agreement in agreements.values())
    for axis, (task, agreement) in zip(axes, agreements.items(), strict=True):
        image = axis.imshow(agreement.shares, cmap="viridis", vmin=min(darkest, 0.99), vmax=1)
        ticks = range(len(agreement.names))
        names = [literal(name) for name in agreement.names]
        axis.set_xticks(ticks, names, rotation=90, fontsize=7)
        axis.set_yticks(ticks, names, fontsize=7)
        axis.set_title(literal(task), fontsize=10)
        _write_shares(axis, agreement.shares, darkest)
    figure.colorbar(image, ax=axes, label="share of photos with equal predictions", shrink=0.8)
    return figure


def _write_shares(axis: Axes, shares: npt.NDArray[np.floating], darkest: float) -> None:
    if len(shares) > MAX_WRITTEN:
        return
    for (row, column), share in np.ndenumerate(shares):
        if row != column:
            colour = "white" if share < (1 + darkest) / 2 else "black"
            text = f"{share:.2f}".removeprefix("0")
            axis.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)


def plot_candidates(scores: Sequence[CandidateScore]) -> Figure:
    """Plot macro F1 with its 95 % interval for every member, vote and soup, one panel per task.

    The dashed line is the mean of the members.
    """
    tasks = list(dict.fromkeys(each.task for each in scores))
    rows = {task: [each for each in scores if each.task == task] for task in tasks}
    figure = new_figure(4.4 * len(tasks) + 0.4, 1.2 + 0.26 * max(map(len, rows.values())))
    axes = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axis, (task, shown) in zip(axes, rows.items(), strict=True):
        for height, each in enumerate(shown):
            _draw_interval(axis, height, each.intervals[MAIN_METRIC], GROUP_COLOURS[each.group])
        of_members = [each.intervals[MAIN_METRIC].value for each in shown if each.group == "member"]
        if of_members:
            axis.axvline(float(np.mean(of_members)), color=GREY, lw=1, ls="--", zorder=0)
        axis.set_yticks(range(len(shown)), [literal(each.name) for each in shown], fontsize=8)
        axis.invert_yaxis()
        axis.set_xlabel(f"{METRICS[MAIN_METRIC].title} on held-out people")
        axis.set_title(f"all tasks ({task})" if task == JOINT else literal(task), fontsize=10)
        axis.grid(axis="x", alpha=0.25)
    return figure


def _draw_interval(axis: Axes, height: int, score: Interval, colour: str) -> None:
    if score.low is not None and score.high is not None:
        axis.plot([score.low, score.high], [height, height], color=colour, lw=1.5)
    axis.plot(score.value, height, "o", color=colour, markersize=5)
