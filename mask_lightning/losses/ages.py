"""Losses for the task age: of ordered classes, of years, and of classes and years together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn
from torch.nn import functional as F

from mask_lightning.labels import UNLABELLED
from mask_lightning.losses.classification import ClassificationLoss, make_class_weights
from mask_lightning.models.heads import to_number
from mask_lightning.settings.loss import LossSettings

DECADE = 10.0  # years; squared errors in decades have about the scale of a cross-entropy

NumberWeights = Literal["none", "inverse"]


class OrdinalLoss(nn.Module):
    """Loss of ordered classes: binary cross-entropy of C - 1 questions, "is the class above k?".

    CORAL (Cao et al. 2020, "Rank consistent ordinal regression for neural networks with application to age estimation",
    arXiv:1901.07884, eq. 4) asks every question of every photo; the loss is the mean over photos of the sum over
    questions. CORN (Shi et al. 2023, "Deep neural networks for rank-consistent ordinal regression based on conditional
    probabilities", arXiv:2111.08851) asks question k only of photos whose class is at least k; the loss is the mean
    over all questions asked.

    Logit adjustment adds to the logit of a question tau times the difference between its log odds in the training
    photos and its log odds for equally frequent classes. With tau = 1 the network's own logits are balanced over
    classes.

    Args:
        class_counts: training photos per class (C,). All positive if classes are weighted or logits adjusted.
        settings: `logit_adjustment` and `class_weights` are used, as in ClassificationLoss.
        conditional: True for CORN, False for CORAL.

    Example:
        >>> loss = OrdinalLoss([50, 30, 20], conditional=True)
        >>> round(loss(torch.zeros(4, 2), torch.tensor([0, 1, 2, 1])).item(), 3)
        0.693
    """

    shift: Tensor
    weights: Tensor | None

    def __init__(
        self, class_counts: Sequence[float], settings: LossSettings | None = None, *, conditional: bool
    ) -> None:
        super().__init__()
        self.settings, self.conditional = settings or LossSettings(), conditional
        counts = torch.tensor(class_counts, dtype=torch.float32)
        excess = log_odds(counts, conditional=conditional) - log_odds(torch.ones_like(counts), conditional=conditional)
        self.register_buffer("shift", excess, persistent=False)
        self.register_buffer("weights", make_class_weights(counts, self.settings.class_weights), persistent=False)

    def forward(self, outputs: Tensor, target: Tensor, number: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar; 0 if no photo is labelled.

        Args:
            outputs: logits of the questions (B, C - 1).
            target: class indices (B,), UNLABELLED (-1) for photos without a label.
            number: not used; all task losses have the same arguments.
        """
        logits = outputs.float()
        if self.settings.logit_adjustment:
            logits = logits + self.settings.logit_adjustment * self.shift
        question = torch.arange(logits.shape[1], device=logits.device)
        labelled = (target != UNLABELLED)[:, None]
        asked = labelled & (target[:, None] >= question) if self.conditional else labelled.expand_as(logits)
        weights = asked.float()
        if self.weights is not None:
            weights = weights * self.weights[target.clamp(min=0)][:, None]
        losses = F.binary_cross_entropy_with_logits(
            logits, (target[:, None] > question).float(), weight=weights, reduction="none"
        )
        total = weights.sum() if self.conditional else weights[:, 0].sum()
        smallest = 1.0 if self.weights is None else self.weights.min()
        return losses.sum() / total.clamp(min=smallest)


def log_odds(counts: Tensor, *, conditional: bool) -> Tensor:
    """Return the log odds of "yes" to each question (C - 1,) from the photos per class (C,).

    Example:
        >>> log_odds(torch.tensor([2.0, 1.0, 1.0]), conditional=True)
        tensor([0., 0.])
    """
    above = counts.flip(0).cumsum(0).flip(0)[1:]
    others = counts[:-1] if conditional else counts.cumsum(0)[:-1]
    return above.log() - others.log()


class NumberLoss(nn.Module):
    """Weighted mean squared error of ages, in decades. Ages above `top` count as `top`.

    Rare ages count more: the weight of a photo is the inverse of the smoothed frequency of its age, and the weights of
    all training photos have mean 1.

    Source: Yang et al. 2021, "Delving into deep imbalanced regression", arXiv:2102.09554, label distribution smoothing
    (eq. 1 and section 3.2) with a Gaussian kernel.

    Args:
        counts: training photos per age in whole years, from 0 to `top` (top + 1,).
        top: largest age that the head predicts, see `models.heads.RegressionHead`.
        weights: "inverse", or "none" for plain mean squared error.
        smoothing: standard deviation of the kernel, years; 0 does not smooth.

    Example:
        >>> loss = NumberLoss([1.0] * 61, top=60, weights="none")
        >>> loss(torch.zeros(2, 1), torch.zeros(2), torch.tensor([40.0, float("nan")])).item()  # 30 years predicted
        1.0
    """

    weights: Tensor | None

    def __init__(
        self, counts: Sequence[float], *, top: float, weights: NumberWeights = "inverse", smoothing: float = 2.0
    ) -> None:
        super().__init__()
        self.top = top
        found = None if weights == "none" else inverse_weights(np.asarray(counts, np.float64), smoothing=smoothing)
        tensor = None if found is None else torch.from_numpy(found).float()
        self.register_buffer("weights", tensor, persistent=False)

    def forward(self, outputs: Tensor, target: Tensor, number: Tensor) -> Tensor:
        """Return the mean loss of the photos with a known age, a scalar; 0 if there are none.

        Args:
            outputs: outputs of the head (B, 1), before the sigmoid.
            target: not used; all task losses have the same arguments.
            number: ages in years (B,), NaN if not known.
        """
        known = ~number.isnan()
        truth = torch.where(known, number, 0.0).clamp(max=self.top)
        losses = ((to_number(outputs[:, 0], self.top) - truth) / DECADE).square() * known
        if self.weights is not None:
            losses = losses * self.weights[truth.round().long()]
        return losses.sum() / known.sum().clamp(min=1)


def inverse_weights(counts: npt.NDArray[np.float64], *, smoothing: float) -> npt.NDArray[np.float64]:
    """Return a weight per age (N,) with mean 1 over the photos; 0 for ages without photos.

    Args:
        counts: photos per age (N,).
        smoothing: standard deviation of the Gaussian kernel, in ages; 0 does not smooth.

    Example:
        >>> inverse_weights(np.array([1.0, 4.0, 0.0]), smoothing=0.0)
        array([2.5  , 0.625, 0.   ])
    """
    density = gaussian_filter1d(counts, smoothing, mode="constant") if smoothing else counts
    weights = np.divide(1.0, density, out=np.zeros_like(density), where=counts > 0)
    scaled: npt.NDArray[np.float64] = weights * counts.sum() / max((weights * counts).sum(), np.finfo(float).tiny)
    return scaled


class ClassAndNumberLoss(nn.Module):
    """Loss of the classes plus `share` times the loss of the age.

    Args:
        classes: loss of the first C outputs.
        number: loss of the last output.
        share: weight of `number`.

    Example:
        >>> ages = NumberLoss([1.0] * 61, top=60)
        >>> loss = ClassAndNumberLoss(ClassificationLoss([5, 3, 1]), ages, share=0.1)
        >>> loss(torch.zeros(2, 4), torch.tensor([0, 2]), torch.tensor([25.0, 60.0])).shape
        torch.Size([])
    """

    def __init__(self, classes: ClassificationLoss, number: NumberLoss, *, share: float) -> None:
        super().__init__()
        self.classes, self.number, self.share = classes, number, share

    def forward(self, outputs: Tensor, target: Tensor, number: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            outputs: outputs of the head (B, C + 1).
            target: class indices (B,), UNLABELLED (-1) for photos without a label.
            number: ages in years (B,), NaN if not known.
        """
        class_loss: Tensor = self.classes(outputs[:, :-1], target)
        number_loss: Tensor = self.number(outputs[:, -1:], target, number)
        return class_loss + self.share * number_loss

    def soft_losses(self, outputs: Tensor, probs: Tensor, *, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Return the soft-target losses of the classes, see `ClassificationLoss.soft_losses`."""
        return self.classes.soft_losses(outputs[:, :-1], probs, temperature=temperature)
