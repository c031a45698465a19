"""What `python -m mask_lightning.predict` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from mask_lightning.settings.checking import Settings
from mask_lightning.settings.passes import PassSettings


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
