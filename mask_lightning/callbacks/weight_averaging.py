"""An exponential moving average of the weights, which takes their place wherever a model is judged or kept."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from mask_lightning.optim.curves import check_range


class ExponentialAverage(WeightAveraging):
    """Averages the weights after every optimizer step; validation, checkpoints and the fitted module have the average.

    A checkpoint's "state_dict" is the average, so that who loads it need not know; the weights that go on learning
    are beside it, and a resumed run continues exactly. The average starts as the weights after the first step: there
    is no moment at which it would hold untrained ones. Statistics of BatchNorm are averaged like the weights that
    they belong to: they follow those nearly linearly, and another pass over the photos is spared. What stands still
    (frozen groups, constants) stays equal to the last bit, and counters are copied.

    Lightning's `EMAWeightAveraging` with a warm-up, and without rounding drift in what is frozen.

    Args:
        decay: share of the old average in the new one, see `decay_after`; its memory is about 1 / (1 - decay) steps.

    Raises:
        ConfigError: a decay outside (0, 1).

    Paper: Polyak & Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992.
    """

    def __init__(self, decay: float) -> None:
        check_range("decay", decay, "(0, 1)")
        self.decay = decay
        super().__init__(use_buffers=True, multi_avg_fn=self._move)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the average, on the module's future device: Lightning moves the module only after this hook."""
        pl_module.to(trainer.strategy.root_device)
        super().setup(trainer, pl_module, stage)

    @torch.no_grad()
    def _move(self, averages: list[Tensor], currents: list[Tensor], updates: Tensor | int) -> None:
        """Tensors of one dtype and device, in place; `updates` counts those before this one."""
        if averages[0].is_floating_point():
            # not a * decay + c * (1 - decay), which rounds where a equals c
            torch._foreach_lerp_(averages, currents, 1 - decay_after(int(updates), self.decay))
        else:
            torch._foreach_copy_(averages, currents)


def decay_after(updates: int, decay: float) -> float:
    """The decay after so many updates: small at first, so that the first weights are soon forgotten, then `decay`.

    TensorFlow's rule for an average that counts its updates: min(decay, (1 + updates) / (10 + updates)).
    """
    return min(decay, (1 + updates) / (10 + updates))
