"""What `python -m mask_lightning.compare` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from mask_lightning.settings.checking import Settings


class CompareSettings(Settings):
    """Where the runs lie, and where the table goes."""

    runs: Annotated[list[Path], Field(min_length=1)]
    out: Path | None

    @field_validator("runs", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, (str, Path)) else value
