"""How the losses of several tasks are weighed against each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mask_lightning.errors import ConfigError, did_you_mean
from mask_lightning.losses.classification import weighted_sum


class Weighting(nn.Module, ABC):
    """Losses per task -> what is minimised.

    Args:
        tasks: their names.
    """

    is_moving = True  # whether the weights change while the network learns

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)

    @abstractmethod
    def weights(self) -> dict[str, float] | dict[str, Tensor]:
        """What each task's loss is multiplied by at this moment, scalars."""

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Scalar losses per task -> their sum, each times its weight."""
        return weighted_sum(losses, self.weights())

    def start_epoch(self, mean: Callable[[Tensor], Tensor]) -> None:
        """To be called before each epoch; `mean` is that over the processes that train together."""

    def sums(self) -> dict[str, Tensor]:
        """What this process has added up since the epoch began, by name: a run may go on from there."""
        return {}

    def _named(self, values: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.tasks, values.unbind(), strict=True))


class FixedWeighting(Weighting):
    """Weights that are given and stay.

    Args:
        tasks: their names.
        task_weights: task -> its weight, 1 if left out.
    """

    is_moving = False

    def __init__(self, tasks: Sequence[str], task_weights: Mapping[str, float]) -> None:
        super().__init__(tasks)
        self.task_weights = {task: float(task_weights.get(task, 1.0)) for task in tasks}

    def weights(self) -> dict[str, float]:
        """As given."""
        return self.task_weights


class UncertaintyWeighting(Weighting):
    """Learned weights: the less certain the labels of a task, the less its loss counts.

    Kendall, Gal and Cipolla 2018, "Multi-task learning using uncertainty to weigh losses for scene geometry and
    semantics", the form for classes (eq. 10): a loss L becomes L / sigma^2 + log sigma. What is learned is
    log sigma^2, which may be any number; it is 0 at the start, the weight 1. (The form for numbers, with half of L,
    would only move log sigma^2 by a constant.)
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(tasks)
        self.log_variances = nn.Parameter(torch.zeros(len(tasks)))

    def weights(self) -> dict[str, Tensor]:
        """1 / sigma^2."""
        return self._named(torch.exp(-self.log_variances))

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Scalar losses per task -> the sum of L / sigma^2 + log sigma, a scalar that may be negative."""
        return super().forward(losses) + self.log_variances.sum() / 2


class DynamicWeighting(Weighting):
    """Dynamic weight averaging: a task whose loss falls more slowly than the others' counts more in the next epoch.

    Liu, Johns and Davison 2019, "End-to-end multi-task learning with attention", eq. 7: the weights of T tasks are
    T softmax(r / t), where r is by how much the mean loss of a task changed, last epoch's divided by that of the one
    before. In the first two epochs all are 1. What it remembers is in the checkpoints.

    Args:
        tasks: their names.
        temperature: t, 2 in the paper; larger makes the weights more equal.
    """

    earlier: Tensor
    losses: Tensor
    batches: Tensor

    def __init__(self, tasks: Sequence[str], *, temperature: float = 2.0) -> None:
        super().__init__(tasks)
        self.temperature = temperature
        self.register_buffer("earlier", torch.zeros(2, len(tasks)))  # mean losses: of the last epoch, the one before
        self.register_buffer("losses", torch.zeros(len(tasks)), persistent=False)
        self.register_buffer("batches", torch.zeros(()), persistent=False)

    def weights(self) -> dict[str, Tensor]:
        """Of this epoch; their sum is T."""
        last, before = self.earlier
        ratios = last / before.clamp(min=torch.finfo(before.dtype).tiny)
        moved = len(self.tasks) * torch.softmax(ratios / self.temperature, dim=0)
        return self._named(torch.where((self.earlier > 0).all(), moved, torch.ones_like(moved)))

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Scalar losses per task -> their weighted sum; the losses are remembered."""
        self.losses += torch.stack([losses[task] for task in self.tasks]).detach()
        self.batches += 1
        return super().forward(losses)

    def start_epoch(self, mean: Callable[[Tensor], Tensor]) -> None:
        """The epoch that ended becomes the last one."""
        if self.batches > 0:
            self.earlier = torch.stack([mean(self.losses / self.batches), self.earlier[0]])
            self.losses.zero_()
            self.batches.zero_()

    def sums(self) -> dict[str, Tensor]:
        """Of the losses, and of the batches that had them."""
        return {"losses": self.losses, "batches": self.batches}


def make_weighting(
    tasks: Sequence[str], task_weights: Mapping[str, float], *, name: str = "fixed", **options: Any
) -> Weighting:
    """The weighting of that name: fixed, which takes `task_weights`, uncertainty or dwa, which take `options`.

    Raises:
        ConfigError: another name.
    """
    if name == "fixed":
        return FixedWeighting(tasks, task_weights)
    if name == "uncertainty":
        return UncertaintyWeighting(tasks, **options)
    if name == "dwa":
        return DynamicWeighting(tasks, **options)
    raise ConfigError(f"no weighting {name!r}; {did_you_mean(name, ('fixed', 'uncertainty', 'dwa'))}")
