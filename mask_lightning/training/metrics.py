"""Scores per task and for the combined class, from confusion matrices that accumulate on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassConfusionMatrix

from mask_lightning.labels import UNLABELLED, LabelSpace

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


class Scores(nn.Module):
    """Accumulates one side of the split (val, clean_train) over an epoch.

    A photo counts for the tasks that it is labelled for, and for the combined class if it is labelled for all. A
    label space of more than MAX_JOINT combined classes is scored by the mean of its tasks instead.
    """

    def __init__(self, space: LabelSpace) -> None:
        super().__init__()
        self.space = space
        sizes = {task.name: task.num_classes for task in space.tasks}
        if space.num_codes <= MAX_JOINT:
            sizes[JOINT] = space.num_codes
        self.confusion = nn.ModuleDict(
            {name: MulticlassConfusionMatrix(size, ignore_index=UNLABELLED) for name, size in sizes.items()}
        )
        self.losses = nn.ModuleDict({name: MeanMetric() for name in (TOTAL, *space.names)})

    def update(
        self, logits: Mapping[str, Tensor], target: Mapping[str, Tensor], losses: Mapping[str, Tensor], total: Tensor
    ) -> None:
        """Add a batch: logits (B, C) and targets (B,) per task, mean losses per task and in all."""
        preds = {task: values.argmax(dim=1) for task, values in logits.items()}
        for task in self.space.names:
            self._metric(self.confusion, task).update(preds[task], target[task])
            self._metric(self.losses, task).update(losses[task], (target[task] != UNLABELLED).sum())
        if JOINT in self.confusion:
            self._metric(self.confusion, JOINT).update(self.space.encode(preds), joint_target(self.space, target))
        self._metric(self.losses, TOTAL).update(total, len(preds[self.space.names[0]]))

    def compute(self) -> dict[str, Tensor]:
        """`loss`, `f1`, `accuracy` of the combined class, and `<task>/loss|f1|accuracy`, scalars."""
        matrices = self.confusion_matrices()
        scores = {"loss": self._metric(self.losses, TOTAL).compute()}
        over = [JOINT] if JOINT in matrices else list(self.space.names)
        for name, score in (("f1", macro_f1), ("accuracy", accuracy)):
            scores[name] = torch.stack([score(matrices[matrix]) for matrix in over]).mean()
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
