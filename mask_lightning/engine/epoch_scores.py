"""Accumulate the scores of an epoch on the device: per task and for the combined class of all tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torchmetrics import CatMetric, MeanMetric, Metric
from torchmetrics.classification import MulticlassConfusionMatrix

from mask_lightning.labels import UNLABELLED, LabelSpace, Task
from mask_lightning.losses.weighting import weighted_sum
from mask_lightning.metrics.scores import JOINT, MAX_JOINT, METRICS, why_no_joint


class Scores(nn.Module):
    """Losses and confusion matrices of one side of the split (val, clean_train) over an epoch.

    A photo counts for the tasks that it is labelled for, and for the combined class if it is labelled for all. If the
    labels cannot measure the combined class (`metrics.scores.why_no_joint`), the mean over the tasks takes its place.

    Args:
        space: label space of the tasks.
        task_weights: task -> weight of its loss in the sum, 1 if left out.
        tops: for tasks that predict a number, the value at which larger numbers are cut off.

    Example:
        >>> from mask_lightning.labels import FACE
        >>> space = FACE.only(["mask"])
        >>> scores = Scores(space)
        >>> log_probs, target = {"mask": torch.eye(3).log()}, {"mask": torch.tensor([0, 1, 1])}
        >>> scores.update(log_probs, target, {"mask": torch.tensor(0.5)})
        >>> round(float(scores.compute()["mask/accuracy"]), 3)
        0.667
    """

    def __init__(
        self,
        space: LabelSpace,
        *,
        task_weights: Mapping[str, float] | None = None,
        tops: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.space, self.tops = space, dict(tops or {})
        self.task_weights = {task: (task_weights or {}).get(task, 1.0) for task in space.names}
        sizes = {task.name: task.num_classes for task in space.tasks}
        if space.num_codes <= MAX_JOINT:
            sizes[JOINT] = space.num_codes
        self.confusion = nn.ModuleDict(
            {name: MulticlassConfusionMatrix(size, ignore_index=UNLABELLED) for name, size in sizes.items()}
        )
        self.losses = nn.ModuleDict({name: MeanMetric() for name in space.names})
        self.numbers = nn.ModuleDict({name: CatMetric(nan_strategy="disable") for name in self.tops})

    def update(
        self, log_probs: Mapping[str, Tensor], target: Mapping[str, Tensor], losses: Mapping[str, Tensor]
    ) -> None:
        """Add a batch.

        Args:
            log_probs: task -> log probabilities (B, C).
            target: task -> class indices (B,), UNLABELLED where not known.
            losses: task -> mean loss over the photos that are labelled for it, a scalar.
        """
        preds = {task: values.argmax(dim=1) for task, values in log_probs.items()}
        for task in self.space.names:
            self._metric(self.confusion, task).update(preds[task], target[task])
            self._metric(self.losses, task).update(losses[task], (target[task] != UNLABELLED).sum())
        if JOINT in self.confusion:
            self._metric(self.confusion, JOINT).update(self.space.encode(preds), joint_target(self.space, target))

    def update_numbers(self, task: str, target: Tensor, truth: Tensor, predicted: Tensor) -> None:
        """Add a batch's class indices, true numbers (NaN where not known) and predicted numbers, each (B,)."""
        self._metric(self.numbers, task).update(torch.stack([target, truth, predicted], dim=1))

    def numbers_of(self, task: str) -> Tensor:
        """Return class index, true and predicted number of each photo whose number is known (N, 3)."""
        metric = self._metric(self.numbers, task)
        if not metric.update_called:
            return torch.zeros(0, 3)
        rows: Tensor = metric.compute()
        return rows[~rows[:, 1].isnan()]

    def compute(self) -> dict[str, Tensor]:
        """Compute all scores as scalars.

        Returns:
            The METRICS (`f1`, `accuracy`) of the combined class, or their mean over the tasks that have labels;
            `<task>/loss` (the mean over all labelled photos) and `<task>/<metric>`; `loss`, the weighted sum of the
            tasks' losses, which the batch size does not change; and for tasks that predict a number `<task>/mae` and
            `<task>/bias/<class>`, see `number_errors`.
        """
        matrices = self.confusion_matrices()
        losses = {task: self._metric(self.losses, task).compute() for task in self.space.names}
        labelled = {task: matrices[task].sum() > 0 for task in self.space.names}
        known = {task: torch.where(labelled[task], loss, 0.0) for task, loss in losses.items()}
        scores = {"loss": weighted_sum(known, self.task_weights)}
        tasks = [task for task in self.space.names if labelled[task]] or list(self.space.names)
        main = [JOINT] if JOINT in matrices and self.why_mean is None else tasks
        for name, metric in METRICS.items():
            scores[name] = torch.stack([metric.compute(matrices[matrix]) for matrix in main]).mean()
        for task in self.space.names:
            scores[f"{task}/loss"] = losses[task]
            scores |= {f"{task}/{name}": metric.compute(matrices[task]) for name, metric in METRICS.items()}
        for task, top in self.tops.items():
            errors = number_errors(self.numbers_of(task), self.space[task], top=top)
            scores |= {f"{task}/{name}": value for name, value in errors.items()}
        return scores

    def confusion_matrices(self) -> dict[str, Tensor]:
        """Return task -> counts (C, C), rows are the truth; the combined class has the key `joint`."""
        return {name: self._metric(self.confusion, name).compute() for name in self.confusion}

    @property
    def why_mean(self) -> str | None:
        """Reason why the mean of the tasks is the main score; None if the combined class, or the only task, is.

        It depends on the labels of all processes only.
        """
        if len(self.space.tasks) == 1:
            return None
        matrices = self.confusion_matrices()
        return why_no_joint(self.space, {name: matrix.sum(1).cpu().numpy() for name, matrix in matrices.items()})

    @property
    def is_empty(self) -> bool:
        """True if no batch was added since the last reset."""
        return not self._metric(self.losses, self.space.names[0]).update_called

    def reset(self) -> None:
        """Discard all batches."""
        for metrics in (self.confusion, self.losses, self.numbers):
            for name in metrics:
                self._metric(metrics, name).reset()

    @staticmethod
    def _metric(metrics: nn.ModuleDict, name: str) -> Metric:
        return cast(Metric, metrics[name])


def joint_target(space: LabelSpace, target: Mapping[str, Tensor]) -> Tensor:
    """Combine targets (B,) per task to codes (B,); UNLABELLED if a task of the photo is not labelled."""
    labelled = torch.stack([target[task] != UNLABELLED for task in space.names]).all(dim=0)
    return torch.where(labelled, space.encode(target), UNLABELLED)


def number_errors(numbers: Tensor, task: Task, *, top: float) -> dict[str, Tensor]:
    """Compute the errors of predicted numbers.

    Args:
        numbers: class index, true and predicted number of each photo (N, 3), as `Scores.numbers_of`.
        task: task with the classes' names.
        top: value at which larger true numbers are cut off, as in training.

    Returns:
        `mae`, and `bias/<class>`, the mean of predicted minus true, for each true class that has photos.

    Example:
        >>> from mask_lightning.labels import FACE
        >>> number_errors(torch.tensor([[0.0, 20.0, 23.0], [0.0, 25.0, 24.0]]), FACE["age"], top=60.0)
        {'mae': tensor(2.), 'bias/<30': tensor(1.)}
    """
    target, truth, predicted = numbers.unbind(dim=1)
    error = predicted - truth.clamp(max=top)
    found = {"mae": error.abs().mean()} if len(error) else {}
    for i, name in enumerate(task.classes):
        if (target == i).any():
            found[f"bias/{name}"] = error[target == i].mean()
    return found


class WeightedMean(Metric):
    """Weighted mean of scalars that never synchronizes with the device.

    torchmetrics' MeanMetric checks every value for NaN, for which the CPU waits for the GPU at every step; with
    `nan_strategy="disable"` it ignores the weights.

    Example:
        >>> mean = WeightedMean()
        >>> mean.update(1.0, 3)
        >>> mean.update(5.0, 1)
        >>> mean.compute()
        tensor(2.)
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, default=torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, value: Tensor | float, count: Tensor | int) -> None:
        """Add a scalar with the weight `count`."""
        self.total += value * count
        self.count += count

    def compute(self) -> Tensor:
        """Return the mean so far, a scalar; NaN before the first update."""
        return self.total / self.count

    def sums(self) -> dict[str, Tensor]:
        """Return the sums of this process by name; the tensors are updated in place."""
        return {"total": self.total, "count": self.count}
