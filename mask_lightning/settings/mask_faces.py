"""Options of `python -m mask_lightning.mask_faces`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mask_lightning.settings.base import Positive, Seed, Settings
from mask_lightning.settings.data import DataSettings

CropName = Literal["fairface_025", "fairface_125", "utkface", "portrait"]
LandmarkSource = Literal["auto", "mediapipe", "detector", "geometry"]


class MaskFacesSettings(Settings):
    """Faces, how to find them in their photos, and where the drawn photos go."""

    out: Path | None = Field(
        None, description="a folder that does not exist yet: it gets train/images/, train.csv and provenance.csv"
    )
    seed: Seed = Field(0, description="seed of masks, framing and light; a person is drawn the same in any set")
    masks: Annotated[int, Field(ge=1, le=5)] = Field(
        5, description="photos of a person with a mask worn right, beside one worn wrong and one without a mask"
    )
    crop: CropName | None = Field(None, description="where the photos have the face; null: as usual for this data")
    landmarks: LandmarkSource = Field(
        "auto",
        description="mediapipe (extra `landmarks`), detector (extra `faces`; finds faces anywhere in a photo), "
        "geometry (from the crop alone), auto: the first that is installed",
    )
    max_yaw: Annotated[float, Field(gt=0, le=90)] = Field(
        35.0, description="degrees; heads turned further are left out (not for landmarks=geometry)"
    )
    workers: Positive | None = Field(None, description="processes; null: one per core")
    progress: bool = Field(True, description="show a progress bar")
    data: DataSettings

    @model_validator(mode="after")
    def _faces_and_a_folder(self) -> MaskFacesSettings:
        if self.data.name in ("auto", "packed"):
            raise ValueError(
                f"mask_faces needs a set of faces, found data={self.data.name}; choose data=fairface, utkface, table "
                "or competition"
            )
        if self.out is None:
            raise ValueError("mask_faces needs out, found null; set it to a folder that does not exist yet")
        return self
