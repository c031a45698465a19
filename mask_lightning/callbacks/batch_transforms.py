"""Change training batches on the device, just before the training step: smaller photos, mixed photos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl

from mask_lightning.callbacks.order import Order, OrderedCallback
from mask_lightning.data.batching import mix_batch, resize
from mask_lightning.optim.phases import phase_of_epoch
from mask_lightning.settings.augment import MixSettings
from mask_lightning.settings.optim import PhaseSettings


class ProgressiveResizing(OrderedCallback):
    """Resize training batches to the `image_size` of their phase. Validation stays at full size.

    The training time of a convolutional network is about proportional to the number of pixels; a last phase at full
    size makes up for the difference in scale. Method: progressive resizing, Howard 2018,
    https://www.fast.ai/posts/2018-08-10-fastai-diu-imagenet.html

    Args:
        phases: in order; a batch is a mapping whose `"image"` is a float tensor (B, 3, H, W).

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> batch = {"image": torch.zeros(2, 3, 64, 64)}
        >>> resizing = ProgressiveResizing([PhaseSettings(epochs=1, image_size=32), PhaseSettings(epochs=1)])
        >>> resizing.on_train_batch_start(SimpleNamespace(current_epoch=0), None, batch, 0)
        >>> batch["image"].shape
        torch.Size([2, 3, 32, 32])
    """

    order = Order.RESIZE

    def __init__(self, phases: Sequence[PhaseSettings]) -> None:
        self.phases = list(phases)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Resize in place: Lightning passes the same mapping to the training step."""
        size = self.phases[phase_of_epoch(self.phases, trainer.current_epoch)].image_size
        if size is not None:
            batch["image"] = resize(batch["image"], size)


class BatchMixing(OrderedCallback):
    """Mix the photos of a training batch by mixup or CutMix; the batch then has an entry `mix` (see `Sample`).

    The random numbers depend on seed, epoch and batch number only, so a resumed run and a run with another number of
    workers mix alike. Sources: `mask_lightning.data.batching.mix_batch`.

    Args:
        settings: method, its strength, and the share of batches that are mixed.
        seed: seed of the random numbers.
    """

    order = Order.MIX

    def __init__(self, settings: MixSettings, *, seed: int) -> None:
        self.settings, self.seed = settings, seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Mix in place: Lightning passes the same mapping to the training step."""
        rng = np.random.default_rng((self.seed, trainer.current_epoch, batch_idx))
        batch.update(mix_batch(batch, self.settings, rng))
