"""Write soft, class-balanced labels of the photos that networks predict with confidence."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mask_lightning.data.soft_targets import SoftTargets, write_extra
from mask_lightning.errors import PredictionsError
from mask_lightning.inference.photo_list import read_photo_list
from mask_lightning.inference.predict import predict_many
from mask_lightning.inference.temperatures import fitting_corrections
from mask_lightning.inference.trained import Trained, choose_device, load_trained
from mask_lightning.labels import LabelSpace
from mask_lightning.metrics.calibration import correct, to_log
from mask_lightning.metrics.predictions import Predictions, join_spaces
from mask_lightning.metrics.pseudo_labels import balance, choose_confident
from mask_lightning.pipelines.output import refuse_existing, writable
from mask_lightning.pipelines.soft_targets import natural_log_probs
from mask_lightning.reports.predictions import print_pseudo_labels
from mask_lightning.settings.inference import PseudoLabelSettings
from mask_lightning.utils.files import write_atomically

log = logging.getLogger(__name__)

FILE_NAME, CSV_NAME = "pseudo_labels.parquet", "pseudo_labels.csv"

Floats = npt.NDArray[np.float64]


def write_pseudo_labels(settings: PseudoLabelSettings, folder: Path) -> None:
    """Predict every photo, choose the confident ones of each task and class, and write probabilities and weights.

    Probabilities are calibrated as `evaluate calibrate=true` has stored; without that, the class frequencies of
    training are multiplied back (`pipelines.soft_targets.natural_log_probs`), and a warning is logged.

    Raises:
        PredictionsError: no photo is predicted with enough confidence.
        MaskLightningError: the user can correct the cause; raised before anything is written.
    """
    assert settings.data.root is not None
    refuse_existing(folder, [FILE_NAME, CSV_NAME])
    photos = read_photo_list(settings.data.root, follow_symlinks=settings.data.follow_symlinks)
    device = choose_device(settings.accelerator)
    networks = [load_trained(path, device) for path in settings.ckpt]
    space = join_spaces([network.space for network in networks])
    parts = predict_many(
        networks,
        photos.table,
        tta=settings.tta,
        batch_size=settings.batch_size,
        num_workers=settings.num_workers,
        progress=settings.progress,
    )
    probs = _mean_probs(networks, parts, space, settings)
    preds = {task: values.argmax(axis=1) for task, values in probs.items()}
    chosen = {
        task: choose_confident(values, share=settings.share, confidence=settings.confidence)
        for task, values in probs.items()
    }
    kept = np.flatnonzero(np.any(list(chosen.values()), axis=0))
    if not len(kept):
        raise PredictionsError(
            f"expected predictions with a probability of {settings.confidence:g} or more, found none for "
            f"{len(photos.table)} photos; lower confidence"
        )
    weights = {
        task.name: balance(preds[task.name], chosen[task.name], task.num_classes)
        if settings.balanced
        else chosen[task.name].astype(np.float32)
        for task in space.tasks
    }
    soft = SoftTargets({task: values.astype(np.float32) for task, values in probs.items()}, weights).select(kept)
    with writable(folder):
        sources = [network.source for network in networks]
        table = write_extra(folder / FILE_NAME, photos.table.iloc[kept], space, soft, sources)
        write_atomically(folder / CSV_NAME, table.to_csv(index=False, lineterminator="\n").encode())
    print_pseudo_labels(space, preds, weights, folder / FILE_NAME)


def _mean_probs(
    networks: Sequence[Trained], parts: Sequence[Predictions], space: LabelSpace, settings: PseudoLabelSettings
) -> dict[str, Floats]:
    """Average the calibrated probabilities of the networks that predict a task: task -> (N, C)."""
    found: dict[str, list[Floats]] = {task: [] for task in space.names}
    for network, part in zip(networks, parts, strict=True):
        corrections = fitting_corrections(network.source, settings.tta)
        if not corrections:
            log.warning(
                "%s is not calibrated, so its probabilities may be too large; run evaluate calibrate=true first",
                part.name,
            )
        for task in network.space.names:
            own = to_log(part.probs[task])
            fitted = corrections.get(task)
            found[task].append(np.exp(correct(own, fitted) if fitted else natural_log_probs(network, task, own)))
    return {task: np.mean(each, axis=0) for task, each in found.items()}
