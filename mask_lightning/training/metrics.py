"""Scores per task and for the combined class, from confusion matrices that accumulate on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassConfusionMatrix

from mask_lightning.labels import LabelSpace

TOTAL = "total"  # the weighted sum of the tasks' losses
JOINT = "joint"  # the combined class of all tasks


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


class Scores(nn.Module):
    """Accumulates one side of the split (val, clean_train) over an epoch."""

    def __init__(self, space: LabelSpace) -> None:
        super().__init__()
        self.space = space
        sizes = {task.name: task.num_classes for task in space.tasks} | {JOINT: space.num_codes}
        self.confusion = nn.ModuleDict({name: MulticlassConfusionMatrix(size) for name, size in sizes.items()})
        self.losses = nn.ModuleDict({name: MeanMetric() for name in (TOTAL, *space.names)})

    def update(
        self, logits: Mapping[str, Tensor], target: Mapping[str, Tensor], losses: Mapping[str, Tensor], total: Tensor
    ) -> None:
        """Add a batch: logits (B, C) and targets (B,) per task, mean losses per task and in all."""
        preds = {task: values.argmax(dim=1) for task, values in logits.items()}
        for task in self.space.names:
            self._metric(self.confusion, task).update(preds[task], target[task])
        self._metric(self.confusion, JOINT).update(self.space.encode(preds), self.space.encode(target))
        count = len(preds[self.space.names[0]])
        for name, loss in {TOTAL: total, **losses}.items():
            self._metric(self.losses, name).update(loss, count)

    def compute(self) -> dict[str, Tensor]:
        """`loss`, `f1`, `accuracy` of the combined class, and `<task>/loss|f1|accuracy`, scalars."""
        scores = {"loss": self._metric(self.losses, TOTAL).compute()}
        matrices = self.confusion_matrices()
        scores |= {"f1": macro_f1(matrices[JOINT]), "accuracy": accuracy(matrices[JOINT])}
        for task in self.space.names:
            scores[f"{task}/loss"] = self._metric(self.losses, task).compute()
            scores[f"{task}/f1"] = macro_f1(matrices[task])
            scores[f"{task}/accuracy"] = accuracy(matrices[task])
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
        for metrics in (self.confusion, self.losses):
            for name in metrics:
                self._metric(metrics, name).reset()

    @staticmethod
    def _metric(metrics: nn.ModuleDict, name: str) -> Metric:
        return cast(Metric, metrics[name])
