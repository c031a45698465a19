"""Paired comparison: the difference of configurations over runs of the same seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from mask_lightning.errors import MaskLightningError, RunFolderError, did_you_mean
from mask_lightning.metrics.bootstrap import Difference
from mask_lightning.metrics.names import lower_is_better
from mask_lightning.runs.folder import RunFolder
from mask_lightning.runs.photos import held_out_photos
from mask_lightning.settings.base import check
from mask_lightning.settings.identity import IGNORED, flatten, identity
from mask_lightning.settings.train import TrainSettings
from mask_lightning.sweeps.table import HIDDEN_OPTIONS, Row

SEEDS = ("seed", "data.split_seed")  # differ between the runs of one configuration
PLACES = ("outputs", "resume", "data.root", "data.table", "data.cache_dir", "data.corrections")
NOT_COMPARED = frozenset({*SEEDS, *PLACES, *HIDDEN_OPTIONS, *IGNORED})
DEFAULTS = "defaults"  # name of the configuration without overrides


@dataclass(frozen=True)
class Configuration:
    """Runs that differ in their seed only.

    Attributes:
        name: experiment and overrides that distinguish it, such as `quick` or `quick mix=cutmix`.
        runs: seed -> run.
    """

    name: str
    runs: Mapping[int, Row]

    def scores(self, metric: str) -> dict[int, float]:
        """Return the metric of best.ckpt for each seed whose run has it."""
        found = {seed: row.result.best.get(metric) for seed, row in self.runs.items() if row.result}
        return {seed: value for seed, value in found.items() if value is not None and not math.isnan(value)}


@dataclass(frozen=True)
class PairedDifference:
    """Configuration minus baseline, over the seeds that both have.

    Attributes:
        name: of the configuration.
        scores, baseline: seed -> metric, for the common seeds.
        wins: number of seeds for which the configuration is better.
        people: difference with its bootstrap interval over people; None without stored predictions.
    """

    name: str
    scores: Mapping[int, float]
    baseline: Mapping[int, float]
    wins: int
    people: Difference | None = None

    @property
    def differences(self) -> list[float]:
        """Difference for each common seed."""
        return [score - self.baseline[seed] for seed, score in self.scores.items()]

    @property
    def mean(self) -> float:
        """Mean difference."""
        return mean(self.differences)

    @property
    def standard_error(self) -> float | None:
        """Standard error of the mean difference over seeds; None with one seed."""
        count = len(self.differences)
        return stdev(self.differences) / math.sqrt(count) if count > 1 else None

    def to_plain(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        people = self.people
        return {
            "configuration": self.name,
            "seeds": [
                {"seed": seed, "score": score, "baseline": self.baseline[seed]} for seed, score in self.scores.items()
            ],
            "score": mean(self.scores.values()),
            "difference": self.mean,
            "standard_error": self.standard_error,
            "wins": self.wins,
            "people": people and {"difference": people.value, "low": people.low, "high": people.high},
        }


def group_by_seed(rows: Sequence[Row]) -> tuple[list[Configuration], list[str]]:
    """Group finished runs into configurations.

    Options that lead to photos and folders are not compared: runs on other photos have other held-out people, which
    `pair` refuses.

    Returns:
        The configurations, in the order of their first runs, and a line for each run that is not used.
    """
    groups: dict[tuple[Any, ...], dict[int, Row]] = {}
    notes: list[str] = []
    for row in rows:
        if row.status != "finished" or row.result is None:
            notes.append(f"left out: {row.folder} is {row.status}")
            continue
        options = {name: repr(value) for name, value in _identity(row).items() if name not in NOT_COMPARED}
        group = groups.setdefault(tuple(sorted(options.items())), {})
        seed = int(row.options.get("seed", 0))
        if seed in group:
            old, new = sorted([group[seed], row], key=lambda each: RunFolder(each.folder).result.stat().st_mtime)
            notes.append(f"left out: {old.folder} has the options and seed of {new.folder}, which is newer")
            row = new
        group[seed] = row
    found = list(groups.values())
    return [Configuration(*each) for each in zip(_names(found), found, strict=True)], notes


def _identity(row: Row) -> dict[str, Any]:
    """Return the options that determine the network; all recorded ones if this version does not know them."""
    try:
        return flatten(identity(check(TrainSettings, RunFolder(row.folder).read_config())))
    except MaskLightningError:
        return row.options


def _names(groups: Sequence[Mapping[int, Row]]) -> list[str]:
    """Name each group by its overrides without those of all groups; by its options where these are not enough."""
    typed = [_overrides(next(iter(group.values()))) for group in groups]
    common = set.intersection(*(set(each.items()) for each in typed)) if typed else set()
    names = []
    for overrides in typed:
        experiment = overrides.pop("experiment", "").removeprefix("ablation/")
        rest = [f"{name}={value}" for name, value in overrides.items() if (name, value) not in common]
        names.append(" ".join([experiment, *rest]).strip() or DEFAULTS)
    for name in {name for name in names if names.count(name) > 1}:
        same = [i for i, each in enumerate(names) if each == name]
        options = [_identity(next(iter(groups[i].values()))) for i in same]
        differing = [
            key
            for key in sorted({key for each in options for key in each} - NOT_COMPARED)
            if len({repr(each.get(key)) for each in options}) > 1
        ]
        for i, each in zip(same, options, strict=True):
            names[i] = " ".join([name, *(f"{key}={each[key]}" for key in differing if key in each)])
    return names


def _overrides(row: Row) -> dict[str, str]:
    assert row.result is not None
    pairs = (each.lstrip("+").partition("=")[::2] for each in row.result.overrides)
    return {name: value for name, value in pairs if name not in NOT_COMPARED and not name.startswith(("hydra.", "~"))}


def find_baseline(configurations: Sequence[Configuration], name: str) -> Configuration:
    """Return the configuration of that name. Raises RunFolderError if there is none."""
    found = [each for each in configurations if each.name == name.removeprefix("ablation/")]
    if not found:
        names = [each.name for each in configurations]
        raise RunFolderError(
            f"expected runs of the baseline {name!r}, found {', '.join(map(repr, names))}; set baseline to one "
            f"({did_you_mean(name, names)})"
        )
    return found[0]


def pair(
    configurations: Sequence[Configuration], baseline: Configuration, metric: str
) -> tuple[list[PairedDifference], list[str]]:
    """Compute the paired difference of every other configuration and the baseline, the best first.

    Returns:
        The differences, and a line for each configuration that has fewer seeds than the baseline.

    Raises:
        RunFolderError: there is no other configuration, none has a seed in common with the baseline, the metric is
            missing, or two runs of one seed held out different people.
    """
    base, found, notes = baseline.scores(metric), [], []
    if not base:
        known = sorted({key for row in baseline.runs.values() if row.result for key in row.result.best})
        raise RunFolderError(f"expected {metric} in the runs of {baseline.name}, found {', '.join(known)}; set metric")
    others = [each for each in configurations if each is not baseline]
    if not others:
        raise RunFolderError(f"expected another configuration than {baseline.name}, found none; name more runs")
    for each in others:
        scores = each.scores(metric)
        common = [seed for seed in base if seed in scores]
        if len(common) < len(base):
            seeds = ", ".join(map(str, sorted(each.runs))) if not common else ", ".join(map(str, sorted(scores)))
            wanted = ", ".join(map(str, sorted(base)))
            notes.append(f"{each.name} has seeds {seeds}, the baseline {baseline.name} has seeds {wanted}")
        for seed in common:
            check_same_people(each.runs[seed], baseline.runs[seed], seed)
        if common:
            sign = -1 if lower_is_better(metric) else 1
            wins = sum(sign * (scores[seed] - base[seed]) > 0 for seed in common)
            ours, theirs = ({seed: values[seed] for seed in common} for values in (scores, base))
            found.append(PairedDifference(each.name, ours, theirs, wins))
    if not found:
        raise RunFolderError(f"no seed in common: {'; '.join(notes)}; train both with the same seeds")
    return sorted(found, key=lambda each: each.mean, reverse=not lower_is_better(metric)), notes


def check_same_people(row: Row, other: Row, seed: int) -> None:
    """Raise RunFolderError if two runs held out different photos, or if that is not recorded."""
    ours, theirs = (held_out_photos(RunFolder(each.folder).split) for each in (row, other))
    if ours is None or theirs is None:
        place = row.folder if ours is None else other.folder
        raise RunFolderError(
            f"expected {RunFolder(place).split}, which records who was held out, found none; restore it"
        )
    if ours != theirs:
        raise RunFolderError(
            f"expected the same held-out people for seed {seed}, found {len(ours - theirs)} photos of {row.folder} and "
            f"{len(theirs - ours)} of {other.folder} that only one of them held out; compare runs of one split"
        )
