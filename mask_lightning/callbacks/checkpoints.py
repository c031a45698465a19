"""The two checkpoints of a run: the best so far, and the one to resume from."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl

Evidence = Callable[[pl.LightningModule], dict[str, Any]]


class BestCheckpoint(pl.Callback):
    """Saves the model whenever a validation beats all before, and remembers its scores.

    Args:
        path: where; replaced atomically.
        monitor: the metric that counts.
        mode: whether more or less of it is better; "last" takes every validation for the best so far, which is all
            that can be said where nobody was held out.
        evidence: what else to remember of the module at that moment, as plain values (confusion matrices).
    """

    def __init__(
        self,
        path: Path,
        *,
        monitor: str,
        mode: Literal["max", "min", "last"],
        evidence: Evidence = lambda _: {},
    ) -> None:
        self.path, self.monitor, self.mode, self.take_evidence = path, monitor, mode, evidence
        self.score: float | None = None
        self.epoch: int | None = None
        self.scores: dict[str, float] = {}
        self.evidence: dict[str, Any] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare, and save if this is the best so far."""
        if trainer.sanity_checking:
            return
        score = float(trainer.callback_metrics[self.monitor])
        if self._is_better(score):
            self.score, self.epoch = score, trainer.current_epoch
            sides = ("val/", "clean_train/")
            metrics = trainer.callback_metrics.items()
            self.scores = {name: float(value) for name, value in metrics if name.startswith(sides)}
            self.evidence = self.take_evidence(pl_module)
            trainer.save_checkpoint(self.path)

    def _is_better(self, score: float) -> bool:
        if self.score is None or math.isnan(self.score) or self.mode == "last":
            return True
        return score > self.score if self.mode == "max" else score < self.score

    def state_dict(self) -> dict[str, Any]:
        """Plain values: a resumed run must not take a worse model for the best."""
        return {"score": self.score, "epoch": self.epoch, "scores": self.scores, "evidence": self.evidence}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.score, self.epoch = state_dict["score"], state_dict["epoch"]
        self.scores, self.evidence = state_dict["scores"], state_dict["evidence"]


class LastCheckpoint(pl.Callback):
    """Saves the whole training state before the first step and after every epoch: a resume loses one epoch at most.

    Args:
        path: where; replaced atomically.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A crash in the first epoch can be resumed, too."""
        if not self.path.exists():
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the checkpoint of the epoch before."""
        trainer.save_checkpoint(self.path)
