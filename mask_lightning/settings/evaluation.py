"""Options of the commands that evaluate runs or inspect labelled photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mask_lightning.labels import LabelSpace
from mask_lightning.settings.base import Count, Positive, Seed, Settings
from mask_lightning.settings.data import DataSettings, LabelSettings, TaskSettings, known_space
from mask_lightning.settings.inference import PassSettings


class LabelledSettings(PassSettings):
    """The network, the photos that it is judged on, and how they are predicted."""

    ckpt: Path
    data: DataSettings
    seed: Seed

    @field_validator("ckpt", mode="before")
    @classmethod
    def _is_named(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("ckpt is not set; name a trained run: ckpt=outputs/runs/RUN, or its .ckpt")
        return value

    @property
    def photos(self) -> DataSettings | None:
        """The photos that are named; None: those of the people whom the run held out."""
        return None if self.data.root is None and self.data.table is None else self.data


class EvaluateSettings(LabelledSettings):
    """Everything that `python -m mask_lightning.evaluate` can be told."""

    against: Path | None
    tta: Literal["none", "flip", "randaugment", "blend"]
    calibrate: bool

    @model_validator(mode="after")
    def _temperatures_come_from_who_was_held_out(self) -> EvaluateSettings:
        if self.calibrate and self.photos is not None:
            raise ValueError(
                "calibrate=true fits temperatures on the people whom the run held out, found other photos named; "
                "leave out data, or calibrate"
            )
        return self


class ReportSettings(LabelledSettings):
    """Everything that `python -m mask_lightning.report` can be told."""


class SuspectsSettings(PassSettings):
    """Everything that `python -m mask_lightning.suspects` can be told."""

    runs: list[Path] | None
    predictions: Path | None
    share: Annotated[float, Field(gt=0, le=1)]
    shown: Positive

    @field_validator("runs", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, (str, Path)) else value

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
    """Where the runs lie, and where the table goes."""

    runs: Annotated[list[Path], Field(min_length=1)]
    out: Path | None

    @field_validator("runs", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, (str, Path)) else value


class AuditSettings(Settings):
    """The photos and tasks as a training takes them, and how closely to look."""

    seed: Seed
    outputs: Path
    near_bits: Annotated[int, Field(ge=0, le=64)]
    people_shown: Positive
    workers: Count | None
    data: DataSettings
    labels: LabelSettings
    task: TaskSettings

    @property
    def known_space(self) -> LabelSpace | None:
        """The label space of the photos, before they are read; None where only their table tells it."""
        return known_space(self.data, self.labels)
