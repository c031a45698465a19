"""Save the two checkpoints of a run: the best model so far, and the training state to resume from."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import pytorch_lightning as pl
import torch

from mask_lightning.callbacks.finite_loss import has_finite_weights
from mask_lightning.callbacks.order import Order, OrderedCallback
from mask_lightning.callbacks.training_state import rng_state, set_rng_state
from mask_lightning.utils.lightning_compat import is_accumulating

log = logging.getLogger(__name__)

RECORD = "best_score"  # key in best.ckpt: the score of the weights in the same file
STRIDE = 10  # batches between two moments at which several processes wait for each other

Evidence = Callable[[pl.LightningModule], dict[str, Any]]


class BestCheckpoint(OrderedCallback):
    """Save the model whenever a validation beats all before, and remember the scores of the best and the latest one.

    The file contains its score under the key `RECORD`. A crash after it is written and before the next last.ckpt leaves
    a last.ckpt with an older score. When the fit resumes, the score in the file is the right one, as it belongs to
    the weights that are used afterwards. Files of version 0.1.0 have the score in the state of this callback.

    Args:
        path: checkpoint file, replaced atomically.
        monitor: key of the metric that is compared.
        mode: "max" if larger is better, "min" if smaller is; "last" saves after every validation, for runs without
            held-out photos, whose models cannot be compared.
        evidence: computes what else to remember of the best model, as plain values (confusion matrices).

    Attributes:
        score, epoch: monitored score and epoch (from 0) of the best validation; None before the first.
        scores, latest: all scores of the best and of the latest validation.
        evidence: result of `evidence` at the best validation.
    """

    order = Order.BEST

    def __init__(
        self,
        path: Path,
        *,
        monitor: str,
        mode: Literal["max", "min", "last"],
        evidence: Evidence = lambda _: {},
    ) -> None:
        self.path, self.monitor, self.mode, self.compute_evidence = path, monitor, mode, evidence
        self.score: float | None = None
        self.epoch: int | None = None
        self.scores: dict[str, float] = {}
        self.latest: dict[str, float] = {}
        self.evidence: dict[str, Any] = {}
        self._is_resumed = self._is_saving = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the score of a resumed fit with the one in the file, and continue with the file's."""
        if self._is_resumed:
            self._is_resumed = False
            self._compare_with_file(warn=trainer.is_global_zero)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the scores, and save the model if they are the best so far."""
        if trainer.sanity_checking:
            return
        metrics = trainer.callback_metrics
        self.compare(
            trainer,
            pl_module,
            {name: float(metrics[name]) for name in metrics if name.startswith(("val/", "clean_train/"))},
        )

    def compare(self, trainer: pl.Trainer, pl_module: pl.LightningModule, scores: dict[str, float]) -> None:
        """Save the model if its scores, the metrics of a validation by name, are the best so far."""
        self.latest = scores
        score = scores[self.monitor]
        if self._is_better(score):
            self.score, self.epoch, self.scores = score, trainer.current_epoch, self.latest
            self.evidence = self.compute_evidence(pl_module)
            self._is_saving = True
            try:
                trainer.save_checkpoint(self.path)
            finally:
                self._is_saving = False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Record the score in the file of the best model; last.ckpt has other weights."""
        if self._is_saving:
            names = ("monitor", "score", "epoch", "scores")
            checkpoint[RECORD] = {name: getattr(self, name) for name in names}

    def _is_better(self, score: float) -> bool:
        if self.score is None or math.isnan(self.score) or self.mode == "last":
            return True
        return score > self.score if self.mode == "max" else score < self.score

    def state_dict(self) -> dict[str, Any]:
        """Scores and evidence as plain values, so that a resumed run does not save a worse model as the best."""
        return {name: getattr(self, name) for name in ("score", "epoch", "scores", "latest", "evidence")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        self.score, self.epoch = state_dict["score"], state_dict["epoch"]
        self.scores, self.evidence = state_dict["scores"], state_dict["evidence"]
        self.latest = state_dict.get("latest", {})
        self._is_resumed = True

    def _compare_with_file(self, *, warn: bool) -> None:
        """Take over the score in the file; forget the own one if the file is missing or unreadable."""
        found = self._read_file()
        if found is None:
            if self.score is not None and warn:
                log.warning(
                    "expected the best model (epoch %s, %s %.4f) in %s, found no readable checkpoint; "
                    "the next validation saves one",
                    *(_number(self.epoch), self.monitor, self.score, self.path),
                )
            self.score, self.epoch, self.scores, self.evidence = None, None, {}, {}
        elif found and not _is_same_record(found, {"score": self.score, "epoch": self.epoch}):
            if warn:
                recorded = "none" if self.score is None else f"{self.score:.4f} in epoch {_number(self.epoch)}"
                log.warning(
                    "%s is the model of epoch %d with %s %.4f, but last.ckpt records %s: the run ended between writing "
                    "the two files; going on with the score of the model",
                    *(self.path, found["epoch"] + 1, self.monitor, found["score"], recorded),
                )
            self.score, self.epoch, self.scores = found["score"], found["epoch"], found["scores"]
            self.evidence = found.get("evidence", {})

    def _read_file(self) -> Mapping[str, Any] | None:
        """Read score, epoch, scores and evidence in the file.

        Returns:
            {} if the file has no score for this metric; None if there is no file, or it cannot be read.
        """
        if not self.path.is_file():
            return None
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception:  # for damaged files torch raises anything from EOFError to IndexError
            return None
        state = content.get("callbacks", {}).get(self.state_key, {})
        found = {**state, **content.get(RECORD, {})}
        has_score = found.get("score") is not None and found.get("epoch") is not None
        return found if has_score and found.get("monitor", self.monitor) == self.monitor else {}


def _number(epoch: int | None) -> int | None:
    """Return the number of an epoch as shown to users, who count from 1."""
    return None if epoch is None else epoch + 1


def _is_same_record(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Return True if epoch and score are equal; NaN equals NaN."""
    scores = first["score"], second["score"]
    both_nan = all(score is not None and math.isnan(score) for score in scores)
    return first["epoch"] == second["epoch"] and (both_nan or scores[0] == scores[1])


class LastCheckpoint(OrderedCallback):
    """Save the training state before the first step, after every epoch, and every few minutes of a long epoch.

    A fit that resumes from it continues exactly: the checkpoint includes the random states of every process.

    Args:
        path: checkpoint file, replaced atomically.
        every_minutes: time between two checkpoints within an epoch; None saves at its end only.
    """

    order = Order.LAST

    def __init__(self, path: Path, *, every_minutes: float | None = None) -> None:
        self.path = path
        self.seconds = math.inf if every_minutes is None else 60 * every_minutes
        self._saved_at = monotonic()
        self._rng: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save before the first step, so that a crash in the first epoch can be resumed, too."""
        if self._rng is not None:
            set_rng_state(self._rng)
        # Rank 0 decides for all processes: saving is a collective operation.
        if not trainer.strategy.broadcast(self.path.exists()):
            self._save(trainer)
        self._saved_at = monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if `every_minutes` have passed since the last checkpoint."""
        if self.seconds == math.inf or not is_common_moment(trainer):
            return
        if trainer.strategy.broadcast(monotonic() - self._saved_at >= self.seconds):
            self.save_between_steps(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the state after the epoch."""
        self._save(trainer)

    def save_between_steps(self, trainer: pl.Trainer) -> bool:
        """Save after a batch, if the state is complete there.

        Weights that are NaN or infinite are not saved: the checkpoint before is the one to resume from.

        Returns:
            False, saving nothing, while gradients are accumulated and after the last batch, as the epoch's end saves.
        """
        if trainer.is_last_batch or is_accumulating(trainer):
            return False
        if has_finite_weights(trainer.lightning_module):
            self._save(trainer)
        return True

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_at = monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Random states of every process, by rank; dropout draws from them."""
        states = [rng_state()]
        if torch.distributed.is_initialized():
            states *= torch.distributed.get_world_size()
            torch.distributed.all_gather_object(states, states[0])
        return {"rng": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the random state of this process when training starts; an additional process takes rank 0's."""
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        states = state_dict["rng"]
        self._rng = states[rank if rank < len(states) else 0]


def is_common_moment(trainer: pl.Trainer) -> bool:
    """Return True after a batch at which all processes may communicate outside of the step, such as for a checkpoint.

    A single process always may. Several processes may after an optimizer step, about every STRIDE batches.
    """
    accumulated = trainer.accumulate_grad_batches
    stride = math.ceil(STRIDE / accumulated) * accumulated
    return trainer.world_size == 1 or trainer.fit_loop.epoch_loop.batch_progress.current.ready % stride == 0
