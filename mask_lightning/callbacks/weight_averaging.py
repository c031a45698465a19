"""Average the weights over the optimizer steps; the average is validated, saved and used for prediction."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from mask_lightning.callbacks.order import Order, OrderedCallback
from mask_lightning.settings.base import check_range


class ExponentialAverage(OrderedCallback, WeightAveraging):
    """Keep an exponential moving average (EMA) of the weights: Lightning's `EMAWeightAveraging` with a warm-up.

    Validation, checkpoints and the module after the fit have the average. A checkpoint's `state_dict` is the average,
    and `current_model_state` has the trained weights, from which a resumed run continues exactly. The average starts
    from the weights after the first step, so it never contains untrained ones.

    The running statistics of BatchNorm are averaged like the weights, which avoids another pass over the photos.
    Frozen groups stay equal bit for bit, and integer counters are copied.

    Args:
        decay: share of the old average in the new one, in (0, 1); the average covers about 1 / (1 - decay) steps.
            The first steps use a smaller decay, see `decay_after`.

    Raises:
        ConfigError: a decay outside (0, 1).

    Paper: Polyak & Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992,
    https://doi.org/10.1137/0330046

    Example:
        >>> averaging = ExponentialAverage(0.97)
        >>> trainer = pl.Trainer(max_epochs=3, callbacks=[averaging], logger=False, enable_checkpointing=False)
    """

    order = Order.AVERAGE

    def __init__(self, decay: float) -> None:
        check_range("decay", decay, "(0, 1)")
        self.decay = decay
        super().__init__(use_buffers=True, multi_avg_fn=self._update)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Create the average on the device of the fit: Lightning moves the module only after this hook."""
        pl_module.to(trainer.strategy.root_device)
        super().setup(trainer, pl_module, stage)

    @torch.no_grad()
    def _update(self, averages: list[Tensor], currents: list[Tensor], updates: Tensor | int) -> None:
        """Update tensors of one dtype and device in place; `updates` counts the earlier ones."""
        if averages[0].is_floating_point():
            # a * decay + c * (1 - decay) would round where a equals c, so that frozen weights would drift
            torch._foreach_lerp_(averages, currents, 1 - decay_after(int(updates), self.decay))
        else:
            torch._foreach_copy_(averages, currents)


def decay_after(updates: int, decay: float) -> float:
    """Compute the decay after a number of updates: small at first, so that the first weights are soon forgotten.

    The rule is TensorFlow's for an average with a step count: min(decay, (1 + updates) / (10 + updates)), see
    https://www.tensorflow.org/api_docs/python/tf/train/ExponentialMovingAverage

    Example:
        >>> decay_after(0, 0.97), decay_after(1000, 0.97)
        (0.1, 0.97)
    """
    return min(decay, (1 + updates) / (10 + updates))
