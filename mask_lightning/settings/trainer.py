"""Options of Lightning's Trainer, the checkpoints and the logger."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mask_lightning.settings.base import Positive, Settings


class CheckpointSettings(Settings):
    """Choice and content of best.ckpt and last.ckpt, and early stopping."""

    monitor: str | None = Field(
        None, description="metric that chooses best.ckpt; null: val/f1, or clean_train/f1 if nobody is held out"
    )
    patience: Positive | None = Field(
        None, description="end the run after this many validations of the last phase without a better score"
    )
    every_minutes: Annotated[float, Field(gt=0)] | None = Field(
        10.0, description="also save last.ckpt within an epoch, this often; null: only at its end"
    )
    keep: Literal["both", "best"] = Field(
        "both", description="best: delete last.ckpt and the optimizer state of best.ckpt when the run is finished"
    )
    half: bool = Field(False, description="with keep=best: store large weights as float16, half the size")

    @model_validator(mode="after")
    def _check_half(self) -> CheckpointSettings:
        if self.half and self.keep != "best":
            raise ValueError(
                f"checkpoint.half is for a checkpoint to predict with, found checkpoint.keep={self.keep}, which keeps "
                "one to resume from; set checkpoint.keep=best"
            )
        return self


class TrainerSettings(Settings):
    """Options of Lightning's Trainer."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = Field("auto", description="where to train")
    devices: Positive | Literal["auto"] = Field(
        1, description="number of devices, one process each, that share every batch; auto: all GPUs"
    )
    num_nodes: Positive = Field(
        1, description="machines that train one network together; torchrun starts the processes on each"
    )
    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"] = Field(
        "auto", description="auto: 16-mixed on CUDA, 32-true elsewhere"
    )
    validate_every: Positive | Literal["end"] = Field(
        1, description="validate after every n-th epoch and the last one; end: after the last epoch only"
    )
    max_batches: Positive | None = Field(None, description="at most this many batches per epoch, to try things out")
    accumulate: Positive = Field(1, description="batches per optimizer step")
    clip_norm: Annotated[float, Field(gt=0)] | None = Field(None, description="maximum norm of all gradients together")
    deterministic: bool = Field(
        False, description="the same seed gives the same bits on a GPU too, at some cost of speed"
    )
    progress: bool = Field(True, description="show progress bars")


class LoggerSettings(Settings):
    """Logger beside metrics.csv, which is always written."""

    name: Literal["tensorboard", "csv", "wandb", "mlflow", "trackio", "none"] = Field(
        "tensorboard", description="set by logger=NAME"
    )
    project: str = Field("mask_lightning", description="project of wandb and trackio, experiment of mlflow")
