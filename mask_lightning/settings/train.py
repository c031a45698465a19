"""What `python -m mask_lightning.train` can be told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mask_lightning.errors import ConfigError, did_you_mean
from mask_lightning.labels import FACE, LabelSpace
from mask_lightning.metric_keys import score_keys
from mask_lightning.settings.checking import LearningRate, Positive, Ratio, Seed, Settings, Share
from mask_lightning.settings.data import DataSettings, LabelSettings, TaskSettings, known_space


class ModelSettings(Settings):
    """The network; null takes what timm says of the backbone."""

    backbone: str
    pretrained: str
    image_size: Annotated[int, Field(ge=32, le=1024)] | None
    drop_rate: Share
    drop_path_rate: Share

    @model_validator(mode="before")
    @classmethod
    def _yaml_booleans(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and isinstance(values.get("pretrained"), bool):
            return {**values, "pretrained": str(values["pretrained"]).lower()}
        return values


class LossSettings(Settings):
    """Cross-entropy per task, and the weights of their sum."""

    label_smoothing: Share
    logit_adjustment: Annotated[float, Field(ge=0, le=4)]
    task_weights: dict[str, Annotated[float, Field(ge=0)]]


class AugmentSettings(Settings):
    """RandAugment on torchvision's scale, and mirror images."""

    num_ops: Annotated[int, Field(ge=0, le=14)]
    magnitude: Annotated[int, Field(ge=0, le=30)]
    flip: Annotated[float, Field(ge=0, le=1)]
    min_area: Annotated[float, Field(gt=0, le=1)]


class OptimSettings(BaseModel):
    """lr and weight decay; further options are the optimizer's own and checked by it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Literal["adamw", "ranger", "sgd"]
    lr: LearningRate
    weight_decay: Annotated[float, Field(ge=0, le=10)]


class ScheduleSettings(BaseModel):
    """The curve of lr and momentum; further options are the schedule's own and checked by it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Literal["one_cycle", "flat_cosine", "cosine", "constant"]


class LastBlocks(Settings):
    """The last n layer groups of the backbone."""

    last: Positive


class PhaseSettings(Settings):
    """One entry of finetune.phases: see `optim.phases.Phase`."""

    epochs: Positive
    unfreeze: LastBlocks | str | Annotated[list[str], Field(min_length=1)] = "all"
    lr_scale: Annotated[float, Field(gt=0)] = 1.0
    lr_ratio: Ratio = 1.0
    schedule: dict[str, Any] = Field(default_factory=dict)


class FinetuneSettings(Settings):
    """The phases; the other keys are what the phases of a file are written with."""

    epochs: Positive
    frozen_epochs: Positive | None = None
    lr_ratio: Ratio = 1.0
    phases: Annotated[list[PhaseSettings], Field(min_length=1)]


class CheckpointSettings(Settings):
    """What is kept: best.ckpt by this metric, and last.ckpt."""

    monitor: str | None


class TrainerSettings(Settings):
    """Lightning's Trainer."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    devices: Positive | Literal["auto"]
    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"]
    validate_every: Positive | Literal["end"]
    max_batches: Positive | None
    progress: bool


class LoggerSettings(Settings):
    """Beside metrics.csv, which is always written."""

    name: Literal["tensorboard", "csv", "wandb", "none"]
    project: str


class TrainSettings(Settings):
    """Everything that `python -m mask_lightning.train` can be told."""

    seed: Seed
    outputs: Path
    resume: Path | None
    inspect: bool
    skip_done: bool
    data: DataSettings
    labels: LabelSettings = LabelSettings()
    task: TaskSettings
    model: ModelSettings
    loss: LossSettings
    augment: AugmentSettings
    optim: OptimSettings
    schedule: ScheduleSettings
    finetune: FinetuneSettings
    checkpoint: CheckpointSettings
    trainer: TrainerSettings
    logger: LoggerSettings

    @property
    def epochs(self) -> int:
        """Of all phases together."""
        return sum(phase.epochs for phase in self.finetune.phases)

    @model_validator(mode="after")
    def _fits_together(self) -> TrainSettings:
        if self.known_space is not None:
            self.choose(self.known_space)
        every = self.trainer.validate_every
        if isinstance(every, int) and every > self.epochs:
            raise ValueError(
                f"trainer.validate_every must be at most the {self.epochs} epochs, got {every}; use `end` for the last"
            )
        return self

    @property
    def known_space(self) -> LabelSpace | None:
        """The label space of the photos, before they are read; None where only their table tells it."""
        return known_space(self.data, self.labels)

    def choose(self, space: LabelSpace) -> LabelSpace:
        """The tasks of the photos' label space that the network learns.

        Raises:
            ConfigError: `task`, `loss.task_weights` or `checkpoint.monitor` name what this run does not have.
        """
        chosen = self.task.choose(space)
        weights = self.loss.task_weights
        unknown = sorted(set(weights) - {*space.names, *FACE.names})  # conf/loss names FACE's tasks
        if unknown:
            raise ConfigError(f"loss.task_weights names {unknown[0]!r}; {did_you_mean(unknown[0], space.names)}")
        if not any(weights.get(task, 1.0) for task in chosen.names):
            raise ConfigError("loss.task_weights are 0 for every task, so nothing would be learned; raise one")
        scores = score_keys(("val", "clean_train") if self.data.val_fraction else ("clean_train",), chosen.names)
        if self.monitor not in scores:
            raise ConfigError(
                f"checkpoint.monitor must be a score of this run, got {self.monitor!r}; "
                f"{did_you_mean(self.monitor, scores)}"
            )
        return chosen

    @property
    def monitor(self) -> str:
        """The metric that chooses best.ckpt: by default f1 of the side that is scored."""
        side = "val" if self.data.val_fraction else "clean_train"
        return self.checkpoint.monitor or f"{side}/f1"
