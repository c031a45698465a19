"""Options of the commands that evaluate runs or inspect labelled photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mask_lightning.labels import LabelSpace
from mask_lightning.settings.base import ONE_OR_SEVERAL, Count, Positive, Seed, Settings
from mask_lightning.settings.data import DataSettings, LabelSettings, TaskSettings, known_space
from mask_lightning.settings.export import ENGINE, Engine, TrainedPath
from mask_lightning.settings.inference import DECISION, TTA, Decision, InferenceSettings, Tta


class LabelledSettings(InferenceSettings):
    """A trained network, and the labelled photos that it is evaluated on."""

    ckpt: TrainedPath = Field(description="a run folder (its best.ckpt) or a .ckpt file")
    data: DataSettings
    seed: Seed = Field(0, description="seed of the bootstrap")

    @property
    def photos(self) -> DataSettings | None:
        """Photos that the options name; None for the people whom the run held out."""
        return None if self.data.root is None and self.data.table is None else self.data


class EvaluateSettings(LabelledSettings):
    """Options of `python -m mask_lightning.evaluate`."""

    against: Path | None = Field(None, description="another run: is the difference on the same photos real?")
    tta: Tta = Field("none", description=TTA)
    engine: Engine = Field("auto", description=ENGINE)
    decision: Decision = Field(
        "argmax",
        description=f"{DECISION}; calibrated on other held-out people (5 folds), or for data.root by calibrate=true",
    )
    calibrate: bool = Field(
        False, description="true: store the fitted calibration beside the checkpoint, for predict and decisions"
    )

    @model_validator(mode="after")
    def _temperatures_come_from_who_was_held_out(self) -> EvaluateSettings:
        if self.calibrate and self.photos is not None:
            raise ValueError(
                "calibrate=true fits temperatures on the people whom the run held out, found other photos named; "
                "leave out data, or calibrate"
            )
        return self


class ReportSettings(LabelledSettings):
    """Options of `python -m mask_lightning.report`."""

    @model_validator(mode="after")
    def _photos_are_in_files(self) -> ReportSettings:
        self.data.require_files("report shows photo files")
        return self


class SuspectsSettings(InferenceSettings):
    """Options of `python -m mask_lightning.suspects`."""

    runs: Annotated[list[Path] | None, ONE_OR_SEVERAL] = Field(
        None,
        description="folder of a sweep over data.fold, or several: all folds of one split, each trained to its end",
    )
    predictions: Path | None = Field(
        None,
        description="instead of runs: predictions.parquet (or its folder) of people that no network trained on",
    )
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.05, description="list at most this share of each task's labels; 1: all that are doubted"
    )
    shown: Positive = Field(60, description="photos of each task shown on the page")

    @model_validator(mode="after")
    def _one_source(self) -> SuspectsSettings:
        if bool(self.runs) == (self.predictions is not None):
            found = "both" if self.runs else "neither"
            raise ValueError(
                f"expected runs or predictions, found {found}; set runs=SWEEP, the folder of a sweep over data.fold, "
                "or predictions=FILE, what is known of people that no network trained on"
            )
        return self


class CompareSettings(Settings):
    """Options of `python -m mask_lightning.compare`."""

    runs: Annotated[list[Path], Field(min_length=1), ONE_OR_SEVERAL] = Field(
        [Path("outputs")], description="a folder, or a list of folders, with runs and sweeps below"
    )
    paired: Literal["seed"] | None = Field(
        None, description="seed: compare configurations over runs of the same seeds, instead of single runs"
    )
    baseline: str | None = Field(
        None, description="paired: configuration to compare with, its experiment or overrides: quick, 'mix=cutmix'"
    )
    metric: str | None = Field(None, description="paired: metric of best.ckpt; null: the baseline's monitored metric")
    evaluations: Path = Field(
        Path("outputs/evaluations"),
        description="paired: folder of evaluations of these runs, whose predictions give the intervals over people",
    )
    out: Path | None = Field(
        None, description="a CSV to write, or a folder to write compare.csv into; paired: also JSON"
    )

    @model_validator(mode="after")
    def _pairs_have_a_baseline(self) -> CompareSettings:
        if self.paired and self.baseline is None:
            raise ValueError("paired=seed needs a baseline, found null; set baseline, such as baseline=quick")
        named = next((name for name in ("baseline", "metric") if getattr(self, name) is not None), None)
        if named and not self.paired:
            raise ValueError(f"{named} is for paired=seed, found paired=null; set paired=seed, or remove {named}")
        return self


class AuditSettings(Settings):
    """Options of `python -m mask_lightning.audit`; photos and tasks are named as for training."""

    seed: Seed = Field(0, description="seed of the split that is tried")
    outputs: Path = Field(Path("outputs"), description="audits and drawn data go below this folder")
    near_bits: Annotated[int, Field(ge=0, le=64)] = Field(
        28, description="bits of 256 that the perceptual hashes of near-duplicates may differ in"
    )
    people_shown: Positive = Field(6, description="people on the contact sheet, spread over gender and age")
    workers: Count | None = Field(None, description="processes; null: one per core")
    data: DataSettings
    labels: LabelSettings
    task: TaskSettings

    @model_validator(mode="after")
    def _photos_are_in_files(self) -> AuditSettings:
        self.data.require_files("audit reads photo files")
        return self

    @property
    def known_space(self) -> LabelSpace | None:
        """Label space of the photos before they are read; None if only their table defines it."""
        return known_space(self.data, self.labels)


class DoctorSettings(Settings):
    """Options of `python -m mask_lightning.doctor`."""

    outputs: Path = Field(Path("outputs"), description="folder whose disk and caches are described")
