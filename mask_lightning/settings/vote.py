"""What `python -m mask_lightning.vote` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mask_lightning.settings.passes import PassSettings
from mask_lightning.settings.predict import PhotosSettings


class VoteSettings(PassSettings):
    """Everything that `python -m mask_lightning.vote` can be told."""

    runs: Annotated[list[Path], Field(min_length=1)]
    data: PhotosSettings
    kind: Literal["hard", "soft", "weighted"]
    weights: list[Annotated[float, Field(ge=0)]] | None
    allow_missing: bool
    soup: bool
    tta: Literal["none", "flip", "randaugment", "blend"]
    submission: Literal["auto"] | bool

    @field_validator("runs", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("runs is not set; name a sweep: runs=outputs/sweeps/SWEEP, or runs: runs=[RUN,RUN]")
        return value if isinstance(value, list) else [value]

    @model_validator(mode="after")
    def _fits_together(self) -> VoteSettings:
        if self.weights is not None and self.kind != "weighted":
            raise ValueError(f"weights are for kind=weighted, found them beside kind={self.kind}; remove them")
        if self.submission is True and self.data.root is None:
            raise ValueError("submission=true needs data.root, found null; set it to the folder that holds eval/")
        return self
