"""Heads: the last layer of each task, and how its outputs become probabilities over the classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CORAL_BIAS_GAP = 3.0  # initial difference between the biases of neighbouring questions
YEARS_PER_LOGIT = 5.0  # distance of a predicted age from a class border that is worth one unit of log odds


def make_head(num_features: int, num_classes: int, *, name: str = "classes", **options: Any) -> Head:
    """Build a head of `HEADS` by name.

    Args:
        num_features: F, features per image.
        num_classes: C.
        name: one of HEADS.
        **options: further arguments of the head, and `drop_rate`.

    Example:
        >>> head = make_head(16, 3, name="regression", top=60.0, borders=[29.5, 59.5])
        >>> head.log_probs(head(torch.zeros(2, 16))).shape
        torch.Size([2, 3])
    """
    return HEADS[name](num_features, num_classes, **options)


class Head(nn.Module, ABC):
    """Base of the heads: dropout, a linear layer, and the probabilities over the classes that its outputs mean.

    Args:
        num_features: F, features per image.
        num_outputs: K, outputs of the linear layer.
        drop_rate: dropout before it.
        bias: True if the linear layer has a bias.
    """

    def __init__(self, num_features: int, num_outputs: int, *, drop_rate: float, bias: bool = True) -> None:
        super().__init__()
        self.drop = nn.Dropout(drop_rate)
        self.linear = nn.Linear(num_features, num_outputs, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return outputs (B, K), the input of the head's loss, from features (B, F)."""
        outputs: Tensor = self.linear(self.drop(features))
        return outputs

    @abstractmethod
    def log_probs(self, outputs: Tensor) -> Tensor:
        """Return log probabilities (B, C), float32, from outputs (B, K); the pred is their argmax."""

    def scores(self, outputs: Tensor) -> Tensor:
        """Return a score per class (B, C), which heat maps differentiate, from outputs (B, K)."""
        return self.log_probs(outputs)

    def number(self, outputs: Tensor) -> Tensor | None:
        """Return the predicted age in years (B,), float32, from outputs (B, K); None if the head predicts none."""
        return None


class ClassHead(Head):
    """A logit per class: outputs (B, C).

    Args:
        num_features: F, features per image.
        num_classes: C.
        drop_rate: dropout before the linear layer.

    Example:
        >>> head = ClassHead(16, 3)
        >>> head.log_probs(head(torch.zeros(2, 16))).exp().sum(dim=1).round(decimals=3)
        tensor([1., 1.], grad_fn=<RoundBackward1>)
    """

    def __init__(self, num_features: int, num_classes: int, *, drop_rate: float = 0.0) -> None:
        super().__init__(num_features, num_classes, drop_rate=drop_rate)

    def log_probs(self, outputs: Tensor) -> Tensor:
        """Return the log softmax of the logits (B, C)."""
        return F.log_softmax(outputs.float(), dim=1)

    def scores(self, outputs: Tensor) -> Tensor:
        """Return the logits (B, C): the softmax of a confident pred has no gradient.

        Source: Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks via gradient-based
        localization", arXiv:1610.02391.
        """
        return outputs


class RegressionHead(Head):
    """An age from 0 to `top` years through a sigmoid: outputs (B, 1).

    Squared errors train a number and no probabilities. The probabilities of the classes are an adjacent-categories
    model: the log odds of a class against the one below it are the distance of the age from their border, divided by
    YEARS_PER_LOGIT. So the most probable class is always the one that contains the age, and calibration by a
    temperature fits YEARS_PER_LOGIT.

    Source: Agresti 2010, "Analysis of ordinal categorical data", section 4.1.

    Args:
        num_features: F, features per image.
        num_classes: C.
        top: largest age that can be predicted; older ages count as this.
        borders: years at which the second and each further class begin (C - 1), rising and below `top`.
        drop_rate: dropout before the linear layer.

    Raises:
        ValueError: the number of borders is not C - 1.

    Example:
        >>> head = RegressionHead(16, 3, top=60.0, borders=[29.5, 59.5])
        >>> head.number(torch.zeros(2, 1))
        tensor([30., 30.])
        >>> head.log_probs(torch.zeros(2, 1)).argmax(dim=1)
        tensor([1, 1])
    """

    borders: Tensor

    def __init__(
        self, num_features: int, num_classes: int, *, top: float, borders: Sequence[float], drop_rate: float = 0.0
    ) -> None:
        super().__init__(num_features, 1, drop_rate=drop_rate)
        if len(borders) != num_classes - 1:
            raise ValueError(f"expected {num_classes - 1} borders between {num_classes} classes, got {list(borders)}")
        self.top = top
        self.register_buffer("borders", torch.tensor(borders), persistent=False)

    def log_probs(self, outputs: Tensor) -> Tensor:
        """Return the log probabilities (B, C) of the adjacent-categories model."""
        odds = (to_number(outputs[:, 0], self.top)[:, None] - self.borders) / YEARS_PER_LOGIT
        return F.log_softmax(F.pad(odds.cumsum(dim=1), (1, 0)), dim=1)

    def number(self, outputs: Tensor) -> Tensor:
        """Return the predicted age in years (B,)."""
        return to_number(outputs[:, 0], self.top)


class ClassAndNumberHead(Head):
    """A logit per class and an age, which only helps to learn the features: outputs (B, C + 1).

    Args:
        num_features: F, features per image.
        num_classes: C.
        top: largest age that can be predicted; older ages count as this.
        drop_rate: dropout before the linear layer.

    Example:
        >>> head = ClassAndNumberHead(16, 3, top=60.0)
        >>> outputs = head(torch.zeros(2, 16))
        >>> outputs.shape, head.log_probs(outputs).shape, head.number(outputs).shape
        (torch.Size([2, 4]), torch.Size([2, 3]), torch.Size([2]))
    """

    def __init__(self, num_features: int, num_classes: int, *, top: float, drop_rate: float = 0.0) -> None:
        super().__init__(num_features, num_classes + 1, drop_rate=drop_rate)
        self.top = top

    def log_probs(self, outputs: Tensor) -> Tensor:
        """Return the log softmax of the class logits (B, C)."""
        return F.log_softmax(outputs[:, :-1].float(), dim=1)

    def scores(self, outputs: Tensor) -> Tensor:
        """Return the class logits (B, C), as ClassHead."""
        return outputs[:, :-1]

    def number(self, outputs: Tensor) -> Tensor:
        """Return the predicted age in years (B,)."""
        return to_number(outputs[:, -1], self.top)


class CoralHead(Head):
    """CORAL: logits of "is the class above k?" from one weight vector and a bias per k: outputs (B, C - 1).

    The probability of a class is the difference between neighbouring answers. The pred is the most probable class, as
    for every head; the paper takes the number of questions answered with yes, the median of these probabilities.

    Source: Cao, Mirjalili and Raschka 2020, "Rank consistent ordinal regression for neural networks with application to
    age estimation", arXiv:1901.07884.

    Args:
        num_features: F, features per image.
        num_classes: C.
        drop_rate: dropout before the linear layer.

    Example:
        >>> head = CoralHead(16, 3)
        >>> outputs = head(torch.zeros(2, 16))
        >>> outputs.shape, head.log_probs(outputs).shape
        (torch.Size([2, 2]), torch.Size([2, 3]))
    """

    def __init__(self, num_features: int, num_classes: int, *, drop_rate: float = 0.0) -> None:
        super().__init__(num_features, 1, drop_rate=drop_rate, bias=False)
        # Descending, as trained biases are. A middle class is never the most probable one if its two biases differ by
        # less than log 4, and an optimizer step moves them by at most the lr.
        self.bias = nn.Parameter(CORAL_BIAS_GAP * ((num_classes - 2) / 2 - torch.arange(num_classes - 1)))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, C - 1) from features (B, F)."""
        return super().forward(features) + self.bias

    def log_probs(self, outputs: Tensor) -> Tensor:
        """Return the logs of the differences of sigmoids (B, C); differences of unordered logits count as 0."""
        logits = outputs.float()
        above, below = F.logsigmoid(logits), F.logsigmoid(-logits)
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)) keeps its precision if both are near 1.
        gaps = (logits[:, 1:] - logits[:, :-1]).clamp(max=-1e-6)
        middle = above[:, :-1] + below[:, 1:] + torch.log(-torch.expm1(gaps))
        return F.log_softmax(torch.cat([below[:, :1], middle, above[:, -1:]], dim=1), dim=1)


class CornHead(Head):
    """CORN: logits of "is the class above k, given that it is at least k?": outputs (B, C - 1).

    The probability of a class is a product of answers, by the chain rule. The pred is the most probable class.

    Source: Shi, Cao and Raschka 2023, "Deep neural networks for rank-consistent ordinal regression based on conditional
    probabilities", arXiv:2111.08851.

    Args:
        num_features: F, features per image.
        num_classes: C.
        drop_rate: dropout before the linear layer.

    Example:
        >>> CornHead(16, 3).log_probs(torch.zeros(1, 2)).exp()
        tensor([[0.5000, 0.2500, 0.2500]])
    """

    def __init__(self, num_features: int, num_classes: int, *, drop_rate: float = 0.0) -> None:
        super().__init__(num_features, num_classes - 1, drop_rate=drop_rate)

    def log_probs(self, outputs: Tensor) -> Tensor:
        """Return log probabilities (B, C): above all classes below, and not above this one."""
        logits = outputs.float()
        reached = F.pad(F.logsigmoid(logits).cumsum(dim=1), (1, 0))
        return reached + F.pad(F.logsigmoid(-logits), (0, 1))


def to_number(outputs: Tensor, top: float) -> Tensor:
    """Return ages from 0 to `top` years, float32, from outputs of any shape.

    Example:
        >>> to_number(torch.zeros(1), top=60.0)
        tensor([30.])
    """
    return top * outputs.float().sigmoid()


HEADS: dict[str, Callable[..., Head]] = {
    "classes": ClassHead,
    "regression": RegressionHead,
    "classes_and_regression": ClassAndNumberHead,
    "coral": CoralHead,
    "corn": CornHead,
}
"""Name -> class. `head=ordinal` is coral or corn, by `head.method`."""
