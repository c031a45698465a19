"""What `python -m mask_lightning.evaluate` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from mask_lightning.settings.labelled import LabelledSettings


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
