"""What `python -m mask_lightning.report` can be told."""

from __future__ import annotations

from mask_lightning.settings.labelled import LabelledSettings


class ReportSettings(LabelledSettings):
    """Everything that `python -m mask_lightning.report` can be told."""
