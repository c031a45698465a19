"""Trains on smaller photos in the phases that say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl

from mask_lightning.data.batching import resize
from mask_lightning.optim.phases import Phase, phase_of_epoch


class ProgressiveResizing(pl.Callback):
    """Resizes training batches to their phase's `image_size`, on the device; validation stays at full size.

    A convolutional network trains about as much faster as the photos have fewer pixels (Howard's progressive
    resizing, DAWNBench 2018); a last phase at full size makes up for the difference in scale.

    Args:
        phases: the phases, in order.
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        self.phases = list(phases)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Change the batch in place: Lightning hands the same mapping to the training step."""
        size = self.phases[phase_of_epoch(self.phases, trainer.current_epoch)].image_size
        if size is not None:
            batch["image"] = resize(batch["image"], size)
