"""Options of the commands that predict photos, combine predictions and check submissions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mask_lightning.settings.base import Count, Positive, Settings

Tta = Literal["none", "flip", "randaugment", "blend"]
TTA = "average predictions over versions of each photo: flip (2), randaugment (4 mild draws), blend (both)"


class InferenceSettings(Settings):
    """How photos are passed through networks, and where results go."""

    batch_size: Positive = Field(64, description="photos per batch")
    num_workers: Count | None = Field(None, description="processes that load photos; null: chosen from the cores")
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = Field("auto", description="where to predict")
    progress: bool = Field(True, description="show progress bars")
    outputs: Path = Field(Path("outputs"), description="results go to a new folder below this one")


class PhotosSettings(Settings):
    """Photos without labels."""

    root: Path | None = Field(
        None, description="folder that holds eval/ (info.csv, images/), any folder of photos, one photo, or a CSV"
    )
    follow_symlinks: bool = Field(False, description="allow a CSV to list symlinks that lead out of its folder")


class PredictSettings(InferenceSettings):
    """Options of `python -m mask_lightning.predict`."""

    ckpt: Annotated[list[Path], Field(min_length=1)] = Field(
        description="a run folder (its best.ckpt) or a .ckpt file, or several for different tasks: [RUN,RUN,RUN]"
    )
    data: PhotosSettings
    tta: Tta = Field("none", description=TTA)
    calibrated: Literal["auto", False] = Field(
        "auto", description="auto: apply the temperatures of `evaluate calibrate=true` if there are any; false: never"
    )
    submission: Literal["auto"] | bool = Field(
        "auto", description="true: submission.csv or an error; auto: if the runs predict all tasks; false: none"
    )

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
    """Options of `python -m mask_lightning.blend`."""

    files: list[Path] = Field(
        default_factory=list,
        description="[A,B,C]: submissions for a vote, predictions for a mean, or the folders that hold them",
    )
    kind: Literal["vote", "mean"] = Field(
        "vote",
        description="vote: the class that most files chose, of equals the lowest; mean: mean of the probabilities",
    )
    out: Path | None = Field(None, description="folder of the result; null: a new folder below outputs")
    outputs: Path = Field(Path("outputs"), description="results go to a new folder below this one")

    @field_validator("files", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        if not isinstance(value, list) or len(value) < 2:
            raise ValueError(f"files must name two or more to blend, got {value}; set files=[A,B,C]")
        return value


class CheckSubmissionSettings(Settings):
    """Options of `python -m mask_lightning.check_submission`."""

    file: Path | None = Field(None, description="submission.csv, or the folder that holds it")
    data: PhotosSettings
    train: Path | None = Field(
        None,
        description="labelled photos whose class distribution is shown beside; null: looked for near data.root",
    )
    against: Path | None = Field(None, description="another submission to compare with")

    @field_validator("file")
    @classmethod
    def _file_is_named(cls, value: Path | None) -> Path:
        if value is None:
            raise ValueError("file is not set; name a submission or the folder that holds it: file=submission.csv")
        return value


class VoteSettings(InferenceSettings):
    """Options of `python -m mask_lightning.vote`."""

    runs: Annotated[list[Path], Field(min_length=1)] = Field(
        description="a sweep, a run, a folder that holds such folders, or a list of them: [SWEEP,RUN]"
    )
    data: PhotosSettings
    kind: Literal["hard", "soft", "weighted"] = Field(
        "hard",
        description="hard: majority of the predictions; soft: mean of the probabilities; weighted: hard, see weights",
    )
    weights: list[Annotated[float, Field(ge=0)]] | None = Field(
        None,
        description="kind=weighted: one per member in the order of members.csv; null: val/f1 of its task",
    )
    allow_missing: bool = Field(False, description="true: vote although members of an ensemble are missing")
    soup: bool = Field(
        True,
        description="also average the members' weights; greedy soups cost one more pass per member",
    )
    tta: Tta = Field("none", description=TTA)
    submission: Literal["auto"] | bool = Field(
        "auto", description="with data.root, true: submission.csv or an error; auto: true for eval/; false: none"
    )

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
