"""Soft targets of a run: further photos (`data.extra`), probabilities of teachers (`distill`), and what is refused.

Soft targets have the class frequencies of the photos, as labels have. A network that was trained with balanced classes
outputs other frequencies, so those of its training are multiplied back: see `natural_log_probs`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import log_softmax

from mask_lightning.data.cache import PreparedPhotos
from mask_lightning.data.duplicates import match_sketches, read_sketches
from mask_lightning.data.soft_targets import (
    ExtraPhotos,
    SoftTargets,
    extra_rows,
    join_soft_targets,
    no_soft_targets,
    read_extra,
)
from mask_lightning.errors import CheckpointError, LabelError, PhotoError, RunFolderError, SplitError
from mask_lightning.inference.dataset import place_of
from mask_lightning.inference.predict import predict_many
from mask_lightning.inference.prediction_file import describe_space
from mask_lightning.inference.trained import Trained, choose_device, load_trained
from mask_lightning.labels import LabelSpace
from mask_lightning.metrics.calibration import to_log
from mask_lightning.pipelines.photos import Photos
from mask_lightning.runs.folder import RunFolder, with_earlier_runs
from mask_lightning.runs.photos import identify_photos, mark_photos, mark_trained, read_split, short_name
from mask_lightning.settings.train import TrainSettings
from mask_lightning.sweeps.records import find_runs

log = logging.getLogger(__name__)

MAX_NAMED = 3  # photos or people in a message

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SoftPart:
    """Further training photos, and the soft targets of all training photos.

    Attributes:
        extra: sample-table rows of the further photos, without labels.
        targets: soft targets of the run's training rows, then of the further photos.
        record: for result.json.
    """

    extra: pd.DataFrame
    targets: SoftTargets
    record: dict[str, Any]


def read_extra_photos(settings: TrainSettings, photos: Photos) -> ExtraPhotos | None:
    """Read the photos of `data.extra`; None if it is not set.

    Raises:
        SplitError: photos show people whom the run holds out.
        MaskLightningError: the table cannot be read, or does not fit the run.
    """
    table = settings.data.extra
    if table is None:
        return None
    extra = read_extra(table, photos.space)
    if extra.soft is None and settings.distill is None:
        raise LabelError(
            f"expected probabilities (probs/<task>/<class>) in {table}, found none; write them with pseudo_label, or "
            "name teachers: distill=RUNS"
        )
    _refuse_held_out(extra.rows, photos, settings)
    return extra


def _refuse_held_out(rows: pd.DataFrame, photos: Photos, settings: TrainSettings) -> None:
    """Raise SplitError if further photos show held-out people: by `person_id`, or as copies of their photos.

    A photo that was saved again counts as a copy (`data.duplicates`). Another photo of the same person is recognised by
    `person_id` only.
    """
    val = photos.split.val
    if val.empty:
        return
    known = rows["person_id"].isin(set(val["person_id"].astype(str))) if "person_id" in rows else None
    found = [] if known is None else rows["path"][known].tolist()
    if not found:
        paths = [*val["path"], *rows["path"]]
        folder = settings.cache_folder if settings.data.cache != "off" else None
        sketches = read_sketches(paths, root=photos.root, folder=folder, progress=settings.trainer.progress)
        pairs = match_sketches(sketches, (np.arange(len(paths)) >= len(val)).astype(np.int64))
        found = [paths[i] for i in np.unique(pairs[:, 1])]
    if found:
        raise SplitError(
            f"data.extra has {len(found)} photos of people whom this run holds out ({_name(map(short_name, found))}), "
            "so its scores would be too good; remove them from the table"
        )


def make_soft_targets(
    settings: TrainSettings, photos: Photos, extra: ExtraPhotos | None, cache: PreparedPhotos | None
) -> SoftPart | None:
    """Compute the soft targets of a run; None without `distill` and `data.extra`.

    Labelled photos learn the teachers' probabilities with `loss.distill_weight`, and their labels with the rest.
    Further photos learn the teachers' probabilities if there are teachers, else those of the table; both with the
    table's weights.

    Raises:
        CheckpointError: there are no teachers.
        LabelError: a teacher has other classes.
        SplitError: a teacher, or a network that labelled `data.extra`, was trained on people whom the run holds out,
            and `allow_leak` is false.
        PhotoError: further photos cannot be decoded.
    """
    if extra is None and settings.distill is None:
        return None
    space, count = photos.space, len(photos.targets)
    rows = extra_rows(pd.DataFrame({"path": []}) if extra is None else extra.rows, space)
    broken = [path for path in rows["path"] if cache is not None and not cache.holds(path)]
    if broken:
        raise PhotoError(f"{len(broken)} photos of data.extra cannot be decoded ({_name(broken)}); remove them")
    teachers = _find_teachers(settings.distill) if settings.distill else []
    networks = [*teachers, *_labelling_runs(extra, settings)]
    leaked = check_leaks(networks, photos.split.val, allowed=settings.allow_leak)
    labelled, further = no_soft_targets(space, count), no_soft_targets(space, len(rows))
    if extra is not None:
        ones = {task: np.ones(len(rows), np.float32) for task in space.names}
        further = extra.soft or SoftTargets(further.probs, ones)
    if teachers:
        taught = _ask_teachers(settings, teachers, photos, rows, cache)
        labelled = taught.select(np.arange(count)).scaled(settings.loss.distill_weight)
        further = _replace_probs(further, taught.select(np.arange(count, count + len(rows))))
    record = {
        "teachers": [str(folder.path) for folder in teachers],
        "networks": [str(folder.path) for folder in networks],
        "extra": None if extra is None else {"table": str(settings.data.extra), "photos": len(rows)},
        "leaked_photos": leaked,
    }
    return SoftPart(rows, join_soft_targets([labelled, further.scaled(settings.data.extra_weight)]), record)


def _replace_probs(further: SoftTargets, taught: SoftTargets) -> SoftTargets:
    """Take the teachers' probabilities with the weights of `further`, except for tasks that no teacher predicts."""
    probs = {task: taught.probs[task] if taught.weights[task].any() else further.probs[task] for task in further.probs}
    return SoftTargets(probs, further.weights)


def _find_teachers(places: Sequence[Path]) -> list[RunFolder]:
    """Find the finished runs below the folders. Raises CheckpointError if there are none."""
    for place in places:
        if not place.is_dir():
            raise CheckpointError(
                f"expected runs of teachers at {place}, found nothing; set distill to runs or a sweep"
            )
    folders = [RunFolder(path) for path in find_runs(places)]
    finished = [folder for folder in folders if folder.best.is_file() and folder.read_result().status == "finished"]
    if not finished:
        raise CheckpointError(
            f"expected finished runs below {_name(map(str, places))}, found {len(folders)} others; train the teachers"
        )
    others = [str(folder.path) for folder in folders if folder not in finished]
    if others:
        log.warning("distill: %d of %d runs are not finished: %s", len(others), len(folders), _name(others))
    return finished


def _labelling_runs(extra: ExtraPhotos | None, settings: TrainSettings) -> list[RunFolder]:
    """Return the runs whose networks labelled `data.extra`; log if they are not recorded."""
    if extra is None or extra.soft is None:
        return []
    if extra.checkpoints is None:
        log.warning(
            "%s does not record which networks labelled it: if they were trained on people whom this run holds out, "
            "its scores are too good",
            settings.data.extra,
        )
    return [RunFolder(Path(checkpoint).parent.parent) for checkpoint in extra.checkpoints or ()]


def check_leaks(folders: Iterable[RunFolder], val: pd.DataFrame, *, allowed: bool) -> int:
    """Count the held-out photos of people on whom runs, or the runs before them, were trained.

    A student learns what its teacher knows of these people, and a run keeps what the weights know that it starts from,
    so its scores would be those of training photos.

    Args:
        folders: the runs.
        val: held-out rows of the student.
        allowed: log a warning instead of raising.

    Raises:
        SplitError: there are any, and that is not allowed.
    """
    if val.empty:
        return 0
    identified = identify_photos(val)
    marks = identified["photo"] + ":" + identified["bytes"].astype(str)
    people = val["person_id"].astype(str)
    seen = np.zeros(len(val), np.bool_)
    for folder in with_earlier_runs(folders):
        try:
            recorded = read_split(folder.split)
            trained = mark_trained(recorded, folder.extra)
        except RunFolderError as error:
            log.warning("cannot tell whether %s was trained on people whom this run holds out: %s", folder.path, error)
            continue
        leaked = marks.isin(trained).to_numpy()
        if "person_id" in recorded and marks.isin(mark_photos(recorded)).any():  # the same photos, the same ids
            known = set(recorded["person_id"][recorded["role"] == "train"])
            leaked = leaked | people.isin(known).to_numpy()
        if leaked.any() and not allowed:
            names = sorted(set(people[leaked]))
            raise SplitError(
                f"{folder.path} was trained on {len(names)} people whom this run holds out ({_name(names)}), so the "
                "scores would be too good; take networks of the same split, or accept that: allow_leak=true"
            )
        seen |= leaked
    if seen.any():
        log.warning(
            "allow_leak: earlier networks know %d of %d held-out photos: the scores are too good", seen.sum(), len(val)
        )
    return int(seen.sum())


def _ask_teachers(
    settings: TrainSettings,
    teachers: Sequence[RunFolder],
    photos: Photos,
    rows: pd.DataFrame,
    cache: PreparedPhotos | None,
) -> SoftTargets:
    """Average the teachers' probabilities of the training rows and of the further photos; weights are 0 or 1."""
    device = choose_device(settings.trainer.accelerator)
    networks = [load_trained(folder.best, device) for folder in teachers]
    for network in networks:
        _check_teacher(network, photos.space)
    paths = pd.Series([*photos.targets["path"], *rows["path"]])
    unique = paths.drop_duplicates()  # a member of an ensemble repeats photos
    parts = predict_many(
        networks,
        pd.DataFrame({"path": unique.to_numpy()}),
        num_workers=settings.data.num_workers,
        progress=settings.trainer.progress,
        cache=None if cache is None else place_of(settings.data, settings.cache_folder, photos.root),
    )
    log_probs = [{task: to_log(values) for task, values in part.probs.items()} for part in parts]
    soft = _mean_probs(networks, log_probs, photos.space)
    untaught = [task for task in photos.space.names if not soft.weights[task].any()]
    if untaught:
        log.warning("distill: no teacher predicts %s, which is learned from labels alone", ", ".join(untaught))
    return soft.select(pd.Index(unique).get_indexer(pd.Index(paths)))


def _check_teacher(network: Trained, space: LabelSpace) -> None:
    """Raise LabelError unless the network predicts a task of the run, and these tasks have the run's classes."""
    shared = [task for task in network.space.tasks if task.name in space.names]
    if not shared or any(task != space[task.name] for task in shared):
        raise LabelError(
            f"the run learns {describe_space(space)}; its teacher {network.source.checkpoint} predicts "
            f"{describe_space(network.space)}; set distill to runs of the same label space"
        )


def _mean_probs(
    networks: Sequence[Trained], log_probs: Sequence[Mapping[str, Floats]], space: LabelSpace
) -> SoftTargets:
    """Average the natural probabilities of the networks that predict a task; weight 0 for tasks that none predicts."""
    soft = no_soft_targets(space, len(next(iter(log_probs[0].values()))))
    probs, weights = dict(soft.probs), dict(soft.weights)
    for task in space.names:
        found = [
            np.exp(natural_log_probs(network, task, each[task]))
            for network, each in zip(networks, log_probs, strict=True)
            if task in each
        ]
        if found:
            probs[task] = np.mean(found, axis=0).astype(np.float32)
            weights[task] = np.ones(len(probs[task]), np.float32)
    return SoftTargets(probs, weights)


def natural_log_probs(network: Trained, task: str, log_probs: Floats) -> Floats:
    """Multiply the classes' frequencies back that logit adjustment or class weights have divided out in training.

    Source: Menon et al. 2021, "Long-tail learning via logit adjustment", arXiv:2007.07314, section 4.

    Args:
        network: the network.
        task: one of its tasks.
        log_probs: its log probabilities (N, C).

    Returns:
        Log probabilities (N, C) with the class frequencies of the network's training photos.
    """
    options, counts = network.module.hparams["loss"], network.module.hparams["class_counts"][task]
    tau = 1.0 if options.get("class_weights") == "balanced" else float(options.get("logit_adjustment") or 0.0)
    frequencies = np.maximum(np.asarray(counts, np.float64), np.finfo(np.float32).tiny)
    natural: Floats = log_softmax(log_probs + tau * np.log(frequencies / frequencies.sum()), axis=1)
    return natural


def _name(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:MAX_NAMED]) + (", ..." if len(names) > MAX_NAMED else "")
