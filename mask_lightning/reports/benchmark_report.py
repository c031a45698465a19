"""Report of a benchmark: a table on the terminal, and a plot of score against speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mask_lightning.exporting.timing import Timing
from mask_lightning.metrics.bootstrap import Interval
from mask_lightning.reports.evaluation_report import show_interval
from mask_lightning.reports.figures import BLUE, GREEN, ORANGE, new_figure
from mask_lightning.settings.export import Precision

COLOURS = {"torch": ORANGE, "onnx": BLUE, "openvino": GREEN}
MARKERS: dict[Precision, str] = {"float32": "o", "int8": "s"}


@dataclass(frozen=True)
class Contestant:
    """Engine and precision that are measured."""

    engine: str
    precision: Precision


@dataclass(frozen=True)
class Speeds:
    """Measurements of one engine with one precision.

    Attributes:
        contestant: engine and precision.
        timings: one per batch size.
        file_mb: size of the model file in MB.
        score: macro F1 on held-out people; None if it was not measured.
    """

    contestant: Contestant
    timings: tuple[Timing, ...]
    file_mb: float
    score: Interval | None = None

    @property
    def fastest(self) -> Timing:
        """Timing with the largest throughput."""
        return max(self.timings, key=lambda each: each.photos_per_second)


def print_speeds(speeds: Sequence[Speeds], title: str, notes: Sequence[str]) -> None:
    """Print a row per engine, precision and batch size; then the notes."""
    table = Table(title=escape(title), caption="the network alone, on images in memory; latency of a call")
    for heading in ("engine", "precision"):
        table.add_column(heading)
    for heading in ("batch", "photos/s", "p50 ms", "p95 ms", "p99 ms", "peak MB", "file MB", "macro F1"):
        table.add_column(heading, justify="right")
    for each in speeds:
        for i, timing in enumerate(each.timings):
            latencies = [f"{value:.1f}" for value in (timing.p50_ms, timing.p95_ms, timing.p99_ms)]
            peak = "" if timing.peak_mb is None else f"{timing.peak_mb:.0f}"
            once = [f"{each.file_mb:.1f}", show_interval(each.score) if each.score else ""]
            table.add_row(
                *(("", "") if i else (each.contestant.engine, each.contestant.precision)),
                str(timing.batch_size),
                f"{timing.photos_per_second:.1f}",
                *latencies,
                peak,
                *(("", "") if i else once),
            )
        table.add_section()
    console = Console()
    console.print(table)
    for note in notes:
        console.print(f"[yellow]note:[/yellow] {escape(note)}", highlight=False)


def print_files(folder: Path, names: Sequence[str]) -> None:
    """Print the paths of the written files."""
    for name in names:
        Console(stderr=True).print(escape(str(folder / name)), highlight=False, soft_wrap=True)


def plot_speeds(speeds: Sequence[Speeds]) -> Figure:
    """Plot macro F1 with its interval against the largest throughput; only the throughput if nothing was scored."""
    figure = new_figure(7, 4.5)
    axes = figure.subplots()
    for i, each in enumerate(speeds):
        contestant, speed = each.contestant, each.fastest.photos_per_second
        height = float(i) if each.score is None else each.score.value
        colour, marker = COLOURS[contestant.engine], MARKERS[contestant.precision]
        label = f"{contestant.engine} {contestant.precision}"
        axes.plot([speed], [height], linestyle="none", label=label, color=colour, marker=marker)
        if each.score is not None and each.score.low is not None and each.score.high is not None:
            axes.plot([speed, speed], [each.score.low, each.score.high], color=colour, alpha=0.4)
    axes.set_xlim(left=0)
    axes.set_xlabel("photos per second, the network alone with its fastest batch size")
    if any(each.score is not None for each in speeds):
        axes.set_ylabel("macro F1 on held-out people, 95 % interval")
    else:
        axes.set_yticks([])
    axes.legend()
    return figure
