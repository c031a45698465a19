"""What `python -m mask_lightning.suspects` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from mask_lightning.settings.checking import Positive
from mask_lightning.settings.passes import PassSettings


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
