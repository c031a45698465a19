"""What every door that passes photos through a trained network can be told of that pass."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mask_lightning.settings.checking import Count, Positive, Settings


class PassSettings(Settings):
    """How photos are predicted, and below which folder the outcome goes."""

    batch_size: Positive
    num_workers: Count | None
    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    progress: bool
    outputs: Path
