"""What a task predicts with. Only the loss of a head has to know which one it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GAP = 3.0  # between the biases of CORAL's questions, at the start
SCALE = 5.0  # years; how fast a regressed age that moves away from a border becomes sure of its side


class Head(nn.Module, ABC):
    """Dropout and one linear layer, and how its outputs become probabilities over the classes.

    Args:
        num_features: of an image.
        num_outputs: of the linear layer.
        drop_rate: dropout in front of it.
        bias: whether the linear layer has its own.
    """

    def __init__(self, num_features: int, num_outputs: int, *, drop_rate: float, bias: bool = True) -> None:
        super().__init__()
        self.drop = nn.Dropout(drop_rate)
        self.linear = nn.Linear(num_features, num_outputs, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, F) -> outputs (B, K), what the head's loss takes."""
        outputs: Tensor = self.linear(self.drop(features))
        return outputs

    @abstractmethod
    def log_probs(self, outputs: Tensor) -> Tensor:
        """Outputs (B, K) -> log probabilities (B, C), float32; the prediction is their argmax."""

    def scores(self, outputs: Tensor) -> Tensor:
        """Outputs (B, K) -> what speaks for each class (B, C): what a heat map differentiates."""
        return self.log_probs(outputs)

    def number(self, outputs: Tensor) -> Tensor | None:
        """Outputs (B, K) -> the predicted number (B,), float32; None of a head that predicts classes alone."""
        return None


class ClassHead(Head):
    """A logit per class: outputs (B, C)."""

    def __init__(self, num_features: int, num_classes: int, *, drop_rate: float = 0.0) -> None:
        super().__init__(num_features, num_classes, drop_rate=drop_rate)

    def log_probs(self, outputs: Tensor) -> Tensor:
        """Their softmax."""
        return F.log_softmax(outputs.float(), dim=1)

    def scores(self, outputs: Tensor) -> Tensor:
        """The logits: of a sure answer the softmax has no gradient left (Selvaraju et al. 2017 take them, too)."""
        return outputs


class RegressionHead(Head):
    """A number from 0 to `top`, by a sigmoid: outputs (B, 1).

    MSE trains a number and no probabilities. Those of the classes are an adjacent-categories model (Agresti 2010,
    "Analysis of ordinal categorical data", section 4.1): the log odds of a class against the one below it are the
    distance of the number from their border, in units of SCALE. So the most probable class is always the one in which
    the number lies, and a temperature (`evaluate calibrate=true`) is the fit of SCALE.

    Args:
        num_features, drop_rate: as of Head.
        num_classes: C.
        top: the number that the sigmoid's 1 stands for; what is larger counts as this.
        borders: where the second and each further class begins (C - 1), rising and below `top`.
    """

    borders: Tensor

    def __init__(
        self, num_features: int, num_classes: int, *, top: float, borders: Sequence[float], drop_rate: float = 0.0
    ) -> None:
        super().__init__(num_features, 1, drop_rate=drop_rate)
        assert len(borders) == num_classes - 1
        self.top = top
        self.register_buffer("borders", torch.tensor(borders), persistent=False)

    def log_probs(self, outputs: Tensor) -> Tensor:
        """Of the adjacent-categories model."""
        odds = (to_number(outputs[:, 0], self.top)[:, None] - self.borders) / SCALE
        return F.log_softmax(F.pad(odds.cumsum(dim=1), (1, 0)), dim=1)

    def number(self, outputs: Tensor) -> Tensor:
        """The number (B,)."""
        return to_number(outputs[:, 0], self.top)


class ClassAndNumberHead(Head):
    """A logit per class, and beside them a number that only helps the features: outputs (B, C + 1).

    Args:
        num_features, drop_rate: as of Head.
        num_classes: C.
        top: as of RegressionHead.
    """

    def __init__(self, num_features: int, num_classes: int, *, top: float, drop_rate: float = 0.0) -> None:
        super().__init__(num_features, num_classes + 1, drop_rate=drop_rate)
        self.top = top

    def log_probs(self, outputs: Tensor) -> Tensor:
        """The softmax of the classes' logits."""
        return F.log_softmax(outputs[:, :-1].float(), dim=1)

    def scores(self, outputs: Tensor) -> Tensor:
        """The classes' logits, as of ClassHead."""
        return outputs[:, :-1]

    def number(self, outputs: Tensor) -> Tensor:
        """The number (B,)."""
        return to_number(outputs[:, -1], self.top)


class CoralHead(Head):
    """The logits of "is it above class k?" from one weight vector and a bias per k: outputs (B, C - 1).

    Cao, Mirjalili and Raschka 2020, "Rank consistent ordinal regression for neural networks with application to age
    estimation". The probability of a class is the difference of two neighbours'. The paper answers with the number of
    questions that are more likely true than not, the median of these probabilities; we take the most probable class,
    as of every head.
    """

    def __init__(self, num_features: int, num_classes: int, *, drop_rate: float = 0.0) -> None:
        super().__init__(num_features, 1, drop_rate=drop_rate, bias=False)
        # Falling, as trained ones are. A class between two others is never the most probable one where their biases are
        # less than log 4 apart, and an optimizer moves them by no more than its lr at a step.
        self.bias = nn.Parameter(GAP * ((num_classes - 2) / 2 - torch.arange(num_classes - 1)))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, F) -> logits (B, C - 1)."""
        return super().forward(features) + self.bias

    def log_probs(self, outputs: Tensor) -> Tensor:
        """Differences of sigmoids; 0 at least, where the biases are not (yet) in order."""
        logits = outputs.float()
        above, below = F.logsigmoid(logits), F.logsigmoid(-logits)
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)) loses no digits where both are near 1.
        gaps = (logits[:, 1:] - logits[:, :-1]).clamp(max=-1e-6)
        middle = above[:, :-1] + below[:, 1:] + torch.log(-torch.expm1(gaps))
        return F.log_softmax(torch.cat([below[:, :1], middle, above[:, -1:]], dim=1), dim=1)


class CornHead(Head):
    """The logits of "is it above class k, given that it is not below it?": outputs (B, C - 1).

    Shi, Cao and Raschka 2023, "Deep neural networks for rank-consistent ordinal regression based on conditional
    probabilities". The probability of a class is a product of the answers; the prediction as of CoralHead.
    """

    def __init__(self, num_features: int, num_classes: int, *, drop_rate: float = 0.0) -> None:
        super().__init__(num_features, num_classes - 1, drop_rate=drop_rate)

    def log_probs(self, outputs: Tensor) -> Tensor:
        """The chain rule: above all classes below, and not above this one."""
        logits = outputs.float()
        reached = F.pad(F.logsigmoid(logits).cumsum(dim=1), (1, 0))
        return reached + F.pad(F.logsigmoid(-logits), (0, 1))


def to_number(outputs: Tensor, top: float) -> Tensor:
    """Outputs of any shape -> numbers from 0 to `top`, float32."""
    return top * outputs.float().sigmoid()


HEADS: dict[str, type[ClassHead | RegressionHead | ClassAndNumberHead | CoralHead | CornHead]] = {
    "classes": ClassHead,
    "regression": RegressionHead,
    "classes_and_regression": ClassAndNumberHead,
    "coral": CoralHead,
    "corn": CornHead,
}


def make_head(num_features: int, num_classes: int, *, name: str = "classes", **options: Any) -> Head:
    """The head of that name, one of HEADS; `options` are its own."""
    head: Head = HEADS[name](num_features, num_classes, **options)
    return head
