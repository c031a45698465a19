"""Scores per task and for the combined class, from confusion matrices that accumulate on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torchmetrics import CatMetric, MeanMetric, Metric
from torchmetrics.classification import MulticlassConfusionMatrix

from mask_lightning.labels import UNLABELLED, LabelSpace, Task

TOTAL = "total"  # the weighted sum of the tasks' losses
JOINT = "joint"  # the combined class of all tasks
MAX_JOINT = 100  # combined classes; beyond, their confusion matrix would be huge and nearly empty


def macro_f1(confusion: Tensor) -> Tensor:
    """Confusion matrix (C, C), rows the truth -> mean F1 over all C classes, a scalar.

    A class that occurs neither among the targets nor among the preds counts as 0: the competition's score averages
    all classes (torchmetrics leaves such a class out).
    """
    return f1_per_class(confusion).mean()


def f1_per_class(confusion: Tensor) -> Tensor:
    """Confusion matrix (C, C), rows the truth -> F1 of each class (C,), 0 where a class never occurs."""
    hits = confusion.diagonal().float()
    of = confusion.sum(0) + confusion.sum(1)
    return 2 * hits / of.clamp(min=1)


def accuracy(confusion: Tensor) -> Tensor:
    """Confusion matrix (C, C) -> share of right preds, a scalar."""
    return confusion.diagonal().float().sum() / confusion.sum().clamp(min=1)


def joint_target(space: LabelSpace, target: Mapping[str, Tensor]) -> Tensor:
    """Targets (B,) per task -> codes (B,), UNLABELLED where a task of the photo is not labelled."""
    labelled = torch.stack([target[task] != UNLABELLED for task in space.names]).all(dim=0)
    return torch.where(labelled, space.encode(target), UNLABELLED)


def number_errors(numbers: Tensor, task: Task, *, top: float) -> dict[str, Tensor]:
    """How far predicted numbers are off: `mae`, and `bias/<class>` (the mean of predicted minus true) per true class.

    Args:
        numbers: target, true and predicted number of each photo (N, 3), as `Scores.numbers_of`.
        task: names the classes; one without a photo has no bias.
        top: what all larger true numbers count as, as they did in training.
    """
    target, truth, said = numbers.unbind(dim=1)
    error = said - truth.clamp(max=top)
    found = {"mae": error.abs().mean()} if len(error) else {}
    for i, name in enumerate(task.classes):
        if (target == i).any():
            found[f"bias/{name}"] = error[target == i].mean()
    return found


class WeightedMean(Metric):
    """The mean of scalars, each counted as often as told.

    torchmetrics' MeanMetric looks whether a value is NaN, for which a GPU has to wait at every step; told not to look
    (`nan_strategy="disable"`), it takes all weights for 1.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, default=torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, value: Tensor | float, count: Tensor | int) -> None:
        """Add a scalar."""
        self.total += value * count
        self.count += count

    def compute(self) -> Tensor:
        """The mean so far, a scalar; NaN before the first."""
        return self.total / self.count

    def sums(self) -> dict[str, Tensor]:
        """Of what this process has added, by name."""
        return {"total": self.total, "count": self.count}


class Scores(nn.Module):
    """Accumulates one side of the split (val, clean_train) over an epoch.

    A photo counts for the tasks that it is labelled for, and for the combined class if it is labelled for all. A
    label space of more than MAX_JOINT combined classes is scored by the mean of its tasks instead.

    Args:
        space: the tasks.
        tops: of tasks that predict a number, what all larger ones count as.
    """

    def __init__(self, space: LabelSpace, *, tops: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.space, self.tops = space, dict(tops or {})
        sizes = {task.name: task.num_classes for task in space.tasks}
        if space.num_codes <= MAX_JOINT:
            sizes[JOINT] = space.num_codes
        self.confusion = nn.ModuleDict(
            {name: MulticlassConfusionMatrix(size, ignore_index=UNLABELLED) for name, size in sizes.items()}
        )
        self.losses = nn.ModuleDict({name: MeanMetric() for name in (TOTAL, *space.names)})
        self.numbers = nn.ModuleDict({name: CatMetric(nan_strategy="disable") for name in self.tops})

    def update(
        self, log_probs: Mapping[str, Tensor], target: Mapping[str, Tensor], losses: Mapping[str, Tensor], total: Tensor
    ) -> None:
        """Add a batch: log probabilities (B, C) and targets (B,) per task, mean losses per task and in all."""
        preds = {task: values.argmax(dim=1) for task, values in log_probs.items()}
        for task in self.space.names:
            self._metric(self.confusion, task).update(preds[task], target[task])
            self._metric(self.losses, task).update(losses[task], (target[task] != UNLABELLED).sum())
        if JOINT in self.confusion:
            self._metric(self.confusion, JOINT).update(self.space.encode(preds), joint_target(self.space, target))
        self._metric(self.losses, TOTAL).update(total, len(preds[self.space.names[0]]))

    def update_numbers(self, task: str, target: Tensor, truth: Tensor, said: Tensor) -> None:
        """Add a batch's targets, true numbers (NaN where not known) and predicted ones, each (B,)."""
        self._metric(self.numbers, task).update(torch.stack([target, truth, said], dim=1))

    def numbers_of(self, task: str) -> Tensor:
        """Target, true and predicted number of each photo whose number is known (N, 3)."""
        metric = self._metric(self.numbers, task)
        if not metric.update_called:
            return torch.zeros(0, 3)
        rows: Tensor = metric.compute()
        return rows[~rows[:, 1].isnan()]

    def compute(self) -> dict[str, Tensor]:
        """`loss`, `f1`, `accuracy` of the combined class, and `<task>/loss|f1|accuracy`, scalars.

        Of tasks that predict a number also `<task>/mae` and `<task>/bias/<class>`, see `number_errors`.
        """
        matrices = self.confusion_matrices()
        scores = {"loss": self._metric(self.losses, TOTAL).compute()}
        over = [JOINT] if JOINT in matrices else list(self.space.names)
        for name, score in (("f1", macro_f1), ("accuracy", accuracy)):
            scores[name] = torch.stack([score(matrices[matrix]) for matrix in over]).mean()
        for task in self.space.names:
            scores[f"{task}/loss"] = self._metric(self.losses, task).compute()
            scores[f"{task}/f1"] = macro_f1(matrices[task])
            scores[f"{task}/accuracy"] = accuracy(matrices[task])
        for task, top in self.tops.items():
            errors = number_errors(self.numbers_of(task), self.space[task], top=top)
            scores |= {f"{task}/{name}": value for name, value in errors.items()}
        return scores

    def confusion_matrices(self) -> dict[str, Tensor]:
        """Task -> counts (C, C), rows the truth; the combined class as `joint`."""
        return {name: self._metric(self.confusion, name).compute() for name in self.confusion}

    @property
    def is_empty(self) -> bool:
        """Whether no batch was added since the last reset."""
        return not self._metric(self.losses, TOTAL).update_called

    def reset(self) -> None:
        """Forget everything."""
        for metrics in (self.confusion, self.losses, self.numbers):
            for name in metrics:
                self._metric(metrics, name).reset()

    @staticmethod
    def _metric(metrics: nn.ModuleDict, name: str) -> Metric:
        return cast(Metric, metrics[name])
