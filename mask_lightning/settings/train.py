"""Options of `python -m mask_lightning.train`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from mask_lightning.errors import ConfigError, did_you_mean
from mask_lightning.labels import FACE, LabelSpace
from mask_lightning.metrics.names import score_keys
from mask_lightning.metrics.scores import MAIN_METRIC
from mask_lightning.settings.augment import AugmentSettings, MixSettings
from mask_lightning.settings.base import ONE_OR_SEVERAL, Seed, Settings
from mask_lightning.settings.data import DataSettings, LabelSettings, TaskSettings, known_space
from mask_lightning.settings.ensembles import find_member
from mask_lightning.settings.loss import LossSettings, WeightingSettings
from mask_lightning.settings.model import HeadSettings, ModelSettings, SharingSettings
from mask_lightning.settings.optim import (
    AveragingSettings,
    FinetuneSettings,
    OptimSettings,
    RangeTestSettings,
    ScheduleSettings,
)
from mask_lightning.settings.trainer import CheckpointSettings, LoggerSettings, TrainerSettings
from mask_lightning.utils.launch import Launch, check_launch


class TrainSettings(Settings):
    """All options of a training run."""

    seed: Seed = Field(
        0, description="seed of the weights, the order, the augmentation and, unless data.split_seed is set, the split"
    )
    outputs: Path = Field(Path("outputs"), description="folder of runs, sweeps, caches and drawn data")
    resume: Path | None = Field(None, description="run folder: continue from its last checkpoint, with its own options")
    inspect: bool = Field(False, description="print layers, groups, schedule and split, train nothing")
    skip_done: bool = Field(
        True, description="in a multirun: skip jobs that an earlier start has finished, continue those it interrupted"
    )
    ensemble: str | None = Field(None, description="ensemble whose members a multirun trains; set by ensemble=NAME")
    member: str | None = Field(
        None,
        description="member of an ensemble: age0..age8, mask0..mask9, gender0..gender2; sets task and photos",
    )
    distill: Annotated[list[Path] | None, ONE_OR_SEVERAL] = Field(
        None,
        min_length=1,
        description="teachers: a run, a sweep or a list of them, whose mean probabilities are learned, too",
    )
    allow_leak: bool = Field(
        False,
        description="true: accept teachers and tables of networks that were trained on people whom this run holds out; "
        "its scores are then too good",
    )
    data: DataSettings
    labels: LabelSettings = LabelSettings()
    task: TaskSettings
    model: ModelSettings
    sharing: SharingSettings = SharingSettings()
    head: HeadSettings = HeadSettings()
    loss: LossSettings
    weighting: WeightingSettings = WeightingSettings()
    augment: AugmentSettings
    mix: MixSettings = MixSettings()
    optim: OptimSettings
    range_test: RangeTestSettings = RangeTestSettings()
    schedule: ScheduleSettings
    finetune: FinetuneSettings
    averaging: AveragingSettings = AveragingSettings()
    checkpoint: CheckpointSettings
    trainer: TrainerSettings
    logger: LoggerSettings

    @property
    def epochs(self) -> int:
        """Number of epochs of all phases together."""
        return sum(phase.epochs for phase in self.finetune.phases)

    def on(self, launch: Launch | None) -> TrainSettings:
        """Return the settings with the devices and machines on which torchrun has started the run, if it has.

        Args:
            launch: result of `find_launch`.

        Raises:
            ConfigError: `trainer.devices` or `trainer.num_nodes` contradict it.
        """
        check_launch(launch, devices=self.trainer.devices, num_nodes=self.trainer.num_nodes)
        if launch is None:
            return self
        trainer = self.trainer.model_copy(update={"devices": launch.per_node, "num_nodes": launch.nodes})
        return self.model_copy(update={"trainer": trainer})

    @model_validator(mode="before")
    @classmethod
    def _a_member_has_its_task(cls, values: Any) -> Any:
        """Set the task of the member's ensemble, so that later code and the recorded options agree."""
        name = values.get("member") if isinstance(values, Mapping) else None
        if not isinstance(name, str):
            return values
        ensemble, _ = find_member(name)
        tasks = (values.get("task") or {}).get("tasks")
        if ensemble is None:
            if not tasks or len(tasks) != 1:
                raise ValueError(f"member={name} balances one task, found {tasks or 'all'}; set task=age or another")
            return values
        if tasks and tasks != [ensemble.task.name]:
            raise ValueError(f"member={name} learns {ensemble.task.name}, found task={','.join(tasks)}; leave task out")
        return {**values, "task": {"tasks": [ensemble.task.name]}}

    @model_validator(mode="after")
    def _fits_together(self) -> TrainSettings:
        if self.known_space is not None:
            self.choose(self.known_space)
        every = self.trainer.validate_every
        if isinstance(every, int) and every > self.epochs > 0:
            raise ValueError(
                f"trainer.validate_every must be at most the {self.epochs} epochs, got {every}; use `end` for the last"
            )
        devices = self.trainer.devices
        if isinstance(devices, int) and devices > 1 and self.data.batch_size < 2 * devices:
            raise ValueError(
                f"expected data.batch_size of at least 2 for each of {devices} devices, got {self.data.batch_size}; "
                "raise it, or lower trainer.devices"
            )
        if self.checkpoint.patience is not None:
            self._check_patience()
        self._check_soft_targets()
        if self.loss.consistency:
            self._check_consistency()
        if self.finetune.probe:
            self._check_probe()
        if self.data.device_augment == "on" and self.augment.cpu_only:
            raise ValueError(
                f"data.device_augment=on augments batches by RandAugment and mirror images, found "
                f"{self.augment.cpu_only}, which single photos on the CPU have; set data.device_augment=auto"
            )
        if self.range_test.phase > len(self.finetune.phases) > 0:
            raise ValueError(
                f"range_test.phase must be one of the {len(self.finetune.phases)} of finetune.phases, "
                f"got {self.range_test.phase}; lower it"
            )
        return self

    def _check_soft_targets(self) -> None:
        soft = "distill" if self.distill else "data.extra" if self.data.extra else None
        defaults = LossSettings()
        for name in ("distill_weight", "distill_temperature"):
            value = getattr(self.loss, name)
            if not self.distill and value != getattr(defaults, name):
                raise ValueError(f"loss.{name}={value:g} is for distill, found null; set distill to the teachers' runs")
        if self.allow_leak and soft is None and self.model.pretrained_path is None:
            raise ValueError(
                "allow_leak=true is for distill, data.extra and model.pretrained=RUN, found none of them; leave it out"
            )
        if soft and self.head.name in ("regression", "ordinal"):
            raise ValueError(
                f"{soft} teaches probabilities of classes, found head={self.head.name}, which has no logit per class; "
                "set head=classes or head=classes_and_regression"
            )

    def _check_consistency(self) -> None:
        if not self.data.two_per_person:
            raise ValueError(
                "loss.consistency compares two photos of a person, found data.two_per_person=false; set that to true"
            )
        if self.mix.name != "none":
            raise ValueError(
                f"loss.consistency compares two photos of a person, found mix={self.mix.name}, which mixes people; "
                "set mix=none"
            )

    def _check_probe(self) -> None:
        if self.head.name != "classes":
            raise ValueError(
                f"finetune.probe fits heads with a logit per class, found head={self.head.name}; set head=classes"
            )
        if self.finetune.phases:
            return
        loss, plain = self.loss, LossSettings()
        names = ("label_smoothing", "focal_gamma", "soft_f1", "consistency")
        without_effect = {
            **{f"loss.{name}": (getattr(loss, name), getattr(plain, name)) for name in names},
            "mix": (self.mix.name, "none"),
            "weighting": (self.weighting.name, "fixed"),
            "averaging.decay": (self.averaging.decay, None),
            "checkpoint.patience": (self.checkpoint.patience, None),
            "distill": (self.distill, None),
            "data.extra": (self.data.extra, None),
            "optim.lr": (self.optim.lr if self.optim.lr == "auto" else None, None),
        }
        for name, (value, default) in without_effect.items():
            if value != default:
                raise ValueError(
                    f"finetune=probe makes no gradient step, found {name}={value}, which would have no effect; leave "
                    "it out, or set finetune=lp_ft"
                )

    def _check_patience(self) -> None:
        if not self.data.val_fraction:
            raise ValueError(
                "checkpoint.patience needs held-out people, found data.val_fraction=0; "
                "hold some out, or set patience to null"
            )
        if self.trainer.validate_every == "end":
            raise ValueError(
                "checkpoint.patience needs validations during the run, found trainer.validate_every=end; "
                "set that to 1, or patience to null"
            )

    @property
    def cache_folder(self) -> Path:
        """Folder of the photo caches."""
        return self.data.cache_below(self.outputs)

    @property
    def known_space(self) -> LabelSpace | None:
        """Label space of the photos before they are read; None if only their table defines it."""
        return known_space(self.data, self.labels)

    def choose(self, space: LabelSpace) -> LabelSpace:
        """Return the tasks of the photos' label space that the network learns.

        Raises:
            ConfigError: `task`, `data.balanced_by`, `loss.task_weights` or `checkpoint.monitor` name a task or score
                that this run does not have, or head, sharing or weighting do not fit its tasks.
        """
        chosen = self.task.choose(space)
        for task in self.data.balanced_by or ():
            if task not in chosen.names:
                raise ConfigError(
                    f"data.balanced_by names {task!r}, no task of this run; {did_you_mean(task, chosen.names)}"
                )
        self.head.check(chosen, ages=self.labels.age, loss=self.loss.model_dump(exclude_defaults=True))
        weights = self.loss.task_weights
        unknown = sorted(set(weights) - {*space.names, *FACE.names})  # conf/loss names FACE's tasks
        if unknown:
            raise ConfigError(f"loss.task_weights names {unknown[0]!r}; {did_you_mean(unknown[0], space.names)}")
        if not any(weights.get(task, 1.0) for task in chosen.names):
            raise ConfigError("loss.task_weights are 0 for every task, so nothing would be learned; raise one")
        self.sharing.check(chosen.names)
        self.loss.find_consistency_tasks(chosen.names)
        self.weighting.check(chosen.names, weights)
        scores = score_keys(("val", "clean_train") if self.data.val_fraction else ("clean_train",), chosen.names)
        if self.monitor not in scores:
            raise ConfigError(
                f"checkpoint.monitor must be a score of this run, got {self.monitor!r}; "
                f"{did_you_mean(self.monitor, scores)}"
            )
        return chosen

    @property
    def monitor(self) -> str:
        """Metric that chooses best.ckpt; by default f1 of the held-out people, or of clean training photos."""
        side = "val" if self.data.val_fraction else "clean_train"
        return self.checkpoint.monitor or f"{side}/{MAIN_METRIC}"
