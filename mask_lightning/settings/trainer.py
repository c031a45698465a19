"""Where and how long a network is trained, and what is kept and logged of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mask_lightning.settings.base import Positive, Settings


class CheckpointSettings(Settings):
    """What is kept and when: best.ckpt by this metric, and last.ckpt; and when to give up on a better one."""

    monitor: str | None
    patience: Positive | None = None
    every_minutes: Annotated[float, Field(gt=0)] | None = None
    keep: Literal["both", "best"] = "both"
    half: bool = False

    @model_validator(mode="after")
    def _only_what_is_kept_alone_is_halved(self) -> CheckpointSettings:
        if self.half and self.keep != "best":
            raise ValueError(
                f"checkpoint.half is for a checkpoint to predict with, found checkpoint.keep={self.keep}, which keeps "
                "one to resume from; set checkpoint.keep=best"
            )
        return self


class TrainerSettings(Settings):
    """Lightning's Trainer."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    devices: Positive | Literal["auto"]
    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"]
    validate_every: Positive | Literal["end"]
    max_batches: Positive | None
    accumulate: Positive = 1
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    deterministic: bool = False
    progress: bool


class LoggerSettings(Settings):
    """Beside metrics.csv, which is always written."""

    name: Literal["tensorboard", "csv", "wandb", "none"]
    project: str
