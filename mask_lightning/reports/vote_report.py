"""Terminal report of a vote: scores of members, votes and soups, gains, agreement, and the next command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

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

RENEWED = (
    " The BatchNorm statistics of a soup are recomputed, which can help by itself: compare soups with the best member, "
    "renewed."
)
STYLES: dict[Group, str] = {"member": "dim", "reference": "", "vote": "bold", "soup": ""}


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
        "* significant: the interval, paired by person, excludes 0. The best member and the greedy soup were chosen on "
        "the same people, so their scores are optimistic." + (RENEWED if scores.soups else "")
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
