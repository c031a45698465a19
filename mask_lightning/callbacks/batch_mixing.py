"""Mixes the photos of training batches with each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytorch_lightning as pl

from mask_lightning.data.batching import MixSpec, mix_batch


class BatchMixing(pl.Callback):
    """Mixes a training batch on the device, just before its step; the batch then carries `mix` (see `Sample`).

    What is drawn follows from seed, epoch and the batch's number alone: a resumed run mixes as the whole one would
    have, and so does one with other workers.

    Args:
        spec: whether and how.
        seed: of the draws.
    """

    def __init__(self, spec: MixSpec, *, seed: int) -> None:
        self.spec, self.seed = spec, seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Change the batch in place: Lightning hands the same mapping to the training step."""
        rng = np.random.default_rng((self.seed, trainer.current_epoch, batch_idx))
        batch.update(mix_batch(batch, self.spec, rng))
