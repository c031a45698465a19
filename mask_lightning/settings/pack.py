"""Options of `python -m mask_lightning.pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from mask_lightning.labels import LabelSpace
from mask_lightning.settings.base import Seed, Settings, required
from mask_lightning.settings.data import DataSettings, LabelSettings, known_space


class PackSettings(Settings):
    """Photos, how they are prepared and split, and where they are packed."""

    out: Annotated[Path, required("name a new folder, or an address: out=s3://BUCKET/FOLDER")] = Field(
        description="a folder that does not exist yet, or an empty address s3://BUCKET/FOLDER"
    )
    image_size: Annotated[int, Field(ge=8)] = Field(
        224, description="side of the prepared photos in pixels; that of the models to train"
    )
    chunk_mb: Annotated[int, Field(ge=1, le=1024)] = Field(
        64, description="megabytes of a chunk, the unit that is downloaded"
    )
    seed: Seed = Field(
        0, description="seed of the order of the people and, unless data.split_seed is set, of the split"
    )
    outputs: Path = Field(Path("outputs"), description="folder of photo caches and drawn data")
    progress: bool = Field(True, description="show a progress bar")
    data: DataSettings
    labels: LabelSettings

    @model_validator(mode="after")
    def _photos_are_in_files(self) -> PackSettings:
        self.data.require_files("pack reads photo files")
        if self.data.extra is not None:
            raise ValueError(f"pack takes labelled photos, found data.extra={self.data.extra}; leave it out")
        return self

    @property
    def cache_folder(self) -> Path:
        """Folder of the photo caches."""
        return self.data.cache_below(self.outputs)

    @property
    def known_space(self) -> LabelSpace | None:
        """Label space of the photos before they are read; None if only their table or folders define it."""
        return known_space(self.data, self.labels)
