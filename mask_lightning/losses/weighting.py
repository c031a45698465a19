"""Weights of the tasks' losses in the sum that is minimized: fixed, learned, or adapted to how fast each loss falls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mask_lightning.settings.loss import WeightingSettings


def make_weighting(
    tasks: Sequence[str], task_weights: Mapping[str, float], settings: WeightingSettings | None = None
) -> Weighting:
    """Build the weighting of that name.

    Args:
        tasks: task names.
        task_weights: task -> weight, 1 if left out; used by fixed weighting only.
        settings: `name`, and the options of that weighting; None is fixed.

    Example:
        >>> weighting = make_weighting(["mask", "age"], {"age": 2.0})
        >>> weighting({"mask": torch.tensor(1.0), "age": torch.tensor(0.5)}).item()
        2.0
    """
    settings = settings or WeightingSettings()
    options = {name: value for name, value in settings.options.items() if name != "name"}
    if settings.name == "fixed":
        return FixedWeighting(tasks, task_weights)
    return ADAPTIVE_WEIGHTINGS[settings.name](tasks, **options)


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float] | Mapping[str, Tensor]) -> Tensor:
    """Return the sum of scalar losses, each times the weight of its task.

    Example:
        >>> weighted_sum({"mask": torch.tensor(1.0), "age": torch.tensor(2.0)}, {"mask": 1.0, "age": 0.5}).item()
        2.0
    """
    return torch.stack([weights[task] * loss for task, loss in losses.items()]).sum()


class Weighting(nn.Module, ABC):
    """Base of the weightings: {task: scalar loss} -> the scalar that is minimized.

    Args:
        tasks: task names.

    Attributes:
        is_adaptive: True if the weights change during training.
    """

    is_adaptive = True

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)

    @abstractmethod
    def weights(self) -> dict[str, float] | dict[str, Tensor]:
        """Return the current weight of each task, a scalar."""

    def forward(self, losses: Mapping[str, Tensor], labelled: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the weighted sum of the losses, a scalar.

        Args:
            losses: task -> loss of the batch, a scalar; 0 for a task without labels.
            labelled: task -> True if photos of the batch are labelled for it, a boolean scalar; None if all are.
        """
        return weighted_sum(losses, self.weights())

    def start_epoch(self, mean: Callable[[Tensor], Tensor]) -> None:
        """Prepare for an epoch; call it before each.

        Args:
            mean: averages a tensor over the processes of a run.
        """

    def running_sums(self) -> dict[str, Tensor]:
        """Return the sums of this process since the epoch began, by name, to be saved for a mid-epoch resume."""
        return {}

    def _count(self, labelled: Mapping[str, Tensor] | None, *, like: Tensor) -> Tensor:
        """Return 1 for each task that has labels in the batch, 0 for others (T,)."""
        if labelled is None:
            return torch.ones(len(self.tasks), dtype=like.dtype, device=like.device)
        return torch.stack([labelled[task] for task in self.tasks]).to(like.dtype)

    def _by_task(self, values: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.tasks, values.unbind(), strict=True))


class FixedWeighting(Weighting):
    """Constant weights.

    Args:
        tasks: task names.
        task_weights: task -> weight, 1 if left out.

    Example:
        >>> FixedWeighting(["mask", "age"], {"age": 2.0}).weights()
        {'mask': 1.0, 'age': 2.0}
    """

    is_adaptive = False

    def __init__(self, tasks: Sequence[str], task_weights: Mapping[str, float]) -> None:
        super().__init__(tasks)
        self.task_weights = {task: float(task_weights.get(task, 1.0)) for task in tasks}

    def weights(self) -> dict[str, float]:
        """Return the weights given."""
        return self.task_weights


class UncertaintyWeighting(Weighting):
    """Learned weights: the less certain the labels of a task, the smaller its weight.

    A loss L becomes L / sigma^2 + log sigma. The learned parameter is log sigma^2, which may be any number. It starts
    at 0, that is, with weight 1. A task without labels in a batch contributes neither term, so that the weight does not
    depend on how many batches have labels.

    Source: Kendall, Gal and Cipolla 2018, "Multi-task learning using uncertainty to weigh losses for scene geometry and
    semantics", arXiv:1705.07115, the form for classes (eq. 10). The form for regression, with L / 2, differs only by a
    constant in log sigma^2.

    Args:
        tasks: task names.

    Example:
        >>> weighting = UncertaintyWeighting(["mask", "age"])
        >>> weighting({"mask": torch.tensor(1.0), "age": torch.tensor(0.5)}).item()
        1.5
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(tasks)
        self.log_variances = nn.Parameter(torch.zeros(len(tasks)))

    def weights(self) -> dict[str, Tensor]:
        """Return 1 / sigma^2 of each task."""
        return self._by_task(torch.exp(-self.log_variances))

    def forward(self, losses: Mapping[str, Tensor], labelled: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the sum of L / sigma^2 + log sigma over the labelled tasks, a scalar that may be negative."""
        counts = self._count(labelled, like=self.log_variances)
        terms = {task: counts[i] * loss for i, (task, loss) in enumerate((t, losses[t]) for t in self.tasks)}
        return super().forward(terms) + (counts * self.log_variances).sum() / 2


class DynamicWeighting(Weighting):
    """Dynamic weight averaging: a task whose loss fell more slowly than the others' has a larger weight.

    The weights of T tasks are T softmax(r / t), where r is a task's mean loss in the last epoch divided by that in the
    epoch before. In the first two epochs all weights are 1. The means are over the batches with labels of the task,
    and are part of checkpoints.

    Source: Liu, Johns and Davison 2019, "End-to-end multi-task learning with attention", arXiv:1803.10704, eq. 7.

    Args:
        tasks: task names.
        temperature: t, 2 in the paper; larger values make the weights more equal.

    Example:
        >>> weighting = DynamicWeighting(["mask", "age"], temperature=2.0)
        >>> _ = weighting({"mask": torch.tensor(1.0), "age": torch.tensor(0.5)})
        >>> weighting.start_epoch(lambda value: value)
        >>> {task: weight.item() for task, weight in weighting.weights().items()}
        {'mask': 1.0, 'age': 1.0}
    """

    earlier: Tensor
    losses: Tensor
    batches: Tensor

    def __init__(self, tasks: Sequence[str], *, temperature: float = 2.0) -> None:
        super().__init__(tasks)
        self.temperature = temperature
        self.register_buffer("earlier", torch.zeros(2, len(tasks)))  # mean losses of the last epoch, of the one before
        self.register_buffer("losses", torch.zeros(len(tasks)), persistent=False)
        self.register_buffer("batches", torch.zeros(len(tasks)), persistent=False)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights of this epoch; their sum is T."""
        last, before = self.earlier
        ratios = last / before.clamp(min=torch.finfo(before.dtype).tiny)
        moved = len(self.tasks) * torch.softmax(ratios / self.temperature, dim=0)
        return self._by_task(torch.where((self.earlier > 0).all(), moved, torch.ones_like(moved)))

    def forward(self, losses: Mapping[str, Tensor], labelled: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the weighted sum of the losses, and add the losses of labelled tasks to the running sums."""
        counts = self._count(labelled, like=self.losses)
        self.losses += counts * torch.stack([losses[task] for task in self.tasks]).detach()
        self.batches += counts
        return super().forward(losses, labelled)

    def start_epoch(self, mean: Callable[[Tensor], Tensor]) -> None:
        """Store the mean losses of the epoch that ended, and reset the running sums.

        A task without labels in the whole epoch keeps its mean loss of the epoch before.
        """
        # Copies, as `mean` may work in place. All processes call it, also those without any batch.
        losses, batches = mean(self.losses.clone()), mean(self.batches.clone())
        if (batches > 0).any():
            means = torch.where(batches > 0, losses / batches, self.earlier[0])
            self.earlier = torch.stack([means, self.earlier[0]])
            self.losses.zero_()
            self.batches.zero_()

    def running_sums(self) -> dict[str, Tensor]:
        """Return the running loss sums and the number of batches with labels, per task."""
        return {"losses": self.losses, "batches": self.batches}


ADAPTIVE_WEIGHTINGS: dict[str, Callable[..., Weighting]] = {
    "uncertainty": UncertaintyWeighting,
    "dwa": DynamicWeighting,
}
"""Name in `weighting=` -> class; fixed weights need no options."""
