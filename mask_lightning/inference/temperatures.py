"""Calibration of a checkpoint, stored beside it in calibration.json: temperatures, and corrections for decisions."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mask_lightning.errors import CheckpointError
from mask_lightning.metrics.calibration import Correction
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
        corrections: task -> temperature and bias per class, which decision=macro_f1 takes in place of the temperatures;
            none in files of version 0.1.0.
    """

    temperatures: dict[str, float]
    sha256: str
    tta: str
    people: int
    photos: int
    corrections: dict[str, Correction] = field(default_factory=dict)


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
        stored: dict[str, Any] = json.loads(path.read_text())
        corrections = {
            task: Correction(float(each["temperature"]), tuple(map(float, each["bias"])))
            for task, each in stored.pop("corrections", {}).items()
        }
        found = Calibration(**stored, corrections=corrections)
        temperatures = [*found.temperatures.values(), *(each.temperature for each in corrections.values())]
        if not all(temperature > 0 for temperature in temperatures):
            raise ValueError("a temperature is not positive")
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise CheckpointError(
            f"cannot read temperatures in {path} ({error}); delete it, or fit them anew with "
            "python -m mask_lightning.evaluate calibrate=true"
        ) from error
    return found


def fitting_temperatures(source: Source, tta: str) -> dict[str, float]:
    """Find the temperatures fitted for exactly this checkpoint and TTA: task -> temperature, {} if there are none."""
    found = _fitting(source, tta)
    return {task: found.temperatures[task] for task in source.tasks if task in found.temperatures} if found else {}


def fitting_corrections(source: Source, tta: str) -> dict[str, Correction]:
    """Find the corrections fitted for exactly this checkpoint and TTA: task -> correction, {} if there are none."""
    found = _fitting(source, tta)
    return {task: found.corrections[task] for task in source.tasks if task in found.corrections} if found else {}


def require_corrections(sources: Iterable[Source], tta: str) -> dict[str, Correction]:
    """Return the corrections for the decision rule macro_f1 of all tasks.

    Args:
        sources: checkpoints of different tasks.
        tta: test-time augmentation of the predictions.

    Raises:
        CheckpointError: a checkpoint has no calibration, or only temperatures (version 0.1.0).
    """
    corrections: dict[str, Correction] = {}
    for source in sources:
        fitted = fitting_corrections(source, tta)
        missing = [task for task in source.tasks if task not in fitted]
        if missing:
            options = "" if tta == "none" else f" tta={tta}"
            raise CheckpointError(
                f"decision=macro_f1 needs calibrated probabilities, found none of {', '.join(missing)} beside "
                f"{source.checkpoint}; calibrate first: python -m mask_lightning.evaluate ckpt=RUN "
                f"calibrate=true{options}"
            )
        corrections |= fitted
    return corrections


def _fitting(source: Source, tta: str) -> Calibration | None:
    """Read the calibration fitted for exactly this checkpoint and TTA; None if there is none."""
    found = read_calibration(source.checkpoint)
    if found is None:
        return None
    if found.sha256 != source.sha256:
        log.warning("%s was fitted for another checkpoint than %s: not applied", FILE_NAME, source.checkpoint)
        return None
    if found.tta != tta:
        log.warning("%s of %s was fitted with tta=%s: not applied", FILE_NAME, source.checkpoint, found.tta)
        return None
    return found
