"""Soft targets: probabilities per class and a weight for training photos, with or without a label.

They come from a table of further photos (`data.extra`, written by `pseudo_label`) or from the networks of other runs
(`distill`); `pipelines.soft_targets` computes them, `losses.task_losses` learns from them.

Columns of a table: `path` (absolute, or relative to the table), optionally `person_id`, and for each task
`probs/<task>/<class>` and `weight/<task>`; `weight` is used for tasks without an own weight, and is 1 if missing. The
parquet file also stores the label space and the checkpoints that made the probabilities.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mask_lightning.data.csv_files import read_cells
from mask_lightning.data.images import log_and_shorten, missing_files
from mask_lightning.errors import LabelError, PhotoError, SampleTableError
from mask_lightning.labels import UNLABELLED, LabelSpace
from mask_lightning.metrics.predictions import Source
from mask_lightning.utils.files import write_atomically

KEY = b"mask_lightning.soft_targets"
FORMAT = 1
ROUNDING = 0.01  # by which the probabilities of a photo may miss 1

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SoftTargets:
    """Probabilities and weights for N photos.

    Attributes:
        probs: task -> (N, C), rows sum to 1; any values where the weight is 0.
        weights: task -> (N,), 0 for a photo without soft targets.
    """

    probs: Mapping[str, Floats]
    weights: Mapping[str, Floats]

    def select(self, rows: npt.NDArray[np.integer]) -> SoftTargets:
        """Return the photos with these row numbers, in that order."""
        return SoftTargets(
            {task: values[rows] for task, values in self.probs.items()},
            {task: values[rows] for task, values in self.weights.items()},
        )

    def scaled(self, factor: float) -> SoftTargets:
        """Multiply all weights."""
        return SoftTargets(
            self.probs, {task: (values * factor).astype(np.float32) for task, values in self.weights.items()}
        )


def no_soft_targets(space: LabelSpace, count: int) -> SoftTargets:
    """Create the soft targets of photos that have none."""
    return SoftTargets(
        {task.name: np.full((count, task.num_classes), 1 / task.num_classes, np.float32) for task in space.tasks},
        {task.name: np.zeros(count, np.float32) for task in space.tasks},
    )


def join_soft_targets(parts: Sequence[SoftTargets]) -> SoftTargets:
    """Join soft targets of different photos, one part after the other."""
    tasks = list(parts[0].probs)
    return SoftTargets(
        {task: np.concatenate([part.probs[task] for part in parts]) for task in tasks},
        {task: np.concatenate([part.weights[task] for part in parts]) for task in tasks},
    )


@dataclass(frozen=True)
class ExtraPhotos:
    """Further training photos, without labels.

    Attributes:
        rows: `path`, and `person_id` if it is known.
        soft: their soft targets; None if the table has no probabilities.
        checkpoints: paths of the checkpoints that made the probabilities; None if unknown.
    """

    rows: pd.DataFrame
    soft: SoftTargets | None
    checkpoints: tuple[str, ...] | None


def write_extra(
    path: Path, photos: pd.DataFrame, space: LabelSpace, soft: SoftTargets, sources: Sequence[Source]
) -> pd.DataFrame:
    """Write a table of further photos as parquet, atomically, and return it.

    Args:
        path: the file.
        photos: one row per photo with `path` and other columns to keep, such as `person_id`.
        space: tasks of the soft targets.
        soft: their soft targets.
        sources: the checkpoints.
    """
    columns = {
        name: values
        for task in space.tasks
        for name, values in (
            *((f"probs/{task.name}/{each}", soft.probs[task.name][:, i]) for i, each in enumerate(task.classes)),
            (f"weight/{task.name}", soft.weights[task.name]),
        )
    }
    frame = photos.reset_index(drop=True).assign(path=[str(Path(each).resolve()) for each in photos["path"]], **columns)
    about = {"format": FORMAT, "labels": space.to_plain(), "sources": [asdict(source) for source in sources]}
    buffer = BytesIO()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table.replace_schema_metadata({KEY: json.dumps(about).encode()}), buffer)
    write_atomically(path, buffer.getvalue())
    return frame


def read_extra(path: Path, space: LabelSpace) -> ExtraPhotos:
    """Read a table of further photos, parquet or CSV.

    Args:
        path: the table.
        space: tasks that the run learns; other tasks of the table are not read, missing ones have weight 0.

    Raises:
        SampleTableError: it is no such table, lists a photo twice, or has numbers that are not probabilities.
        LabelError: a task has other classes than the run.
        PhotoError: photos are missing.
    """
    frame, checkpoints = _read_table(path)
    if "path" not in frame or frame.empty:
        found = "no line" if "path" in frame else ", ".join(map(str, frame.columns)) or "nothing"
        raise SampleTableError(f"expected photos in a column `path` of {path}, found {found}; see pseudo_label")
    paths = [str(path.parent / each) for each in frame["path"].astype(str)]  # an absolute path stays
    twice = sorted({each for each in paths if paths.count(each) > 1}) if len(set(paths)) < len(paths) else []
    if twice:
        raise SampleTableError(f"{path} names {len(twice)} photos more than once ({log_and_shorten(twice)}); keep one")
    missing = missing_files(map(Path, paths))
    if missing:
        names = log_and_shorten(list(map(str, missing)))
        raise PhotoError(
            f"{path} names {len(missing)} of {len(paths)} photos that do not exist ({names}); restore them"
        )
    rows = pd.DataFrame({"path": paths})
    if "person_id" in frame:
        rows["person_id"] = frame["person_id"].astype(str)
    has_probs = any(str(column).startswith("probs/") for column in frame)
    return ExtraPhotos(rows, _soft_targets(path, frame, space) if has_probs else None, checkpoints)


def _read_table(path: Path) -> tuple[pd.DataFrame, tuple[str, ...] | None]:
    if not path.is_file():
        raise SampleTableError(f"expected a table of further photos at {path}, found none; set data.extra to one")
    if path.suffix.lower() != ".parquet":
        return read_cells(path, ["path", "person_id"]), None
    try:
        table = pq.read_table(path)
        stored = (table.schema.metadata or {}).get(KEY)
        about = json.loads(stored) if stored else None
        checkpoints = None if about is None else tuple(str(source["checkpoint"]) for source in about["sources"])
        return table.to_pandas(), checkpoints
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise SampleTableError(
            f"cannot read {path} ({type(error).__name__}); write it again with pseudo_label"
        ) from error


def _soft_targets(path: Path, frame: pd.DataFrame, space: LabelSpace) -> SoftTargets:
    soft = no_soft_targets(space, len(frame))
    probs, weights = dict(soft.probs), dict(soft.weights)
    found = False
    for task in space.tasks:
        own = [str(column) for column in frame if str(column).startswith(f"probs/{task.name}/")]
        wanted = [f"probs/{task.name}/{each}" for each in task.classes]
        if not own:
            continue
        if set(own) != set(wanted):
            classes = ", ".join(column.rpartition("/")[2] for column in own)
            raise LabelError(
                f"the run learns {task.name} as {', '.join(task.classes)}, {path} has {classes}; take a table of a run "
                "with the same classes"
            )
        weight = next((name for name in (f"weight/{task.name}", "weight") if name in frame), None)
        probs[task.name] = _numbers(path, frame[wanted])
        weights[task.name] = (
            np.ones(len(frame), np.float32) if weight is None else _numbers(path, frame[[weight]])[:, 0]
        )
        used = weights[task.name] > 0
        off = np.abs(probs[task.name][used].sum(axis=1) - 1) > ROUNDING
        if off.any() or (probs[task.name][used] < 0).any() or (weights[task.name] < 0).any():
            raise SampleTableError(
                f"expected probabilities of {task.name} that sum to 1, and weights of 0 or more, found others in "
                f"{path}; write it again with pseudo_label"
            )
        found = found or bool(used.any())
    if not found:
        tasks = ", ".join(space.names)
        raise LabelError(f"expected probabilities with a weight for {tasks} in {path}, found none; take another table")
    return SoftTargets(probs, weights)


def _numbers(path: Path, columns: pd.DataFrame) -> Floats:
    try:
        values = columns.to_numpy(np.float32)
        if np.isfinite(values).all():
            return values
    except ValueError:
        pass
    raise SampleTableError(f"expected numbers in {', '.join(map(str, columns))} of {path}, found others; correct them")


def extra_rows(extra: pd.DataFrame, space: LabelSpace) -> pd.DataFrame:
    """Return sample-table rows of further photos: no labels, every photo a family of its own."""
    names = [f"extra/{i}" for i in range(len(extra))]
    labels = {task: np.full(len(extra), UNLABELLED, np.int64) for task in space.names}
    return pd.DataFrame({"path": extra["path"].to_numpy(), "person_id": names, "family": names, **labels})
