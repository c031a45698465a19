"""calibration.json beside a checkpoint: the temperature of each task, and the checkpoint that they were fitted for."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from mask_lightning.errors import CheckpointError
from mask_lightning.inference.trained import Source
from mask_lightning.utils.files import write_json

log = logging.getLogger(__name__)

FILE_NAME = "calibration.json"


@dataclass(frozen=True)
class Calibration:
    """Temperatures that make probabilities honest (Guo et al. 2017, "On calibration of modern neural networks").

    Attributes:
        temperatures: task -> by what its log probabilities are divided; a task that is not named keeps its own.
        sha256: of the checkpoint that they were fitted for.
        tta: the views whose averaged answers they were fitted on.
        people, photos: on how many.
    """

    temperatures: dict[str, float]
    sha256: str
    tta: str
    people: int
    photos: int


def calibration_path(checkpoint: str | Path) -> Path:
    """Where the temperatures of a checkpoint are kept."""
    return Path(checkpoint).with_name(FILE_NAME)


def write_calibration(checkpoint: str | Path, calibration: Calibration) -> Path:
    """Keep the temperatures beside the checkpoint, in place of earlier ones. Returns the file."""
    path = calibration_path(checkpoint)
    try:
        write_json(path, asdict(calibration))
    except OSError as error:
        raise CheckpointError(f"cannot write {path} ({error.strerror}); copy the run to where you may write") from error
    return path


def read_calibration(checkpoint: str | Path) -> Calibration | None:
    """The temperatures kept beside a checkpoint, None where there are none.

    Raises:
        CheckpointError: the file is not what `write_calibration` writes.
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
    """Task -> temperature for this checkpoint asked with these views; {} where none were fitted for just that."""
    kept = read_calibration(source.checkpoint)
    if kept is None:
        return {}
    if kept.sha256 != source.sha256:
        log.warning("%s is of another checkpoint than %s: not applied", FILE_NAME, source.checkpoint)
        return {}
    if kept.tta != tta:
        log.warning("%s of %s was fitted with tta=%s: not applied", FILE_NAME, source.checkpoint, kept.tta)
        return {}
    return {task: kept.temperatures[task] for task in source.tasks if task in kept.temperatures}
