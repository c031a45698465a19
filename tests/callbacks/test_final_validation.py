"""The last epoch is validated, whatever the interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from mask_lightning.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from mask_lightning.callbacks.final_validation import FinalValidation


class Validated(pl.Callback):
    """Records the epochs, from 1, that are validated, and ends the fit after a batch."""

    def __init__(self, stop: tuple[int, int] | None = None) -> None:
        self.epochs: list[int] = []
        self.stop = stop

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs.append(trainer.current_epoch + 1)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch + 1, batch_idx) == self.stop:
            raise RuntimeError("power cut")


@pytest.mark.parametrize(
    ("every", "epochs", "want"),
    [
        (1, 3, [1, 2, 3]),
        (2, 4, [2, 4]),
        (2, 5, [2, 4, 5]),
        (3, 5, [3, 5]),
        (4, 5, [4, 5]),
        (5, 5, [5]),
        (9, 2, [2]),
    ],
)
def test_every_nth_epoch_and_the_last_are_validated(fit, dictated, every: int, epochs: int, want: list[int]) -> None:
    seen = Validated()
    fit(dictated([0.1] * epochs), FinalValidation(every), seen, epochs=epochs, check_val_every_n_epoch=every)
    assert seen.epochs == want


@pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable")
@pytest.mark.parametrize("stop", [(2, 1), (3, 0), (3, 1)])
def test_a_resumed_fit_validates_the_last_epoch(fit, dictated, tmp_path: Path, stop: tuple[int, int]) -> None:
    """Lightning skips `on_train_epoch_start` in an epoch that is resumed in its middle."""
    scores, last = [0.1, 0.2, 0.3], tmp_path / "last.ckpt"
    first, second = Validated(stop), Validated()
    saving = LastCheckpoint(last, every_minutes=1e-9)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(dictated(scores), FinalValidation(2), saving, first, epochs=3, check_val_every_n_epoch=2)
    saving = LastCheckpoint(last)
    fit(dictated(scores), FinalValidation(2), saving, second, epochs=3, check_val_every_n_epoch=2, resume=last)
    assert [*first.epochs, *second.epochs] == [2, 3]


@pytest.mark.parametrize(("mode", "want"), [("last", 4), ("max", 4), ("min", 1)])
def test_the_last_epoch_competes_for_the_best(fit, dictated, tmp_path: Path, mode: Any, want: int) -> None:
    best = BestCheckpoint(tmp_path / "best.ckpt", monitor="val/f1", mode=mode)
    fit(dictated([0.1, 0.2, 0.3, 0.4, 0.9]), FinalValidation(2), best, epochs=5, check_val_every_n_epoch=2)
    assert best.epoch == want
    assert best.score == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.9][want])
