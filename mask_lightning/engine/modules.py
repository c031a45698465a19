"""The Lightning modules: what happens to a batch, and how the network is optimised."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from mask_lightning.data.dataset import Sample
from mask_lightning.engine.epoch_scores import JOINT, TOTAL, Scores, WeightedMean
from mask_lightning.errors import LabelError
from mask_lightning.labels import UNLABELLED, LabelSpace
from mask_lightning.losses.classification import scored_loss, weighted_sum
from mask_lightning.losses.tasks import make_loss, mixed_loss
from mask_lightning.losses.weighting import make_weighting
from mask_lightning.models.backbones import HEADS, LayerGroups
from mask_lightning.models.network import MultiTaskNetwork
from mask_lightning.optim.optimizers import check_optimizer, make_optimizer
from mask_lightning.optim.param_groups import build_param_groups, expand_lrs
from mask_lightning.optim.phases import Phase
from mask_lightning.optim.schedules import PhasedLR, PhaseSchedule

SIDES = ("val", "clean_train")  # the order of the validation dataloaders
SUMS = "sums_of_the_epoch"  # the key in a checkpoint


class MultiTaskModule(pl.LightningModule):
    """A network over the tasks of a label space, trained in phases.

    All arguments are plain values: they are the checkpoint's hyper-parameters, so that `load_from_checkpoint`
    rebuilds the module with `weights_only=True`.

    Args:
        tasks: task -> class names (`LabelSpace.to_plain`).
        backbone: name of a timm classifier; its weights are the caller's business.
        class_counts: task -> training photos per class, as they are drawn.
        transform: the photos' TransformSpec (`to_plain`); kept for prediction.
        network: options of MultiTaskNetwork.
        loss: options of ClassificationLoss, `task_weights` (task -> weight, 1 if left out), and `numbers` (task ->
            options of its number's loss, see `losses.tasks.make_loss`).
        optim: `name`, `lr`, `weight_decay` and the optimizer's own options.
        schedule: `name` and options of `make_schedule`.
        phases: fields of each Phase, in order.
        weighting: `name` and options of `make_weighting`; None: fixed.
        config: the run's whole config; kept for the record.

    Attributes:
        lineage: where the weights come from: their origin, then the runs that trained them; not in a checkpoint.
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
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.space = LabelSpace.from_plain(tasks)
        num_classes = {task.name: task.num_classes for task in self.space.tasks}
        check_task_names(num_classes)
        self.network = MultiTaskNetwork(backbone, num_classes, **network)
        options = {**loss}
        weights, numbers = options.pop("task_weights", {}), options.pop("numbers", {})
        self.task_weights = {task: float(weights.get(task, 1.0)) for task in num_classes}
        self.weighting = make_weighting(tuple(num_classes), self.task_weights, **(weighting or {}))
        heads = network.get("heads", {})
        self.losses = nn.ModuleDict(
            {
                task: make_loss(heads.get(task, {}), class_counts[task], options=options, number=numbers.get(task))
                for task in num_classes
            }
        )
        tops = {task: head["top"] for task, head in heads.items() if "top" in head}
        self.scores = nn.ModuleDict({side: Scores(self.space, tops=tops) for side in SIDES})
        means = ("loss", *(f"{task}/{what}" for task in num_classes for what in ("loss", "weight")))
        self.train_means = nn.ModuleDict({name: WeightedMean() for name in means})
        self.phases = [Phase(**phase) for phase in phases]
        self.lineage: list[str] = []
        self._check_choices()

    def plan(
        self,
        *,
        optim: Mapping[str, Any],
        schedule: Mapping[str, Any],
        phases: Sequence[Mapping[str, Any]],
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """How the next fit trains these weights, as in the constructor.

        Raises:
            ConfigError: a phase, schedule or optimizer that does not fit the network.
        """
        self.save_hyperparameters({"optim": optim, "schedule": schedule, "phases": phases, "config": config})
        self.phases = [Phase(**phase) for phase in phases]
        self._check_choices()

    def _check_choices(self) -> None:
        """Refuse a phase, schedule or optimizer option here, not when the fit has begun."""
        names = list(self.layer_groups())
        for phase in self.phases:
            phase.open_groups(names)
            phase.make_schedule(self.hparams["schedule"])
        check_optimizer(**self.hparams["optim"])

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images (B, 3, H, W) -> task -> outputs (B, K) of its head; `network.log_probs` reads them."""
        outputs: dict[str, Tensor] = self.network(images)
        return outputs

    def layer_groups(self) -> LayerGroups:
        """Group name -> parameters, from the image up, `heads` last; learned weights of the losses are among these."""
        groups = self.network.layer_groups()
        learned = {f"weighting.{name}": parameter for name, parameter in self.weighting.named_parameters()}
        return {**groups, HEADS: groups[HEADS] | learned}

    def _losses(self, batch: Sample) -> dict[str, Tensor]:
        """What each task is trained with, a scalar."""
        outputs, target = self(batch["image"]), batch["target"]
        numbers, mix = batch.get("number", {}), batch.get("mix")
        return {
            task: mixed_loss(self.losses[task], outputs[task], target[task], numbers.get(task), mix)
            for task in self.space.names
        }

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Weighted sum of the task losses, a scalar; logged, also of mixed photos, as train/loss, train/<task>/loss."""
        losses = self._losses(batch)
        total: Tensor = self.weighting(losses)
        size = len(batch["index"])
        self.log("train/loss_step", total, prog_bar=True, sync_dist=True)
        self._log_mean("loss", total, size)
        for task, loss in losses.items():
            self._log_mean(f"{task}/loss", loss, (batch["target"][task] != UNLABELLED).sum())
        if self.weighting.is_moving:
            for task, weight in self.weighting.weights().items():
                self._log_mean(f"{task}/weight", weight, size)
        return total

    def _log_mean(self, name: str, value: Tensor | float, count: Tensor | int) -> None:
        """Log the epoch's mean of `value`, of `count` photos; nothing leaves the device."""
        mean = cast(WeightedMean, self.train_means[name])
        mean.update(value if isinstance(value, float) else value.detach(), count)
        self.log(f"train/{name}", mean, on_step=False, on_epoch=True)

    def _sums(self) -> dict[str, Tensor]:
        """What this process has added up since the epoch began."""
        means = {name: cast(WeightedMean, mean).sums() for name, mean in self.train_means.items()}
        of_all = {"weighting": self.weighting.sums(), **means}
        return {f"{owner}/{name}": value for owner, sums in of_all.items() for name, value in sums.items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A run may go on in the middle of an epoch: what all processes have added up."""
        if self._trainer is not None:  # else it is not trained
            add_up = partial(self._trainer.strategy.reduce, reduce_op="sum")
            copies = {name: value.clone() for name, value in self._sums().items()}  # as they are added up in place
            checkpoint[SUMS] = {name: add_up(value) for name, value in copies.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of `on_save_checkpoint`: to each process an equal share."""
        if self._trainer is not None:
            sums = self._sums()
            for name, value in checkpoint.get(SUMS, {}).items():
                sums[name].copy_(value / self._trainer.world_size)

    def on_train_epoch_start(self) -> None:
        """The losses' weights may be others in each epoch; the means are of one."""
        self.weighting.start_epoch(self.trainer.strategy.reduce)
        for mean in self.train_means.values():
            cast(WeightedMean, mean).reset()

    def validation_step(self, batch: Sample, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Adds the batch to the scores of its side; the losses are plain cross-entropies, whatever is trained with."""
        outputs, target = self(batch["image"]), batch["target"]
        log_probs = self.network.log_probs(outputs)
        losses = {task: scored_loss(log_probs[task], target[task]) for task in self.space.names}
        sides = SIDES[-len(self.trainer.num_val_batches) :]  # nobody held out: clean_train alone
        scores = self.side_scores(sides[dataloader_idx])
        scores.update(log_probs, target, losses, weighted_sum(losses, self.task_weights))
        for task, truth in batch.get("number", {}).items():
            said = self.network.head(task).number(outputs[task])
            if said is not None:
                scores.update_numbers(task, target[task], truth, said)

    def side_scores(self, side: str) -> Scores:
        """Scores of "val" or "clean_train", kept until the next validation."""
        return cast(Scores, self.scores[side])

    def on_validation_epoch_end(self) -> None:
        """Logs `val/f1`, `val/<task>/f1`, `clean_train/...`: every side that saw photos."""
        for side in SIDES:
            scores = self.side_scores(side)
            if not scores.is_empty:
                for name, value in scores.compute().items():
                    self.log(f"{side}/{name}", value, prog_bar=name == "f1", add_dataloader_idx=False, sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        """The scores of an epoch are kept until the next, for figures."""
        for side in SIDES:
            self.side_scores(side).reset()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One optimizer whose groups all stand from the start, and one schedule over all phases, per step."""
        options = dict(self.hparams["optim"])
        lr, weight_decay = options.pop("lr"), options.pop("weight_decay")
        groups = self.layer_groups()
        param_groups = build_param_groups(groups, weight_decay=weight_decay, no_decay=self.network.no_decay())
        optimizer = make_optimizer(param_groups, lr=lr, **options)
        steps = int(self.trainer.estimated_stepping_batches) // sum(phase.epochs for phase in self.phases)
        schedule = self.hparams["schedule"]
        plan = [
            PhaseSchedule(
                steps=steps * phase.epochs,
                lrs=expand_lrs(param_groups, phase.group_lrs(list(groups), lr)),
                schedule=phase.make_schedule(schedule),
            )
            for phase in self.phases
        ]
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": PhasedLR(optimizer, plan), "interval": "step", "name": "lr"},
        }


class SingleTaskModule(MultiTaskModule):
    """MultiTaskModule over a label space of one task: `val/f1` is then that task's macro F1.

    Raises:
        LabelError: more than one task.
    """

    def __init__(self, **options: Any) -> None:
        if len(options["tasks"]) != 1:
            raise LabelError(f"expected one task, got {', '.join(options['tasks'])}; use MultiTaskModule")
        super().__init__(**options)


def check_task_names(names: Iterable[str]) -> None:
    """Raises LabelError for a name that cannot stand in a metric, a file's name or a ModuleDict."""
    for name in names:
        if not re.fullmatch(r"\w[\w -]*", name) or hasattr(nn.ModuleDict, name) or name in (TOTAL, JOINT, "training"):
            raise LabelError(
                f"a task cannot be called {name!r}: expected letters, digits, spaces, - and _, and no word of "
                "PyTorch's own; rename its column"
            )


def module_class(space: LabelSpace) -> type[MultiTaskModule]:
    """The module for a label space: SingleTaskModule where it has one task."""
    return SingleTaskModule if len(space.tasks) == 1 else MultiTaskModule
