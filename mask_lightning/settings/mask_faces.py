"""What `python -m mask_lightning.mask_faces` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mask_lightning.settings.base import Positive, Seed, Settings
from mask_lightning.settings.data import DataSettings


class MaskFacesSettings(Settings):
    """The faces, how they are found in their photos, and where the drawn shots go."""

    out: Path | None
    seed: Seed
    crop: Literal["fairface_025", "fairface_125", "utkface", "portrait"] | None
    landmarks: Literal["auto", "mediapipe", "geometry"]
    max_yaw: Annotated[float, Field(gt=0, le=90)]
    workers: Positive | None
    progress: bool
    data: DataSettings

    @model_validator(mode="after")
    def _faces_and_a_folder(self) -> MaskFacesSettings:
        if self.data.name == "auto":
            raise ValueError(
                "mask_faces needs a set of faces, found data=auto; choose data=fairface, utkface, table or competition"
            )
        if self.out is None:
            raise ValueError("mask_faces needs out, found null; set it to a folder that does not exist yet")
        return self
