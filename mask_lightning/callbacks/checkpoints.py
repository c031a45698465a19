"""The two checkpoints of a run: the best so far, and the one to resume from; and what is kept of them at the end."""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from mask_lightning.callbacks.finite_loss import has_finite_weights
from mask_lightning.callbacks.training_state import rng_state, set_rng_state
from mask_lightning.utils.files import write_atomically

# What `load_from_checkpoint` and `inference.trained` read, and which step it was.
KEPT = ("pytorch-lightning_version", "epoch", "global_step", "state_dict", "hparams_name", "hyper_parameters")

STRIDE = 10  # batches between moments at which several processes that train together wait for each other

Evidence = Callable[[pl.LightningModule], dict[str, Any]]


class BestCheckpoint(pl.Callback):
    """Saves the model whenever a validation beats all before, and remembers its scores, and those of the latest one.

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
        self.latest: dict[str, float] = {}
        self.evidence: dict[str, Any] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare, and save if this is the best so far."""
        if trainer.sanity_checking:
            return
        metrics = trainer.callback_metrics
        self.latest = {name: float(metrics[name]) for name in metrics if name.startswith(("val/", "clean_train/"))}
        score = float(metrics[self.monitor])
        if self._is_better(score):
            self.score, self.epoch, self.scores = score, trainer.current_epoch, self.latest
            self.evidence = self.take_evidence(pl_module)
            trainer.save_checkpoint(self.path)

    def _is_better(self, score: float) -> bool:
        if self.score is None or math.isnan(self.score) or self.mode == "last":
            return True
        return score > self.score if self.mode == "max" else score < self.score

    def state_dict(self) -> dict[str, Any]:
        """Plain values: a resumed run must not take a worse model for the best."""
        return {name: getattr(self, name) for name in ("score", "epoch", "scores", "latest", "evidence")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.score, self.epoch = state_dict["score"], state_dict["epoch"]
        self.scores, self.evidence = state_dict["scores"], state_dict["evidence"]
        self.latest = state_dict.get("latest", {})


class LastCheckpoint(pl.Callback):
    """Saves the whole training state before the first step, after every epoch, and in long epochs every few minutes.

    List it last: what changes state after a step must have done so.

    Args:
        path: where; replaced atomically.
        every_minutes: as long as an epoch lasts; None: at its end only.
    """

    def __init__(self, path: Path, *, every_minutes: float | None = None) -> None:
        self.path = path
        self.seconds = math.inf if every_minutes is None else 60 * every_minutes
        self._saved_at = monotonic()
        self._rng: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A crash in the first epoch can be resumed, too."""
        if self._rng is not None:
            set_rng_state(self._rng)
        if not trainer.strategy.broadcast(self.path.exists()):  # as rank 0 saw it: all of them save, or none
            self._save(trainer)
        self._saved_at = monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where the last time is long ago."""
        if self.seconds == math.inf or not is_common_moment(trainer):
            return
        if trainer.strategy.broadcast(monotonic() - self._saved_at >= self.seconds):
            self.save_between_steps(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the checkpoint of before."""
        self._save(trainer)

    def save_between_steps(self, trainer: pl.Trainer) -> bool:
        """Save after a batch; False and nothing while gradients are accumulated, or if the epoch's end is to save.

        Weights that are no numbers are not saved: the checkpoint before is the one to go on from.
        """
        if trainer.is_last_batch or trainer.fit_loop._should_accumulate():
            return False
        if has_finite_weights(trainer.lightning_module):
            self._save(trainer)
        return True

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_at = monotonic()

    def state_dict(self) -> dict[str, Any]:
        """What dropout will draw, in each process."""
        states = [rng_state()]
        if torch.distributed.is_initialized():
            states *= torch.distributed.get_world_size()
            torch.distributed.all_gather_object(states, states[0])
        return {"rng": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`, once training starts; of a process that was not there, as rank 0."""
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        states = state_dict["rng"]
        self._rng = states[rank if rank < len(states) else 0]


def is_common_moment(trainer: pl.Trainer) -> bool:
    """Whether processes that train together may save, or tell each other something, after this batch.

    A process alone always may. Of several it is every STRIDE batches or a few more: after an optimizer step.
    """
    accumulated = trainer.accumulate_grad_batches
    stride = math.ceil(STRIDE / accumulated) * accumulated
    return trainer.world_size == 1 or trainer.fit_loop.epoch_loop.batch_progress.current.ready % stride == 0


def keep_weights(path: Path, *, half: bool = False) -> None:
    """Rewrite a checkpoint as one to predict with: no optimizer, no callbacks, of a moving average the average alone.

    Atomic, and the same again if it is repeated.

    Args:
        path: of best.ckpt.
        half: kernels and matrices become float16. They are loaded into a float32 network, whose arithmetic stays that;
            biases, norms and their statistics, 1 % of the size, stay exact.
    """
    content = torch.load(path, map_location="cpu", weights_only=True)
    kept = {name: content[name] for name in KEPT if name in content}
    if half:
        state = content["state_dict"]
        kept["state_dict"] = {name: tensor.half() if is_halved(tensor) else tensor for name, tensor in state.items()}
    buffer = BytesIO()
    torch.save(kept, buffer)
    write_atomically(path, buffer.getvalue())


def is_halved(tensor: Tensor) -> bool:
    """Whether half precision is for this tensor: large ones are, of values that float16 has."""
    if tensor.dim() < 2 or tensor.dtype != torch.float32:
        return False
    return tensor.is_meta or bool(tensor.abs().max() <= torch.finfo(torch.float16).max)
