"""What the report says in words: a sentence for each thing that a reader should know first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mask_lightning.engine.epoch_scores import JOINT
from mask_lightning.metrics.evaluation import Evaluation
from mask_lightning.metrics.mistakes import ConfusedPair, Mistakes
from mask_lightning.metrics.scores import TaskScores
from mask_lightning.metrics.slices import Slice
from mask_lightning.reports.wording import count, join, number, percent

SMALL_ERROR = 0.05  # of calibration: below, probabilities can be taken at their word
BY_HEART = 0.15  # more accurate on training photos: they are remembered, not understood

Counts = Mapping[str, Sequence[int]]  # task -> training photos of each class


def summarise(
    evaluation: Evaluation, mistakes: Mistakes, trained_on: Counts, *, known: float | None = None
) -> list[str]:
    """Three to five sentences, the most important first; `known`: share of training photos that are right."""
    said = [say_share_right(evaluation, known)]
    if mistakes.pairs:
        said.append(say_confused(mistakes.pairs[0]))
    task, i = weakest_class(evaluation)
    said.append(say_weakest(task, evaluation.scores[task], i, trained_on.get(task, ())))
    if evaluation.worst is not None:
        said.append(say_worst_slice(evaluation.worst, evaluation.scores[evaluation.headline]))
    return [*said, say_calibration(evaluation)]


def tasks_of(evaluation: Evaluation) -> list[str]:
    """The tasks that were scored."""
    return [name for name in evaluation.scores if name != JOINT]


def weakest_class(evaluation: Evaluation) -> tuple[str, int]:
    """Task and position of the class with the lowest F1 of those that are on the photos."""
    return min(
        ((task, i) for task in tasks_of(evaluation) for i in np.flatnonzero(evaluation.scores[task].support).tolist()),
        key=lambda found: evaluation.scores[found[0]].f1_per_class[found[1]],
    )


def say_share_right(evaluation: Evaluation, known: float | None = None) -> str:
    """How many photos are right in everything, in each task, and among those that it was trained on."""
    tasks, accuracy = tasks_of(evaluation), evaluation.scores[evaluation.headline].accuracy
    together = f" in {join(tasks)} together" if len(tasks) > 1 else ""
    each = ", ".join(f"{task} {percent(evaluation.scores[task].accuracy)}" for task in tasks)
    sentence = f"It is right{together} on {percent(accuracy)} of the photos" + (f" ({each})" if len(tasks) > 1 else "")
    if known is None or known - accuracy < BY_HEART:
        return f"{sentence}."
    return f"{sentence}, but on {percent(known)} of those that it was trained on: these it knows by heart."


def say_confused(pair: ConfusedPair) -> str:
    """Which class is most often taken for which."""
    return (
        f"Most often it takes {pair.tasks[0]} {pair.truth} for {pair.said}: {count(pair.photos, 'photo')} of "
        f"{count(pair.people, 'person')}, {percent(pair.share)} of all that are {pair.truth}."
    )


def say_weakest(task: str, scores: TaskScores, i: int, trained_on: Sequence[int]) -> str:
    """How well the class with the lowest F1 is found, and how much of it the network was trained on."""
    found = f"it finds {percent(scores.recall[i])} of {count(int(scores.support[i]), 'photo')}"
    precision = f"and {percent(scores.precision[i])} of what it calls so is right"
    sentence = f"Its weakest class is {task} {scores.classes[i]}: {found}, {precision}."
    if not trained_on:
        return sentence
    share = trained_on[i] / max(sum(trained_on), 1)
    return f"{sentence} Of the photos that it was trained on, {share:.1%} were of this class."


def say_worst_slice(worst: Slice, everybody: TaskScores) -> str:
    """On whom it is worst, beside all."""
    low, high = worst.accuracy.low, worst.accuracy.high
    interval = "" if low is None or high is None else f" (95 % interval {percent(low)} to {percent(high)})"
    return (
        f"It is worst on {worst.column} {worst.value}: right on {percent(worst.accuracy.value)} of "
        f"{count(worst.photos, 'photo')} of {count(worst.people, 'person')}{interval}, of all photos on "
        f"{percent(everybody.accuracy)}."
    )


def say_calibration(evaluation: Evaluation) -> str:
    """Whether probabilities can be taken at their word."""
    task = max(evaluation.calibration, key=lambda name: evaluation.calibration[name].before.ece)
    found = evaluation.calibration[task].before
    filled = found.photos > 0
    counts = found.photos[filled]
    sure, right = (np.average(values[filled], weights=counts) for values in (found.confidence, found.accuracy))
    if found.ece < SMALL_ERROR:
        return f"It knows how sure it is: its largest calibration error is {number(found.ece)}, in {task}."
    tendency = "overrates" if sure > right else "underrates"
    return (
        f"It {tendency} itself most in {task}: {percent(sure)} sure on average, right on {percent(right)} "
        f"(calibration error {number(found.ece)})."
    )


def say_disagreement(mistakes: Mistakes, people: int, tasks: Sequence[str]) -> str:
    """Of how many people different photos got different answers."""
    if not tasks:
        return "Nobody here has two photos and a label that belongs to the person, so nothing can be compared."
    verb = "is" if len(tasks) == 1 else "are"
    return (
        f"{join(tasks).capitalize()} {verb} the same on all photos of a person, so all should get the same answer. "
        f"On {len(mistakes.divided):,} of {count(people, 'person')} they did not."
    )
