"""Each phase trains at its own size and validates at full size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from mask_lightning.callbacks.progressive_resizing import ProgressiveResizing
from mask_lightning.data.batching import resize
from mask_lightning.optim.phases import Phase

PHASES = [Phase(1, image_size=16), Phase(2, image_size=24), Phase(1)]  # of photos of 32 pixels


class Sizes(pl.Callback):
    """Notes the first training image of every epoch, and the sizes that validation sees."""

    def __init__(self) -> None:
        self.images: dict[int, torch.Tensor] = {}
        self.validated: set[int] = set()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.images[trainer.current_epoch] = batch["image"][0]

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.validated.add(batch["image"].shape[-1])


def test_every_phase_has_its_size(fit, network) -> None:
    sizes = Sizes()
    fit(network, ProgressiveResizing(PHASES), sizes, epochs=4)
    assert [tuple(image.shape) for image in sizes.images.values()] == [(3, s, s) for s in (16, 24, 24, 32)]
    assert sizes.validated == {32}
    full = sizes.images[3]
    for epoch, size in enumerate((16, 24, 24)):
        assert torch.equal(sizes.images[epoch], resize(full[None], size)[0])


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_resumed_run_has_the_size_of_its_phase(fit, network, tmp_path: Path, epochs: int) -> None:
    fit(network, ProgressiveResizing(PHASES), epochs=epochs).save_checkpoint(tmp_path / "last.ckpt")
    sizes = Sizes()
    fit(type(network)(), ProgressiveResizing(PHASES), sizes, epochs=4, resume=tmp_path / "last.ckpt")
    assert [image.shape[-1] for image in sizes.images.values()] == [16, 24, 24, 32][epochs:]


def test_the_step_itself_sees_the_small_photos(fit, network) -> None:
    seen: set[int] = set()
    network.network.register_forward_pre_hook(
        lambda module, inputs: seen.add(inputs[0].shape[-1]) if module.training else None
    )
    fit(network, ProgressiveResizing([Phase(1, image_size=16)]), epochs=1)
    assert seen == {16}
