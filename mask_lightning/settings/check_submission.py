"""What `python -m mask_lightning.check_submission` can be told."""

from __future__ import annotations

from pathlib import Path

from pydantic import field_validator

from mask_lightning.settings.checking import Settings
from mask_lightning.settings.predict import PhotosSettings


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
