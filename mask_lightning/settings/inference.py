"""Options of the commands that predict photos, combine predictions and check submissions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mask_lightning.settings.base import ONE_OR_SEVERAL, Count, Positive, Settings, required
from mask_lightning.settings.data import CACHE_GB, CacheGb
from mask_lightning.settings.export import ENGINE, Engine

Tta = Literal["none", "flip", "randaugment", "blend"]
TTA = "average predictions over versions of each photo: flip (2), randaugment (4 mild draws), blend (both)"

Decision = Literal["argmax", "macro_f1"]
DECISION = (
    "argmax: the most probable class; macro_f1: the classes with the largest expected macro F1 of all photos together"
)


class InferenceSettings(Settings):
    """How photos are passed through networks, and where results go."""

    batch_size: Positive = Field(64, description="photos per batch")
    num_workers: Count | None = Field(
        None, description="processes that load photos; null: chosen from the cores and the engine"
    )
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = Field("auto", description="where to predict")
    progress: bool = Field(True, description="show progress bars")
    outputs: Path = Field(Path("outputs"), description="results go to a new folder below this one")


class PhotosSettings(Settings):
    """Photos without labels."""

    root: Path | None = Field(
        None,
        description="folder that holds eval/ (info.csv, images/), any folder of photos, one photo, or a CSV; with "
        "predict faces=all, a video or camera:0; or packed photos, also s3://BUCKET/FOLDER",
    )
    cache_gb: CacheGb = CACHE_GB
    follow_symlinks: bool = Field(False, description="allow a CSV to list symlinks that lead out of its folder")


class TrainedSettings(InferenceSettings):
    """Trained networks, and the photos that they predict."""

    ckpt: Annotated[
        list[Path],
        Field(min_length=1),
        ONE_OR_SEVERAL,
        required("name a trained run: ckpt=outputs/runs/RUN, or several: ckpt=[RUN,RUN]"),
    ] = Field(description="a run folder (its best.ckpt) or a .ckpt file, or several for different tasks: [RUN,RUN,RUN]")
    data: PhotosSettings

    @field_validator("data")
    @classmethod
    def _photos_are_named(cls, value: PhotosSettings) -> PhotosSettings:
        if value.root is None:
            raise ValueError("data.root is not set; name a folder of photos, one photo or a CSV: data.root=PHOTOS")
        return value


class PredictSettings(TrainedSettings):
    """Options of `python -m mask_lightning.predict`."""

    engine: Engine = Field("auto", description=ENGINE)
    tta: Tta = Field("none", description=TTA)
    calibrated: Literal["auto", False] = Field(
        "auto", description="auto: apply the temperatures of `evaluate calibrate=true` if there are any; false: never"
    )
    decision: Decision = Field("argmax", description=f"{DECISION}; needs `evaluate calibrate=true`")
    submission: Literal["auto"] | bool = Field(
        "auto", description="true: submission.csv or an error; auto: if the runs predict all tasks; false: none"
    )
    faces: Literal["one", "all"] = Field(
        "one", description="one: the largest face of each photo; all: every face, also of a video or a camera"
    )
    max_faces: Positive | None = Field(
        None, description="faces=all: at most this many faces of a photo, the largest; null: all"
    )
    min_size: Count = Field(0, description="faces=all: leave out faces that are lower than this many pixels")
    every: Positive = Field(1, description="video, camera: search every n-th frame")
    seconds: Annotated[float, Field(gt=0)] | None = Field(
        None, description="video, camera: end after this many seconds; null: at its end, or with Ctrl-C"
    )
    annotate: bool = Field(
        False, description="faces=all: also write copies of the photos, or of the video, with boxes and labels"
    )
    shards: Positive | None = Field(
        None, description="with -m: predict in this many jobs; finished ones are skipped; then run mask_lightning.merge"
    )
    shard: str | None = Field(None, description="i/n: predict the i-th of n parts of the photos; set by shards=n")

    @field_validator("shard")
    @classmethod
    def _shard_exists(cls, value: str | None) -> str | None:
        match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", value or "1/1")
        if match is None or int(match[1]) > int(match[2]):
            raise ValueError(f"shard must be i/n with i from 1 to n, got {value}; set shard, such as shard=1/4")
        return value

    @model_validator(mode="after")
    def _all_photos_are_decided_together(self) -> PredictSettings:
        if self.decision == "macro_f1" and self.shard is not None:
            raise ValueError(
                f"decision=macro_f1 decides all photos together, found shard={self.shard}; predict without shards"
            )
        return self

    @model_validator(mode="after")
    def _faces_fit_the_other_options(self) -> PredictSettings:
        if self.faces == "one":
            for name in ("max_faces", "min_size", "every", "seconds", "annotate"):
                value = getattr(self, name)
                if value != type(self).model_fields[name].default:
                    shown = str(value).lower() if isinstance(value, bool) else value
                    raise ValueError(f"{name} is for faces=all, found {name}={shown} beside faces=one; set faces=all")
            return self
        if self.submission is True:
            raise ValueError(
                "submission.csv holds one face per photo, found submission=true beside faces=all; set faces=one"
            )
        if self.decision != "argmax":
            raise ValueError(
                f"decision={self.decision} is for one face per photo, found faces=all; set decision=argmax"
            )
        if self.shards is not None or self.shard is not None:
            raise ValueError("shards are for one face per photo, found them beside faces=all; set shards=null")
        return self


class MergeSettings(Settings):
    """Options of `python -m mask_lightning.merge`."""

    shards: Annotated[Path, required("name the folder: shards=outputs/predictions/SHARDS")] = Field(
        description="folder with the shards, as predict -m shards=n printed it"
    )
    submission: Literal["auto"] | bool = Field(
        "auto", description="true: submission.csv or an error; auto: if the shards predict all tasks; false: none"
    )
    out: Path | None = Field(None, description="folder of the result; null: a new folder below outputs")
    outputs: Path = Field(Path("outputs"), description="results go to a new folder below this one")


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

    file: Annotated[Path, required("name a submission or the folder that holds it: file=submission.csv")] = Field(
        description="submission.csv, or the folder that holds it"
    )
    data: PhotosSettings
    train: Path | None = Field(
        None,
        description="labelled photos whose class distribution is shown beside; null: looked for near data.root",
    )
    against: Path | None = Field(None, description="another submission to compare with")


class PseudoLabelSettings(TrainedSettings):
    """Options of `python -m mask_lightning.pseudo_label`; networks of the same task are averaged."""

    tta: Tta = Field("none", description=TTA)
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="keep this share of the photos of every predicted class, the most confident first"
    )
    confidence: Annotated[float, Field(ge=0, le=1)] = Field(
        0.6, description="keep no prediction below this probability"
    )
    balanced: bool = Field(
        True, description="true: weights with which the classes of a task weigh the same; false: weights of 1"
    )


class VoteSettings(InferenceSettings):
    """Options of `python -m mask_lightning.vote`."""

    runs: Annotated[
        list[Path],
        Field(min_length=1),
        ONE_OR_SEVERAL,
        required("name a sweep: runs=outputs/sweeps/SWEEP, or runs: runs=[RUN,RUN]"),
    ] = Field(description="a sweep, a run, a folder that holds such folders, or a list of them: [SWEEP,RUN]")
    data: PhotosSettings
    kind: Literal["hard", "soft", "weighted"] = Field(
        "hard",
        description="hard: majority of the predictions; soft: mean of the probabilities; weighted: hard, see weights",
    )
    weights: list[Annotated[float, Field(ge=0)]] | None = Field(
        None,
        description="kind=weighted: one per member in the order of members.csv; null: val/f1 of its task",
    )
    decision: Decision = Field(
        "argmax", description=f"{DECISION}, for kind=soft, calibrated on the people whom the members held out"
    )
    allow_missing: bool = Field(False, description="true: vote although members of an ensemble are missing")
    soup: bool = Field(
        True,
        description="also average the members' weights; a greedy soup costs one to six more passes per member, as its "
        "members are chosen on all held-out people and, for its score, without each of 5 folds",
    )
    engine: Engine = Field("auto", description=ENGINE)
    tta: Tta = Field("none", description=TTA)
    submission: Literal["auto"] | bool = Field(
        "auto", description="with data.root, true: submission.csv or an error; auto: true for eval/; false: none"
    )

    @model_validator(mode="after")
    def _weights_fit_kind(self) -> VoteSettings:
        if self.weights is not None and self.kind != "weighted":
            raise ValueError(f"weights are for kind=weighted, found them beside kind={self.kind}; remove them")
        if self.decision == "macro_f1" and self.kind != "soft":
            raise ValueError(
                f"decision=macro_f1 needs probabilities, found kind={self.kind}, which counts votes; set kind=soft"
            )
        if self.submission is True and self.data.root is None:
            raise ValueError("submission=true needs data.root, found null; set it to the folder that holds eval/")
        return self
