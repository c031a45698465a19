"""Pass labelled photos through trained networks: of the people whom a run held out, or any others."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mask_lightning.data.sources import LabelledPhotos
from mask_lightning.errors import LabelError, MaskLightningError, RunFolderError
from mask_lightning.exporting.folder import is_export
from mask_lightning.inference.dataset import PhotoPlace, place_of
from mask_lightning.inference.exported import Model, load_model, with_engine
from mask_lightning.inference.predict import predict_many
from mask_lightning.inference.trained import choose_device, find_checkpoint
from mask_lightning.labels import UNLABELLED
from mask_lightning.metrics.predictions import Predictions, join_spaces
from mask_lightning.pipelines.output import engine_cache
from mask_lightning.pipelines.photos import Photos, read_labelled, restore_photos, without_skipped
from mask_lightning.runs.folder import RunFolder, with_earlier_runs
from mask_lightning.runs.photos import identify_photos, mark_trained, read_split
from mask_lightning.settings.base import check
from mask_lightning.settings.data import DataSettings
from mask_lightning.settings.export import Engine
from mask_lightning.settings.inference import InferenceSettings, Tta
from mask_lightning.settings.train import TrainSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledPredictions:
    """Predictions of one network for photos whose labels are known.

    Attributes:
        predictions: probabilities without calibration; labels of tasks that the network does not predict are further
            columns of `predictions.photos`, as class names.
        folder: run that trained the network; None for a checkpoint outside of a run folder.
        held_out: True if the photos are all those of the people whom the (first) run held out.
        root: folder that the photos are below.
        seen: number of these photos that the network, or one that it learned from, was trained on; None if unknown.
    """

    predictions: Predictions
    folder: RunFolder | None
    held_out: bool
    root: Path
    seen: int | None


def predict_labelled(
    ckpts: Sequence[Path],
    options: InferenceSettings,
    *,
    data: DataSettings | None = None,
    tta: Tta = "none",
    engine: Engine = "torch",
) -> list[LabelledPredictions]:
    """Pass labelled photos through networks of the same label space; each photo is decoded once.

    Args:
        ckpts: run folders, .ckpt files or exported models.
        options: batch size, workers, device, progress bar, and the folder below which engines are cached.
        data: the photos; None for those of the people whom the first run held out.
        tta: test-time augmentation, see `inference.tta`.
        engine: what computes the networks, see `inference.exported.choose_engine`.

    Returns:
        One entry per checkpoint.

    Raises:
        RunFolderError: `data` is None, and the first run held nobody out or its photos have changed.
        LabelError: the photos are not labelled with the networks' classes.
        MaskLightningError: the checkpoints or photos cannot be read.
    """
    device = choose_device(options.accelerator)
    loaded = [load_model(ckpt, device, engine=engine) for ckpt in ckpts]
    folders = [run_folder_of(ckpt) for ckpt in ckpts]
    photos = _held_out_photos(ckpts[0], folders[0]) if data is None else _named_photos(data, loaded, options.outputs)
    check_labels(photos, loaded)
    cache = engine_cache(options.outputs)
    networks = [with_engine(each, engine, cache=cache, photos=len(photos.table)) for each in loaded]
    predictions = predict_many(
        networks,
        _with_other_labels(photos, networks),
        tta=tta,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        progress=options.progress,
        cache=_place_of_photos(data, folders[0], photos.root, options),
    )
    return [
        LabelledPredictions(
            predictions=each,
            folder=folder,
            held_out=data is None,
            root=photos.root,
            seen=_count_leaked(folder)
            if data is None and folder is not None and folder == folders[0]
            else _count_seen(photos.table, folder),
        )
        for each, folder in zip(predictions, folders, strict=True)
    ]


def run_folder_of(ckpt: Path) -> RunFolder | None:
    """Return the folder of the run that wrote the checkpoint; None for another checkpoint or an exported model.

    Raises:
        CheckpointError: there is no checkpoint.
    """
    if is_export(ckpt):
        return None
    folder = RunFolder(find_checkpoint(ckpt).parent.parent)
    return folder if folder.config.is_file() else None


def settings_of_run(folder: RunFolder) -> TrainSettings:
    """Return the options of a run. Raises RunFolderError or ConfigError if they cannot be read."""
    return check(TrainSettings, folder.read_config())


def cache_of_run(folder: RunFolder | None, root: Path) -> PhotoPlace | None:
    """Return where a run has its prepared photos below `root`; None if the run or its options are unknown.

    Raises:
        PackedError: its packed photos cannot be read.
    """
    try:
        settings = settings_of_run(folder) if folder else None
    except MaskLightningError:
        return None
    if settings is None or (settings.data.name == "packed" and settings.data.root != root):
        return None
    return place_of(settings.data, settings.cache_folder, root)


def photos_of_run(folder: RunFolder, *, remedy: str = "restore them, or name labelled photos with data.root") -> Photos:
    """Return the photos of a run on the sides that its split.csv records.

    Args:
        folder: the run.
        remedy: end of the message if photos have changed.

    Raises:
        RunFolderError: the photos have changed since.
        MaskLightningError: they cannot be read.
    """
    return without_skipped(folder, restore_photos(settings_of_run(folder), folder, remedy=remedy))


def held_out_rows(ckpt: Path, networks: Sequence[Model]) -> pd.DataFrame:
    """Return the photos of the people whom a run held out, with their labels, for `predict_many`.

    Raises:
        MaskLightningError: there are none, they have changed, or their labels do not fit the networks.
    """
    photos = _held_out_photos(ckpt, run_folder_of(ckpt))
    check_labels(photos, networks)
    return _with_other_labels(photos, networks)


def _held_out_photos(ckpt: Path, folder: RunFolder | None) -> LabelledPhotos:
    """Return the photos of the people whom a run held out. Raises RunFolderError if there are none."""
    if folder is None:
        raise RunFolderError(
            f"expected {ckpt} in the folder of its run, which tells who was held out; "
            "name labelled photos: data.root=PHOTOS"
        )
    photos = photos_of_run(folder)
    if photos.split.val.empty:
        raise RunFolderError(
            f"{folder.path} held nobody out (data.val_fraction=0); name labelled photos that it has not seen: "
            "data.root=PHOTOS"
        )
    space = settings_of_run(folder).known_space or photos.space  # also the tasks that it did not learn
    return LabelledPhotos(photos.split.val, space, (), photos.root)


def _named_photos(data: DataSettings, networks: Sequence[Model], outputs: Path) -> LabelledPhotos:
    """Return all photos that `data` names, with labels of the networks' tasks."""
    assert data.table is not None or data.root is not None
    return read_labelled(data, join_spaces([network.space for network in networks]), outputs=outputs)


def _place_of_photos(
    data: DataSettings | None, folder: RunFolder | None, root: Path, options: InferenceSettings
) -> PhotoPlace | None:
    """Return where prepared photos are: the packed ones that `data` names, or those of the run."""
    if data is not None and data.name == "packed":
        return place_of(data, data.cache_below(options.outputs), root)
    return cache_of_run(folder, root)


def check_labels(photos: LabelledPhotos, networks: Sequence[Model]) -> None:
    """Raise LabelError unless each network has a task that the photos are labelled with, in the same classes."""
    for network in networks:
        shared = [task for task in network.space.tasks if task.name in photos.space.names]
        for task in shared:
            classes = photos.space[task.name].classes
            if task.classes != classes:
                raise LabelError(
                    f"{network.source.checkpoint} predicts {task.name} as {', '.join(task.classes)}, the photos in "
                    f"{photos.root} are labelled {', '.join(classes)}; name photos of its label space"
                )
        if not any((photos.table[task.name] != UNLABELLED).any() for task in shared):
            raise LabelError(
                f"expected photos labelled with {' or '.join(network.space.names)} in {photos.root}, found labels of "
                f"{', '.join(photos.space.names) or 'nothing'}; name labelled photos"
            )


def _with_other_labels(photos: LabelledPhotos, networks: Sequence[Model]) -> pd.DataFrame:
    """Return the sample table; labels of tasks that no network predicts become class names, "" if unlabelled."""
    predicted = {task for network in networks for task in network.space.names}
    others = [task for task in photos.space.tasks if task.name not in predicted]
    return photos.table.assign(**{task.name: _class_names(photos.table[task.name], task.classes) for task in others})


def _class_names(targets: pd.Series[int], classes: Sequence[str]) -> list[str]:
    return ["" if target == UNLABELLED else classes[target] for target in targets]


def _count_leaked(folder: RunFolder) -> int:
    """Return how many held-out photos of a run earlier networks know, at least; more than 0 after allow_leak only."""
    result = folder.read_result()
    records = (result.pretrained, result.data.get("soft_targets") or {})
    return max(int(each.get("leaked_photos") or 0) for each in records)


def _count_seen(rows: pd.DataFrame, folder: RunFolder | None) -> int | None:
    """Return on how many of the photos a run, or a run that it learned from, was trained; None if unknown."""
    if folder is None:
        return None
    photos = identify_photos(rows)
    marks = photos["photo"] + ":" + photos["bytes"].astype(str)
    seen = np.zeros(len(rows), np.bool_)
    for run in with_earlier_runs([folder]):
        try:
            trained, skipped = mark_trained(read_split(run.split), run.extra), run.read_result().data.get("skipped", [])
        except MaskLightningError as error:
            log.warning("cannot tell whether %s was trained on these photos: %s", run.path, error)
            return None
        seen |= (marks.isin(trained) & ~photos["photo"].isin(skipped)).to_numpy()
    return int(seen.sum())
