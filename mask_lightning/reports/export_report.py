"""Model card of an exported model (use, scores, slices, data, limits, licence), and the terminal report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from rich.console import Console
from rich.markup import escape

from mask_lightning.exporting.folder import LABELS, MANIFEST, PREPROCESSING, Exported
from mask_lightning.metrics.bootstrap import Interval
from mask_lightning.metrics.evaluation import Evaluation
from mask_lightning.metrics.scores import MAIN_METRIC, METRICS
from mask_lightning.reports.evaluation_report import LIMITS, show_interval, tasks_of
from mask_lightning.runs.folder import RunResult

MAX_LOSS = 0.01  # macro F1 that quantisation may cost without a warning


@dataclass(frozen=True)
class Quantisation:
    """Headline macro F1 before and after quantisation, on the same held-out people."""

    before: float
    after: float

    @property
    def loss(self) -> float:
        """Macro F1 that was lost; negative if the score rose."""
        return self.before - self.after

    @property
    def is_large(self) -> bool:
        """True if the loss must be reported as a warning."""
        return self.loss > MAX_LOSS

    def describe(self) -> str:
        """Return one sentence."""
        text = f"int8 changes the macro F1 from {self.before:.3f} to {self.after:.3f} ({-self.loss:+.3f})"
        return f"WARNING: {text}: more than {MAX_LOSS} is lost; use precision=float32" if self.is_large else text


@dataclass(frozen=True)
class ModelCard:
    """Content of the README.md.

    Attributes:
        exported: the model.
        licence: of the model.
        results: records of the runs that trained it, by name.
        evaluation: scores of the exported model on held-out people; None if there were none.
        quantisation: scores before and after; None for float32, and without held-out people.
        notes: further sentences for the reader.
    """

    exported: Exported
    licence: str
    results: Mapping[str, RunResult]
    evaluation: Evaluation | None = None
    quantisation: Quantisation | None = None
    notes: Sequence[str] = field(default_factory=tuple)

    def render_for_hub(self, name: str) -> str:
        """Return the Markdown text after the metadata that the Hugging Face hub reads (model-index).

        Args:
            name: of the model.
        """
        results = []
        if self.evaluation is not None:
            for task, metrics in self.evaluation.intervals.items():
                values = [
                    {"type": metric, "value": round(metrics[metric].value, 4), "name": METRICS[metric].title}
                    for metric in METRICS
                ]
                people = f"{self.evaluation.people} held-out people"
                results.append(
                    {
                        "task": {"type": "image-classification", "name": task},
                        "dataset": {"type": "custom", "name": people},
                        "metrics": values,
                    }
                )
        metadata = {
            "library_name": "timm",
            "pipeline_tag": "image-classification",
            "tags": ["mask_lightning", "image-classification", "face"],
            "license": self.licence,
            "model-index": [{"name": name, "results": results}],
        }
        return f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n\n{self.render()}"

    def render(self) -> str:
        """Return the Markdown text."""
        parts = [
            self._head(),
            self._use(),
            self._scores(),
            self._data(),
            f"## Limits of use\n\n{LIMITS}",
            f"## Licence\n\n{self.licence}",
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _head(self) -> str:
        exported = self.exported
        backbones = ", ".join(dict.fromkeys(source.backbone for source in exported.sources))
        tasks = "\n".join(f"- {task.name}: {', '.join(task.classes)}" for task in exported.space.tasks)
        warning = (
            f"\n\n> **{self.quantisation.describe()}**" if self.quantisation and self.quantisation.is_large else ""
        )
        return (
            f"# {', '.join(exported.space.names)} from a photo of a face\n\n"
            f"{backbones}, {exported.format}, {exported.precision}, exported by mask_lightning.{warning}\n\n"
            f"It predicts:\n\n{tasks}"
        )

    def _use(self) -> str:
        exported, size = self.exported, self.exported.spec.size
        members = len(exported.sources)
        ensemble = {
            "soft": f"It contains {members} networks and returns the mean of their probabilities.",
            "soup": f"Its weights are the mean of {members} networks.",
        }.get(exported.combine, "")
        flip = "It averages the probabilities of the photo and its mirror image." if exported.tta == "flip" else ""
        scaled = ", ".join(f"{task} {value:.2f}" for task, value in exported.temperatures.items())
        calibrated = f"Probabilities are calibrated (temperatures: {scaled})." if scaled else "Not calibrated."
        checked = exported.check
        check = (
            f"Compared with PyTorch on {checked['photos']} {checked['of']}: probabilities differ by at most "
            f"{checked['largest_difference']:.1e}."
            if checked
            else ""
        )
        return (
            "## Use\n\n```\npython example.py PHOTO ...\n```\n\n"
            f"Input `images`: RGB, uint8, (B, {size}, {size}, 3), with any B. Outputs: an array of probabilities "
            f"(B, C) per task, in the order of `{LABELS}`. Normalisation and softmax are inside. `{PREPROCESSING}` "
            f"says how a photo becomes {size} x {size} pixels (crop: {exported.spec.crop}); `{MANIFEST}` has the "
            "hashes of the files.\n\n" + " ".join(each for each in (ensemble, flip, calibrated, check) if each)
        )

    def _scores(self) -> str:
        notes = "".join(f"\n\n{note}" for note in self.notes)
        if self.evaluation is None:
            return f"## Scores\n\nNot measured.{notes}"
        evaluation = self.evaluation
        rows = [
            [f"**{name}**" if name == evaluation.headline else name, *(_show(each[metric]) for metric in METRICS)]
            for name, each in evaluation.intervals.items()
        ]
        slices = [
            [f"{each.column} {each.value}", str(each.people), _show(each.accuracy), f"{each.f1:.3f}"]
            for each in evaluation.slices
        ]
        worst = evaluation.worst
        text = (
            f"## Scores\n\nOf this file, on {evaluation.photos:,} photos of {evaluation.people:,} people whom the "
            "training held out; 95 % intervals by bootstrap over people; macro F1 over all classes.\n\n"
            + _table(["", *(metric.title for metric in METRICS.values())], rows)
        )
        if self.quantisation:
            text += f"\n\n{self.quantisation.describe()}."
        text += notes
        if slices:
            text += "\n\n### Slices\n\n" + _table(["slice", "people", "accuracy", "F1 of its classes"], slices)
            if worst is not None:
                text += f"\n\nWorst slice: {worst.column} {worst.value}, accuracy {_show(worst.accuracy)}."
        calibration = [f"{task} {evaluation.calibration[task].before.ece:.3f}" for task in tasks_of(evaluation)]
        return f"{text}\n\nExpected calibration error of the probabilities: {', '.join(calibration)}."

    def _data(self) -> str:
        rows = []
        for name, result in self.results.items():
            data = result.data
            train = data.get("train", {})
            seen = f"{train.get('people', '?')} people, {train.get('photos', '?')} photos"
            rows.append([name, str(data.get("fingerprint", "unknown")), seen, result.weights or "unknown"])
        if not rows:
            return "## Data\n\nUnknown: the checkpoint was not in the folder of its run."
        return "## Data\n\n" + _table(["run", "fingerprint of the photos", "trained on", "first weights"], rows)


def print_export(folder: Path, card: ModelCard) -> None:
    """Print the comparison with PyTorch, the score, the files and the next command."""
    console, check = Console(), card.exported.check
    console.print(
        f"compared with PyTorch on {check['photos']:,} {check['of']}: probabilities differ by at most "
        f"{check['largest_difference']:.1e}",
        highlight=False,
    )
    if card.evaluation is not None:
        score = card.evaluation.intervals[card.evaluation.headline][MAIN_METRIC]
        console.print(f"macro F1 on held-out people: {show_interval(score)}", highlight=False)
    if card.quantisation is not None:
        style = "bold red" if card.quantisation.is_large else ""
        console.print(escape(card.quantisation.describe()), style=style, highlight=False)
    for note in card.notes:
        console.print(f"[yellow]note:[/yellow] {escape(note)}", highlight=False)
    files = Console(stderr=True)
    for path in sorted(folder.iterdir()):
        files.print(f"{escape(str(path))}  {path.stat().st_size / 1e6:.2f} MB", highlight=False, soft_wrap=True)
    files.print(f"next: python {escape(str(folder / 'example.py'))} PHOTO", highlight=False, soft_wrap=True)
    command = f"python -m mask_lightning.predict ckpt={folder} data.root=PHOTOS"
    files.print(f"or: {escape(command)}", highlight=False, soft_wrap=True)


def quantisation_of(before: Evaluation, after: Evaluation) -> Quantisation:
    """Compare the headline macro F1 of two evaluations of the same photos."""
    scores = [each.intervals[each.headline][MAIN_METRIC].value for each in (before, after)]
    return Quantisation(*scores)


def _show(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(each.replace('|', '/') for each in line)} |" for line in lines)
