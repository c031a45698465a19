"""Lightning modules: forward pass, losses, scores, optimizer and schedule of a multi-task network."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from mask_lightning.data.samples import Sample
from mask_lightning.engine.epoch_scores import Scores, WeightedMean
from mask_lightning.errors import LabelError
from mask_lightning.labels import UNLABELLED, LabelSpace
from mask_lightning.losses.consistency import symmetric_kl
from mask_lightning.losses.task_losses import has_labels, make_loss, mixed_loss, task_loss, validation_loss
from mask_lightning.losses.weighting import make_weighting
from mask_lightning.metrics.scores import JOINT, MAIN_METRIC, MEAN, log_mean_score
from mask_lightning.models.backbones import HEADS, LayerGroups
from mask_lightning.models.network import MultiTaskNetwork
from mask_lightning.optim.optimizers import check_optimizer, make_optimizer
from mask_lightning.optim.param_groups import build_param_groups, expand_lrs
from mask_lightning.optim.phases import PhasedLR, PhaseSchedule, group_lrs, phase_schedule, trainable_groups
from mask_lightning.settings.base import check
from mask_lightning.settings.loss import LossSettings, WeightingSettings
from mask_lightning.settings.model import SharingSettings
from mask_lightning.settings.optim import OptimSettings, PhaseSettings, ScheduleSettings

SIDES = ("val", "clean_train")  # in the order of the validation dataloaders
NUMBERS = "numbers"  # key of the figure data, beside the sides
SUMS = "sums_of_the_epoch"  # key in a checkpoint
TOTAL = "total"  # reserved: earlier versions had a metric of this name beside those of the tasks

log = logging.getLogger(__name__)


class MultiTaskModule(pl.LightningModule):
    """Train a network with one head per task of a label space, in phases.

    All arguments are plain values and become the checkpoint's hyper-parameters, so that `load_from_checkpoint`
    rebuilds the module with `weights_only=True`. Batches are `mask_lightning.data.dataset.Sample`s.

    Args:
        tasks: task -> class names (`LabelSpace.to_plain`).
        backbone: name of a timm classifier; the weights are random, load pretrained ones afterwards.
        class_counts: task -> training photos per class, as they are sampled.
        transform: TransformSpec of the photos (`to_plain`); kept for prediction.
        network: options of MultiTaskNetwork.
        loss: fields of LossSettings, with `task_weights` (task -> weight, default 1), `numbers` (task -> options of
            the loss of its number, see `losses.task_losses.make_loss`), and `soft_temperature` (of soft targets,
            default 1).
        optim: fields of OptimSettings, with a numeric `lr`.
        schedule: fields of ScheduleSettings.
        phases: fields of PhaseSettings for each phase, in order.
        weighting: fields of WeightingSettings; None: fixed weights.
        config: all options of the run, for the record.
        sizes: quantiles of the training photos (`data.prepared.describe_sizes`); kept for prediction.

    Attributes:
        lineage: history of the weights: their origin, then the runs that trained them. Not part of a checkpoint.
        pretrained: record of the run or file that the weights come from, {} for others. Not part of a checkpoint.
        score_of: what `val/f1` (without held-out photos `clean_train/f1`) scores: `joint`, `mean of the tasks`, or the
            only task; None before the first validation.

    Raises:
        LabelError: a task has a name that cannot be a key of metrics and files.
        ConfigError: a phase, schedule or optimizer does not fit the network.

    Example:
        >>> import torch
        >>> module = MultiTaskModule(
        ...     tasks={"mask": ["mask", "incorrect", "normal"], "gender": ["male", "female"]},
        ...     backbone="test_resnet",
        ...     class_counts={"mask": [5, 1, 1], "gender": [4, 3]},
        ...     transform={},
        ...     network={},
        ...     loss={},
        ...     optim={"name": "adamw", "lr": 1e-3, "weight_decay": 0.01},
        ...     schedule={"name": "one_cycle"},
        ...     phases=[{"epochs": 1, "unfreeze": "heads"}, {"epochs": 3}],
        ... )
        >>> {task: tuple(logits.shape) for task, logits in module(torch.zeros(2, 3, 64, 64)).items()}
        {'mask': (2, 3), 'gender': (2, 2)}
        >>> list(module.layer_groups())[-1]
        'heads'
    """

    def __init__(
        self,
        *,
        tasks: Mapping[str, Sequence[str]],
        backbone: str,
        class_counts: Mapping[str, Sequence[float]],
        transform: Mapping[str, Any],
        network: Mapping[str, Any],
        loss: Mapping[str, Any],
        optim: Mapping[str, Any],
        schedule: Mapping[str, Any],
        phases: Sequence[Mapping[str, Any]],
        weighting: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        sizes: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.space = LabelSpace.from_plain(tasks)
        num_classes = {task.name: task.num_classes for task in self.space.tasks}
        check_task_names(num_classes)
        sharing = check(SharingSettings, network.get("sharing") or {})
        self.network = MultiTaskNetwork(backbone, num_classes, **{**network, "sharing": sharing})
        own = ("numbers", "soft_temperature")
        options = check(LossSettings, {name: value for name, value in loss.items() if name not in own})
        self.soft_temperature = float(loss.get("soft_temperature", 1.0))
        self.task_weights = {task: float(options.task_weights.get(task, 1.0)) for task in num_classes}
        chosen = check(WeightingSettings, weighting or {})
        self.weighting = make_weighting(tuple(num_classes), self.task_weights, chosen)
        heads, numbers = network.get("heads", {}), loss.get("numbers", {})
        self.losses = nn.ModuleDict(
            {
                task: make_loss(heads.get(task, {}), class_counts[task], options, number=numbers.get(task))
                for task in num_classes
            }
        )
        tops = {task: head["top"] for task, head in heads.items() if "top" in head}
        self.scores = nn.ModuleDict(
            {side: Scores(self.space, task_weights=self.task_weights, tops=tops) for side in SIDES}
        )
        self.consistency = options.consistency
        self.consistency_tasks = options.find_consistency_tasks(tuple(num_classes))
        also = ("consistency",) if self.consistency_tasks else ()
        means = ("loss", *also, *(f"{task}/{what}" for task in num_classes for what in ("loss", "weight")))
        self.train_means = nn.ModuleDict({name: WeightedMean() for name in means})
        self.phases = [check(PhaseSettings, phase) for phase in phases]
        self.lineage: list[str] = []
        self.pretrained: dict[str, Any] = {}
        self.score_of: str | None = None
        self._check_choices()

    def plan(
        self,
        *,
        optim: Mapping[str, Any],
        schedule: Mapping[str, Any],
        phases: Sequence[Mapping[str, Any]],
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Replace optimizer, schedule and phases for the next fit; the weights stay.

        Args:
            optim: as in the constructor.
            schedule: as in the constructor.
            phases: as in the constructor.
            config: as in the constructor.

        Raises:
            ConfigError: a phase, schedule or optimizer does not fit the network.
        """
        self.save_hyperparameters({"optim": optim, "schedule": schedule, "phases": phases, "config": config})
        self.phases = [check(PhaseSettings, phase) for phase in phases]
        self._check_choices()

    def _check_choices(self) -> None:
        """Raise ConfigError for options that do not fit the network, before a fit starts."""
        names, schedule = list(self.layer_groups()), check(ScheduleSettings, self.hparams["schedule"])
        for phase in self.phases:
            trainable_groups(phase, names)
        schedules = [phase_schedule(phase, schedule) for phase in self.phases]  # a list: each is checked
        moves = any(each.momentum for each in schedules)
        check_optimizer(check(OptimSettings, self.hparams["optim"]), moves_momentum=moves)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the outputs of all heads.

        Args:
            images: float (B, 3, H, W), normalized.

        Returns:
            task -> output (B, K) of its head; `network.log_probs` turns them into log probabilities.
        """
        outputs: dict[str, Tensor] = self.network(images)
        return outputs

    def layer_groups(self) -> LayerGroups:
        """Return layer group -> parameters, from the image up, `heads` last, with the learned task weights."""
        groups = self.network.layer_groups()
        learned = {f"weighting.{name}": parameter for name, parameter in self.weighting.named_parameters()}
        return {**groups, HEADS: groups[HEADS] | learned}

    def _losses(self, outputs: Mapping[str, Tensor], batch: Sample) -> dict[str, Tensor]:
        """Compute the training loss of each task, a scalar."""
        target = batch["target"]
        numbers, mix, soft = batch.get("number", {}), batch.get("mix"), batch.get("soft", {})
        losses = {
            task: partial(task_loss, self.losses[task], temperature=self.soft_temperature) for task in self.space.names
        }
        return {
            task: mixed_loss(loss, outputs[task], target[task], numbers.get(task), mix, soft.get(task))
            for task, loss in losses.items()
        }

    def _labelled(self, batch: Sample) -> dict[str, Tensor]:
        """Return task -> True if the batch has labels or soft targets of it, a boolean scalar on the device."""
        numbers, soft = batch.get("number", {}), batch.get("soft", {})
        return {
            task: has_labels(self.losses[task], target, numbers.get(task), soft.get(task))
            for task, target in batch["target"].items()
        }

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Compute the weighted sum of the task losses, a scalar, and log it as train/loss and train/<task>/loss.

        With `loss.consistency`, that many times the mean divergence between the photos of a person is added, and logged
        as train/consistency.
        """
        outputs = self(batch["image"])
        losses = self._losses(outputs, batch)
        total: Tensor = self.weighting(losses, self._labelled(batch))
        size = len(batch["index"])
        if self.consistency_tasks:
            log_probs = self.network.log_probs({task: outputs[task] for task in self.consistency_tasks})
            divergence = torch.stack([symmetric_kl(each, batch["person"]) for each in log_probs.values()]).mean()
            total = total + self.consistency * divergence
            self._log_mean("consistency", divergence, size)
        self.log("train/loss_step", total, prog_bar=True, sync_dist=True)
        self._log_mean("loss", total, size)
        for task, loss in losses.items():
            learned = batch["target"][task] != UNLABELLED
            if "soft" in batch:
                learned = learned | (batch["soft"][task].weight > 0)
            self._log_mean(f"{task}/loss", loss, learned.sum())
        if self.weighting.is_adaptive:
            for task, weight in self.weighting.weights().items():
                self._log_mean(f"{task}/weight", weight, size)
        return total

    def _log_mean(self, name: str, value: Tensor | float, count: Tensor | int) -> None:
        """Log the epoch's mean of `value` over `count` photos, without waiting for the device."""
        mean = cast(WeightedMean, self.train_means[name])
        mean.update(value if isinstance(value, float) else value.detach(), count)
        self.log(f"train/{name}", mean, on_step=False, on_epoch=True)

    def _sums(self) -> dict[str, Tensor]:
        """Return the running sums of this process since the start of the epoch."""
        means = {name: cast(WeightedMean, mean).sums() for name, mean in self.train_means.items()}
        by_owner = {"weighting": self.weighting.running_sums(), **means}
        return {f"{owner}/{name}": value for owner, sums in by_owner.items() for name, value in sums.items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the running sums of all processes, so that a run can resume in the middle of an epoch."""
        trainer = self._attached_trainer()
        if trainer is not None:
            copies = {name: value.clone() for name, value in self._sums().items()}  # reduce works in place
            checkpoint[SUMS] = {name: trainer.strategy.reduce(value, reduce_op="sum") for name, value in copies.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the running sums; each process takes an equal share."""
        trainer = self._attached_trainer()
        if trainer is not None:
            sums = self._sums()
            for name, value in checkpoint.get(SUMS, {}).items():
                sums[name].copy_(value / trainer.world_size)

    def _attached_trainer(self) -> pl.Trainer | None:
        """Return the trainer; None outside of a trainer, where Lightning's property raises."""
        try:
            return self.trainer
        except RuntimeError:
            return None

    def on_train_epoch_start(self) -> None:
        """Update the task weights, and restart the running means."""
        self.weighting.start_epoch(self.trainer.strategy.reduce)
        for mean in self.train_means.values():
            cast(WeightedMean, mean).reset()

    def validation_step(self, batch: Sample, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Add the batch to the scores of its side. Its loss is the plain cross-entropy for every training loss."""
        sides = SIDES[-len(self.trainer.num_val_batches) :]  # without held-out photos there is only clean_train
        self.update_scores(sides[dataloader_idx], self(batch["image"]), batch["target"], batch.get("number", {}))

    def update_scores(
        self,
        side: str,
        outputs: Mapping[str, Tensor],
        target: Mapping[str, Tensor],
        numbers: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Add photos to the scores of a side, "val" or "clean_train".

        Args:
            side: the side.
            outputs: task -> output (B, K) of its head.
            target: task -> class indices (B,), UNLABELLED (-1) for photos without a label.
            numbers: task -> true number (B,), NaN if unknown.
        """
        log_probs = self.network.log_probs(outputs)
        losses = {task: validation_loss(log_probs[task], target[task]) for task in self.space.names}
        scores = self.side_scores(side)
        scores.update(log_probs, target, losses)
        for task, truth in (numbers or {}).items():
            predicted = self.network.head(task).number(outputs[task])
            if predicted is not None:
                scores.update_numbers(task, target[task], truth, predicted)

    def side_scores(self, side: str) -> Scores:
        """Return the scores of a side, "val" or "clean_train"; they are kept until the next validation."""
        return cast(Scores, self.scores[side])

    def figure_data(self) -> dict[str, Any]:
        """Collect the data of the figures from the validation that just ended, as plain nested lists.

        Returns:
            side -> task, and `joint` if the combined class is scored -> confusion matrix; and under NUMBERS side ->
            task -> rows of class index, true and predicted number, for tasks that predict a number.
        """
        sides: dict[str, Any] = {}
        numbers: dict[str, Any] = {}
        for side in SIDES:
            scores = self.side_scores(side)
            if not scores.is_empty:
                matrices = scores.confusion_matrices()
                if scores.why_mean is not None:
                    matrices.pop(JOINT, None)
                sides[side] = {name: matrix.tolist() for name, matrix in matrices.items()}
                numbers[side] = {task: scores.numbers_of(task).tolist() for task in scores.tops}
        return {**sides, NUMBERS: numbers}

    def on_validation_epoch_end(self) -> None:
        """Log `val/f1`, `val/<task>/f1`, `clean_train/...` for each side that has photos."""
        for key, value in self.compute_scores().items():
            shown = key.partition("/")[2] == MAIN_METRIC
            self.log(key, value, prog_bar=shown, add_dataloader_idx=False, sync_dist=True)

    def compute_scores(self) -> dict[str, Any]:
        """Return `val/f1`, `val/<task>/f1`, `clean_train/...` for each side that has photos."""
        found: dict[str, Any] = {}
        for side in SIDES:
            scores = self.side_scores(side)
            if not scores.is_empty:
                self._log_main_score(side)
                found |= {f"{side}/{name}": value for name, value in scores.compute().items()}
        return found

    def _log_main_score(self, side: str) -> None:
        """Note what `val/f1` means; log the reason once if it is the mean of the tasks."""
        reason = self.side_scores(side).why_mean
        if self.score_of is None:
            self.score_of = self.space.names[0] if len(self.space.tasks) == 1 else MEAN if reason else JOINT
            trainer = self._attached_trainer()
            if reason and (trainer is None or trainer.is_global_zero):
                log_mean_score(log, f"{side}/{MAIN_METRIC}", reason)

    def on_validation_epoch_start(self) -> None:
        """Reset the scores, which figures use until here."""
        for side in SIDES:
            self.side_scores(side).reset()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Create one optimizer with all param groups from the start, and one schedule over all phases, per step."""
        optim = check(OptimSettings, self.hparams["optim"])
        schedule = check(ScheduleSettings, self.hparams["schedule"])
        groups = self.layer_groups()
        param_groups = build_param_groups(groups, weight_decay=optim.weight_decay, no_decay=self.network.no_decay())
        optimizer = make_optimizer(param_groups, optim)
        steps = int(self.trainer.estimated_stepping_batches) // sum(phase.epochs for phase in self.phases)
        plan = [
            PhaseSchedule(
                steps=steps * phase.epochs,
                lrs=expand_lrs(param_groups, group_lrs(phase, list(groups), float(optim.lr))),
                schedule=phase_schedule(phase, schedule),
            )
            for phase in self.phases
        ]
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": PhasedLR(optimizer, plan), "interval": "step", "name": "lr"},
        }


class SingleTaskModule(MultiTaskModule):
    """MultiTaskModule for a label space of one task: `val/f1` is the macro F1 of that task.

    Args:
        options: arguments of MultiTaskModule.

    Raises:
        LabelError: there is more than one task.
    """

    def __init__(self, **options: Any) -> None:
        if len(options["tasks"]) != 1:
            raise LabelError(f"expected one task, got {', '.join(options['tasks'])}; use MultiTaskModule")
        super().__init__(**options)


def check_task_names(names: Iterable[str]) -> None:
    """Check that names can be part of metric keys and file names, and keys of a ModuleDict.

    Raises:
        LabelError: a name cannot.

    Example:
        >>> check_task_names(["mask", "age band"])
    """
    for name in names:
        if (
            not re.fullmatch(r"\w[\w -]*", name)
            or hasattr(nn.ModuleDict, name)
            or name in (TOTAL, JOINT, MEAN, "training")
        ):
            raise LabelError(
                f"a task cannot be called {name!r}: expected letters, digits, spaces, - and _, and no word of "
                "PyTorch's own; rename its column"
            )


def module_class(space: LabelSpace) -> type[MultiTaskModule]:
    """Return SingleTaskModule for one task, else MultiTaskModule."""
    return SingleTaskModule if len(space.tasks) == 1 else MultiTaskModule
