"""What every door that passes photos through a trained network can be told of that pass."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mask_lightning.settings.base import Count, Positive, Settings


class PassSettings(Settings):
    """How photos are predicted, and below which folder the outcome goes."""

    batch_size: Positive
    num_workers: Count | None
    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    progress: bool
    outputs: Path


class PhotosSettings(Settings):
    """What to predict, or what was to be predicted."""

    root: Path | None


class PredictSettings(PassSettings):
    """Everything that `python -m mask_lightning.predict` can be told."""

    ckpt: Annotated[list[Path], Field(min_length=1)]
    data: PhotosSettings
    tta: Literal["none", "flip", "randaugment", "blend"]
    calibrated: Literal["auto", False]
    submission: Literal["auto"] | bool

    @field_validator("ckpt", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("ckpt is not set; name a trained run: ckpt=outputs/runs/RUN, or several: ckpt=[RUN,RUN]")
        return value if isinstance(value, list) else [value]

    @field_validator("data")
    @classmethod
    def _photos_are_named(cls, value: PhotosSettings) -> PhotosSettings:
        if value.root is None:
            raise ValueError("data.root is not set; name a folder of photos, one photo or a CSV: data.root=PHOTOS")
        return value


class BlendSettings(Settings):
    """Everything that `python -m mask_lightning.blend` can be told."""

    files: list[Path]
    kind: Literal["vote", "mean"]
    out: Path | None
    outputs: Path

    @field_validator("files", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        if not isinstance(value, list) or len(value) < 2:
            raise ValueError(f"files must name two or more to blend, got {value}; set files=[A,B,C]")
        return value


class CheckSubmissionSettings(Settings):
    """Everything that `python -m mask_lightning.check_submission` can be told."""

    file: Path | None
    data: PhotosSettings
    train: Path | None
    against: Path | None

    @field_validator("file")
    @classmethod
    def _file_is_named(cls, value: Path | None) -> Path:
        if value is None:
            raise ValueError("file is not set; name a submission or the folder that holds it: file=submission.csv")
        return value


class VoteSettings(PassSettings):
    """Everything that `python -m mask_lightning.vote` can be told."""

    runs: Annotated[list[Path], Field(min_length=1)]
    data: PhotosSettings
    kind: Literal["hard", "soft", "weighted"]
    weights: list[Annotated[float, Field(ge=0)]] | None
    allow_missing: bool
    soup: bool
    tta: Literal["none", "flip", "randaugment", "blend"]
    submission: Literal["auto"] | bool

    @field_validator("runs", mode="before")
    @classmethod
    def _several_runs(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("runs is not set; name a sweep: runs=outputs/sweeps/SWEEP, or runs: runs=[RUN,RUN]")
        return value if isinstance(value, list) else [value]

    @model_validator(mode="after")
    def _weights_fit_kind(self) -> VoteSettings:
        if self.weights is not None and self.kind != "weighted":
            raise ValueError(f"weights are for kind=weighted, found them beside kind={self.kind}; remove them")
        if self.submission is True and self.data.root is None:
            raise ValueError("submission=true needs data.root, found null; set it to the folder that holds eval/")
        return self
