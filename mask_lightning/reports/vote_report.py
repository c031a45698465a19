"""What a vote shows on the terminal: members, votes and soups task by task, what was gained, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mask_lightning.engine.epoch_scores import JOINT
from mask_lightning.ensemble.scoring import EACH_BEST, MEAN_MEMBER, Agreement, Gain, Group, Standing, Trial
from mask_lightning.metrics.bootstrap import Difference, Interval

RENEWED = (
    " A soup's BatchNorm statistics are renewed, which can help by itself: compare it with the best member, renewed."
)
STYLES: dict[Group, str] = {"member": "dim", "reference": "", "vote": "bold", "soup": ""}


def print_jury(names: Sequence[str], megabytes: float, left_out: Sequence[str], missing: Sequence[str]) -> None:
    """Who votes and with how much memory, and which runs and members do not."""
    for line in left_out:
        _say(f"left out: {line}")
    if missing:
        _say(f"missing: {', '.join(missing)}; the ensembles vote without them")
    _say(f"{len(names)} members, {megabytes:.0f} MB of weights: {', '.join(names)}")


def print_trial(trial: Trial, *, kind: str) -> None:
    """Scores and gains task by task, then agreement; `kind` is the vote that was asked for."""
    verdict, console = trial.verdict, Console()
    for task in dict.fromkeys(standing.task for standing in verdict.standings):
        what = "all tasks combined" if task == JOINT else task
        title = f"{what}: {trial.people} held-out people, {trial.photos} photos"
        console.print(_standings_table([each for each in verdict.standings if each.task == task], title))
        gains = [each for each in verdict.gains if each.task == task]
        if gains:
            console.print(_gains_table(gains, f"{what}: gain in macro F1"))
    console.print(
        "* the interval, paired by person, leaves out 0: shown to be real. The best member and the greedy soup were "
        "chosen on these very people, and look better for it." + (RENEWED if trial.soups else "")
    )
    for name, members in trial.soups.items():
        console.print(f"{name}.ckpt: {', '.join(members)}", markup=False, highlight=False, soft_wrap=True)
    print_agreement(trial.agreements, trial.ballots[kind].ties, photos=trial.photos)


def _standings_table(standings: Sequence[Standing], title: str) -> Table:
    table = _table(title, ("", "macro F1", "95 %", "accuracy", "95 %"))
    for row in standings:
        cells = [cell for score in (row.f1, row.accuracy) for cell in (f"{score.value:.3f}", _interval(score))]
        table.add_row(escape(row.name), *map(escape, cells), style=STYLES[row.group])
    return table


def _gains_table(gains: Sequence[Gain], title: str) -> Table:
    bases = list(dict.fromkeys(gain.over for gain in gains))
    known = (MEAN_MEMBER, EACH_BEST)
    headings = ("", *(f"over {base}{'' if base in known else ', the best'}" for base in bases))
    table = _table(title, headings, justify="left")  # so that the numbers stand below each other
    for name in dict.fromkeys(gain.name for gain in gains):
        found = [gain.f1 for gain in gains if gain.name == name]
        cells = [f"{each.value:+.3f} {_interval(each, '+.3f')} {'*' if each.is_real else ''}" for each in found]
        table.add_row(name, *map(escape, cells))
    return table


def _table(title: str, headings: Sequence[str], *, justify: Literal["left", "right"] = "right") -> Table:
    table = Table(title=escape(title), title_justify="left")
    for heading in headings:
        table.add_column(escape(heading), justify=justify if heading else "left")
    return table


def print_agreement(agreements: Mapping[str, Agreement], ties: Mapping[str, int], *, photos: int) -> None:
    """How alike the members of each task are, and how many ties were broken."""
    for task, agreement in agreements.items():
        count = len(agreement.names)
        if count > 1:
            mean = (agreement.shares.sum() - count) / (count * (count - 1))
            text = f"{task}: two members agree on {mean:.1%} of the photos; {ties[task]} of {photos} votes were ties"
            Console().print(text, highlight=False)


def print_remarks(remarks: Sequence[str]) -> None:
    """What could not be had, and why."""
    for remark in remarks:
        _say(remark)


def print_files(folder: Path, following: str) -> None:
    """What lies in the folder, and the next command."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix != ".log")
    _say(f"look at: {folder}/ {', '.join(names)}")
    _say(f"next:    {following}")


def _interval(score: Interval | Difference, form: str = ".3f") -> str:
    return "" if score.low is None or score.high is None else f"[{score.low:{form}}, {score.high:{form}}]"


def _say(text: str) -> None:
    Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)
