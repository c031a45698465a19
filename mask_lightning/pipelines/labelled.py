"""Labelled photos through trained networks: those of the people whom a run held out, or any others."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.data.sources import LabelledPhotos, corrected, read_photo_table, read_photos
from mask_lightning.errors import LabelError, MaskLightningError, RunFolderError
from mask_lightning.inference.forward import predict_many
from mask_lightning.inference.predictions import Predictions, join_spaces
from mask_lightning.inference.trained import Trained, choose_device, find_checkpoint, load_trained
from mask_lightning.inference.views import Tta
from mask_lightning.labels import UNLABELLED
from mask_lightning.pipelines import prepare as assembly
from mask_lightning.pipelines.run_photos import check_photos, without_skipped
from mask_lightning.runs.folder import RunFolder
from mask_lightning.runs.photos import mark
from mask_lightning.settings.base import check
from mask_lightning.settings.data import DataSettings
from mask_lightning.settings.train import TrainSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labelled:
    """What a network says of photos whose labels are known.

    Attributes:
        predictions: with the network's own probabilities, not calibrated; beside the photos' paths and people, their
            labels of tasks that the network does not answer stand as class names.
        folder: of the run that trained the network; None for a checkpoint outside of a run's folder.
        held_out: whether the photos are all those of the people whom the run held out (of several runs, the first).
        root: where the photos lie.
        seen: how many of the photos the network was trained on; None where that cannot be told.
    """

    predictions: Predictions
    folder: RunFolder | None
    held_out: bool
    root: Path
    seen: int | None


def predict_labelled(
    ckpt: Path,
    *,
    data: DataSettings | None = None,
    tta: Tta = "none",
    batch_size: int = 64,
    num_workers: int | None = None,
    accelerator: str = "auto",
    progress: bool = False,
) -> Labelled:
    """`predict_labelled_many` of one network."""
    return predict_labelled_many(
        [ckpt],
        data=data,
        tta=tta,
        batch_size=batch_size,
        num_workers=num_workers,
        accelerator=accelerator,
        progress=progress,
    )[0]


def predict_labelled_many(
    ckpts: Sequence[Path],
    *,
    data: DataSettings | None = None,
    tta: Tta = "none",
    batch_size: int = 64,
    num_workers: int | None = None,
    accelerator: str = "auto",
    progress: bool = False,
) -> list[Labelled]:
    """Pass labelled photos through networks of the same label space, decoding each photo once.

    Args:
        ckpts: runs' folders or .ckpt files.
        data: the photos; None: those of the people whom the first run held out.
        tta, batch_size, num_workers, progress: as `inference.forward.predict_many`.
        accelerator: as `inference.trained.choose_device`.

    Raises:
        RunFolderError: no data is named, and the first run held nobody out or its photos are others now.
        LabelError: the photos are not labelled with the networks' classes.
        MaskLightningError: the checkpoints or photos cannot be read.
    """
    device = choose_device(accelerator)
    networks = [load_trained(ckpt, device) for ckpt in ckpts]
    folders = [run_folder_of(ckpt) for ckpt in ckpts]
    photos = held_out_photos(ckpts[0], folders[0]) if data is None else labelled_photos(data, networks)
    check_labels(photos, networks)
    predictions = predict_many(
        networks,
        _rows_for(photos, networks),
        tta=tta,
        batch_size=batch_size,
        num_workers=num_workers,
        progress=progress,
    )
    return [
        Labelled(
            predictions=said,
            folder=folder,
            held_out=data is None,
            root=photos.root,
            seen=0 if data is None and folder == folders[0] else _count_seen(photos.table, folder),
        )
        for said, folder in zip(predictions, folders, strict=True)
    ]


def run_folder_of(ckpt: Path) -> RunFolder | None:
    """The folder of the run that left the checkpoint; None where it lies elsewhere.

    Raises:
        CheckpointError: there is no checkpoint.
    """
    folder = RunFolder(find_checkpoint(ckpt).parent.parent)
    return folder if folder.config.is_file() else None


def settings_of_run(folder: RunFolder) -> TrainSettings:
    """What a run was told. Raises RunFolderError or ConfigError if that cannot be read."""
    return check(TrainSettings, folder.read_config())


def photos_of_run(folder: RunFolder) -> assembly.Photos:
    """The split of the photos that a run was trained on.

    Raises:
        RunFolderError: they are others now than when it was trained.
        MaskLightningError: they cannot be read.
    """
    photos = assembly.find_photos(settings_of_run(folder))
    check_photos(folder, photos, remedy="restore them, or name labelled photos with data.root")
    return without_skipped(folder, photos)


def held_out_photos(ckpt: Path, folder: RunFolder | None) -> LabelledPhotos:
    """The photos of the people whom a run held out.

    Raises:
        RunFolderError: there is no run, or it held nobody out, or as `photos_of_run`.
    """
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


def labelled_photos(data: DataSettings, networks: Sequence[Trained]) -> LabelledPhotos:
    """All photos that `data` names, with the labels of the networks' tasks.

    Raises:
        MaskLightningError: whatever is wrong with them.
    """
    if data.table is not None:
        photos = read_photo_table(data.table, data.root, space=join_spaces([n.space for n in networks]))
    else:
        assert data.root is not None
        photos = read_photos(data.name, data.root)
    return corrected(photos, data.corrections, agreed_by=data.agreed_by)


def check_labels(photos: LabelledPhotos, networks: Sequence[Trained]) -> None:
    """Raise LabelError unless each network has a task that the photos are labelled with, in the same classes."""
    for network in networks:
        shared = [task for task in network.space.tasks if task.name in photos.space.names]
        for task in shared:
            classes = photos.space[task.name].classes
            if task.classes != classes:
                raise LabelError(
                    f"{network.source.checkpoint} answers {task.name} with {', '.join(task.classes)}, the photos in "
                    f"{photos.root} are labelled {', '.join(classes)}; name photos of its label space"
                )
        if not any((photos.table[task.name] != UNLABELLED).any() for task in shared):
            raise LabelError(
                f"expected photos labelled with {' or '.join(network.space.names)} in {photos.root}, found labels of "
                f"{', '.join(photos.space.names) or 'nothing'}; name labelled photos"
            )


def _rows_for(photos: LabelledPhotos, networks: Sequence[Trained]) -> pd.DataFrame:
    """The sample table, with labels of tasks that no network answers as class names."""
    answered = {task for network in networks for task in network.space.names}
    others = [task for task in photos.space.tasks if task.name not in answered]
    return photos.table.assign(**{task.name: _names(photos.table[task.name], task.classes) for task in others})


def _names(targets: pd.Series[int], classes: Sequence[str]) -> list[str]:
    """Targets -> class names, "" where there is none."""
    return ["" if target == UNLABELLED else classes[target] for target in targets]


def _count_seen(rows: pd.DataFrame, folder: RunFolder | None) -> int | None:
    """How many of the photos a run was trained on."""
    if folder is None:
        return None
    try:
        trained_on = photos_of_run(folder).split.train
    except MaskLightningError as error:
        log.warning("cannot tell whether the network was trained on these photos: %s", error)
        return None
    return int(np.isin(_marks(rows), _marks(trained_on)).sum())


def _marks(rows: pd.DataFrame) -> npt.NDArray[np.str_]:
    """Of each photo what a copy elsewhere shares."""
    marked = mark(rows)
    return (marked["photo"] + ":" + marked["bytes"].astype(str)).to_numpy(str)
