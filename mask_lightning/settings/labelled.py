"""What every door that judges a trained run can be told: the run, and labelled photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import field_validator

from mask_lightning.settings.checking import Seed
from mask_lightning.settings.data import DataSettings
from mask_lightning.settings.passes import PassSettings


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
