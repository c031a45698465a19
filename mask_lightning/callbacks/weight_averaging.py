"""Average the weights over the optimizer steps; the average is validated, saved and used for prediction."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mask_lightning.callbacks.order import Order, OrderedCallback
from mask_lightning.settings.base import check_range


class ExponentialAverage(OrderedCallback, WeightAveraging):
    """Keep an exponential moving average (EMA) of the weights: Lightning's `EMAWeightAveraging` with a warm-up.

    Validation, checkpoints and the module after the fit have the average. A checkpoint's `state_dict` is the average,
    and `current_model_state` has the trained weights, from which a resumed run continues exactly. The average starts
    from the weights after the first step, so it never contains untrained ones. Steps that the GradScaler of fp16 skips
    are not averaged. No step waits for the device.

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
        self._has_stepped = False
        self._step_hooks: list[RemovableHandle] = []
        super().__init__(use_buffers=True)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Create the average on the device of the fit: Lightning moves the module only after this hook."""
        pl_module.to(trainer.strategy.root_device)
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:  # count on the host, so that no step waits for the device
            self._average_model.n_averaged = torch.zeros_like(self._average_model.n_averaged, device="cpu")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Watch the optimizer: a GradScaler skips steps without any other trace on the host."""
        self._step_hooks = [each.register_step_post_hook(self._note_step) for each in trainer.optimizers]

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stop watching the optimizer."""
        for hook in self._step_hooks:
            hook.remove()
        super().teardown(trainer, pl_module, stage)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Forget earlier steps, such as those of an LR range test."""
        self._has_stepped = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average if the optimizer has stepped."""
        if self._has_stepped:
            self._update(pl_module)
            self._latest_update_step = trainer.global_step

    def _note_step(self, *_: Any) -> None:
        self._has_stepped = True

    @torch.no_grad()
    def _update(self, module: pl.LightningModule) -> None:
        """Add the module's tensors: the first ones are copied, later ones averaged by `decay_after`."""
        assert self._average_model is not None
        updates = self._average_model.n_averaged
        pairs = list(zip(_tensors(self._average_model.module), _tensors(module), strict=True))
        for dtype in {average.dtype for average, _ in pairs}:
            averages, currents = map(list, zip(*(pair for pair in pairs if pair[0].dtype == dtype), strict=True))
            if dtype.is_floating_point and updates > 0:
                # a * decay + c * (1 - decay) would round where a equals c, so that frozen weights would drift
                torch._foreach_lerp_(averages, currents, 1 - decay_after(int(updates), self.decay))
            else:
                torch._foreach_copy_(averages, currents)
        updates += 1


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Return parameters and buffers, in an order that copies of a module share."""
    return (tensor.detach() for tensor in chain(module.parameters(), module.buffers()))


def decay_after(updates: int, decay: float) -> float:
    """Compute the decay after a number of updates: small at first, so that the first weights are soon forgotten.

    The rule is TensorFlow's for an average with a step count: min(decay, (1 + updates) / (10 + updates)), see
    https://www.tensorflow.org/api_docs/python/tf/train/ExponentialMovingAverage

    Example:
        >>> decay_after(0, 0.97), decay_after(1000, 0.97)
        (0.1, 0.97)
    """
    return min(decay, (1 + updates) / (10 + updates))
