"""What `python -m mask_lightning.blend` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from mask_lightning.settings.checking import Settings


class BlendSettings(Settings):
    """Everything that `python -m mask_lightning.blend` can be told."""

    files: list[Path]
    kind: Literal["vote", "mean"]
    out: Path | None
    outputs: Path

    @field_validator("files", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        if not isinstance(value, list) or len(value) < 2:
            raise ValueError(f"files must name two or more to blend, got {value}; set files=[A,B,C]")
        return value
