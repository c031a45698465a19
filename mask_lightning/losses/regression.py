"""The loss of a number that classes are cut from, such as an age: alone, or beside that of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from mask_lightning.losses.classification import ClassificationLoss
from mask_lightning.models.heads import to_number

UNIT = 10.0  # years; an error of a decade costs 1, about as much as a wrong class

NumberWeights = Literal["none", "inverse"]


class NumberLoss(nn.Module):
    """Weighted mean squared error in decades, of numbers of which all above `top` count as `top`.

    Rare numbers count more: a photo's weight is the inverse of how frequent its number is in the training photos, and
    its neighbours with it (label distribution smoothing; Yang et al. 2021, "Delving into deep imbalanced regression",
    eq. 1 and section 3.2, with their Gaussian kernel). The weights of all training photos have the mean 1.

    Args:
        counts: training photos per whole number from 0 to `top` (top + 1,).
        top: as of `models.heads.RegressionHead`.
        weights: "inverse", or "none" for plain MSE.
        smoothing: standard deviation of the kernel, in years; 0 takes each number for itself.
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
        """Outputs (B, 1), numbers (B,), NaN where not known -> mean loss of the known ones, a scalar; 0 without one."""
        known = ~number.isnan()
        truth = torch.where(known, number, 0.0).clamp(max=self.top)
        losses = ((to_number(outputs[:, 0], self.top) - truth) / UNIT).square() * known
        if self.weights is not None:
            losses = losses * self.weights[truth.round().long()]
        return losses.sum() / known.sum().clamp(min=1)


class ClassAndNumberLoss(nn.Module):
    """That of the classes, and `share` times that of the number beside them: outputs (B, C + 1)."""

    def __init__(self, classes: ClassificationLoss, number: NumberLoss, *, share: float) -> None:
        super().__init__()
        self.classes, self.number, self.share = classes, number, share

    def forward(self, outputs: Tensor, target: Tensor, number: Tensor) -> Tensor:
        """Outputs (B, C + 1), target (B,), numbers (B,) -> a scalar."""
        of_classes: Tensor = self.classes(outputs[:, :-1], target)
        of_number: Tensor = self.number(outputs[:, -1:], target, number)
        return of_classes + self.share * of_number


def inverse_weights(counts: npt.NDArray[np.float64], *, smoothing: float) -> npt.NDArray[np.float64]:
    """Photos per whole number (N,) -> a weight for each (N,), of mean 1 over the photos; 0 where there are none."""
    density = gaussian_filter1d(counts, smoothing, mode="constant") if smoothing else counts
    there = counts > 0
    weights = np.divide(1.0, density, out=np.zeros_like(density), where=there)
    scaled: npt.NDArray[np.float64] = weights * counts.sum() / max((weights * counts).sum(), np.finfo(float).tiny)
    return scaled
