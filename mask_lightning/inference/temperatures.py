"""Temperatures for calibration, stored beside a checkpoint in calibration.json."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from mask_lightning.errors import CheckpointError
from mask_lightning.metrics.predictions import Source
from mask_lightning.utils.files import write_json

log = logging.getLogger(__name__)

FILE_NAME = "calibration.json"


@dataclass(frozen=True)
class Calibration:
    """Temperatures of a checkpoint (Guo et al. 2017, "On calibration of modern neural networks").

    Attributes:
        temperatures: task -> divisor of its log probabilities; a missing task is not calibrated.
        sha256: of the checkpoint for which they were fitted.
        tta: test-time augmentation of the predictions on which they were fitted.
        people, photos: size of the data on which they were fitted.
    """

    temperatures: dict[str, float]
    sha256: str
    tta: str
    people: int
    photos: int


def calibration_path(checkpoint: str | Path) -> Path:
    """Path of the temperatures of a checkpoint."""
    return Path(checkpoint).with_name(FILE_NAME)


def write_calibration(checkpoint: str | Path, calibration: Calibration) -> Path:
    """Write the temperatures beside the checkpoint, replacing earlier ones.

    Returns:
        Path of the file.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    path = calibration_path(checkpoint)
    try:
        write_json(path, asdict(calibration))
    except OSError as error:
        raise CheckpointError(f"cannot write {path} ({error.strerror}); copy the run to where you may write") from error
    return path


def read_calibration(checkpoint: str | Path) -> Calibration | None:
    """Read the temperatures beside a checkpoint; None if there are none.

    Raises:
        CheckpointError: the file was not written by `write_calibration`.
    """
    path = calibration_path(checkpoint)
    if not path.is_file():
        return None
    try:
        found = Calibration(**json.loads(path.read_text()))
        if not all(temperature > 0 for temperature in found.temperatures.values()):
            raise ValueError("a temperature is not positive")
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"cannot read temperatures in {path} ({error}); delete it, or fit them anew with "
            "python -m mask_lightning.evaluate calibrate=true"
        ) from error
    return found


def fitting_temperatures(source: Source, tta: str) -> dict[str, float]:
    """Find the temperatures fitted for exactly this checkpoint and TTA: task -> temperature, {} if there are none."""
    found = read_calibration(source.checkpoint)
    if found is None:
        return {}
    if found.sha256 != source.sha256:
        log.warning("%s was fitted for another checkpoint than %s: not applied", FILE_NAME, source.checkpoint)
        return {}
    if found.tta != tta:
        log.warning("%s of %s was fitted with tta=%s: not applied", FILE_NAME, source.checkpoint, found.tta)
        return {}
    return {task: found.temperatures[task] for task in source.tasks if task in found.temperatures}
