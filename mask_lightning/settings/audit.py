"""What `python -m mask_lightning.audit` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from mask_lightning.labels import LabelSpace
from mask_lightning.settings.checking import Count, Positive, Seed, Settings
from mask_lightning.settings.data import DataSettings, LabelSettings, TaskSettings, known_space


class AuditSettings(Settings):
    """The photos and tasks as a training takes them, and how closely to look."""

    seed: Seed
    outputs: Path
    near_bits: Annotated[int, Field(ge=0, le=64)]
    people_shown: Positive
    workers: Count | None
    data: DataSettings
    labels: LabelSettings
    task: TaskSettings

    @property
    def known_space(self) -> LabelSpace | None:
        """The label space of the photos, before they are read; None where only their table tells it."""
        return known_space(self.data, self.labels)
