"""Types of a sample and of a batch, and how the images of a batch were mixed."""

from __future__ import annotations

from typing import NamedTuple, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt
from torch import Tensor


class Mix(NamedTuple):
    """How a batch was mixed: image i is `share` of photo i and `1 - share` of photo `partner[i]`.

    Attributes:
        partner: a permutation of the batch (B,).
        share: in 0..1.
    """

    partner: Tensor
    share: float


class SoftTarget(NamedTuple):
    """Probabilities of the classes of one task, in place of or beside a label.

    Attributes:
        probs: (C,), in a batch (B, C).
        weight: (), in a batch (B,); 0 for a photo without soft target.
    """

    probs: Tensor
    weight: Tensor

    def of(self, rows: Tensor) -> SoftTarget:
        """Return the targets of these photos of the batch."""
        return SoftTarget(self.probs[rows], self.weight[rows])


class Sample(TypedDict):
    """One photo with its targets, or a batch of them after collation.

    Attributes:
        image: uint8 (3, H, W), in a batch (B, 3, H, W).
        target: task -> class (B,), UNLABELLED for a photo without a label.
        index: row of the sample table (B,).
        person: number of the person (B,), equal for photos of one person.
        number: task -> the number behind the class, such as the age in years (B,), NaN if unknown.
        operations: RandAugment's operations that are left to the device (B, num_ops + 1), as a NumPy array, which
            Lightning leaves on the host.
        soft: task -> soft targets; only if the run has any.
        mix: how the images of the batch were mixed; the targets were not.
    """

    image: Tensor
    target: dict[str, Tensor]
    index: Tensor
    person: NotRequired[Tensor]
    number: NotRequired[dict[str, Tensor]]
    operations: NotRequired[npt.NDArray[np.int8]]
    soft: NotRequired[dict[str, SoftTarget]]
    mix: NotRequired[Mix]
