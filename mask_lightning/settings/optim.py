"""How the weights are learned: optimizer, learning rate, schedule, phases, averaging."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mask_lightning.settings.base import LearningRate, Positive, Ratio, Settings


class OptimSettings(BaseModel):
    """lr ("auto": see RangeTestSettings) and weight decay; further options are the optimizer's own, checked by it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Literal["adamw", "ranger", "sgd"]
    lr: LearningRate | Literal["auto"]
    weight_decay: Annotated[float, Field(ge=0, le=10)]


class RangeTestSettings(Settings):
    """The learning rate range test of `optim.lr=auto` and find_lr: see `callbacks.lr_range_test`."""

    start_lr: LearningRate = 1e-7
    end_lr: LearningRate = 10.0
    num_steps: Annotated[int, Field(ge=10)] = 100
    phase: Positive = 1
    suggestion: Literal["valley", "steep", "slide", "minimum"] = "minimum"

    @model_validator(mode="after")
    def _rises(self) -> RangeTestSettings:
        if self.start_lr >= self.end_lr:
            raise ValueError(
                f"range_test.end_lr must be greater than range_test.start_lr, got {self.end_lr:g} and "
                f"{self.start_lr:g}; raise end_lr"
            )
        return self


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
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    schedule: dict[str, Any] = Field(default_factory=dict)
    image_size: Annotated[int, Field(ge=32, le=1024)] | None = None


class FinetuneSettings(Settings):
    """The phases; the other keys are what the phases of a file are written with."""

    epochs: Positive
    frozen_epochs: Positive | None = None
    lr_ratio: Ratio = 1.0
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    phases: Annotated[list[PhaseSettings], Field(min_length=1)]


class AveragingSettings(Settings):
    """The moving average of the weights: see `callbacks.weight_averaging`; null keeps the weights themselves."""

    decay: Annotated[float, Field(gt=0, lt=1)] | None = None
