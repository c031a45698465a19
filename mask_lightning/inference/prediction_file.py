"""Predictions on disk: a parquet file that also stores its format, labels, checkpoints and preprocessing.

Columns: those of the photos, then for each task `target/<task>` and `loss/<task>` (null where the truth is not known)
and `probs/<task>/<class>`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mask_lightning import __version__
from mask_lightning.errors import LabelError, PredictionsError
from mask_lightning.labels import UNLABELLED, LabelSpace
from mask_lightning.metrics.predictions import Predictions, Source
from mask_lightning.utils.files import write_atomically

FORMAT = 1  # increase it when an older reader would misread the file
FILE_NAME = "predictions.parquet"

_KEY = b"mask_lightning"


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions as parquet, atomically."""
    columns: dict[str, Any] = {}
    for task in predictions.space.tasks:
        targets = predictions.targets[task.name]
        columns[f"target/{task.name}"] = pa.array(targets, mask=targets == UNLABELLED)
        losses = predictions.losses[task.name]
        columns[f"loss/{task.name}"] = pa.array(losses, mask=np.isnan(losses))
        for i, name in enumerate(task.classes):
            columns[f"probs/{task.name}/{name}"] = pa.array(np.ascontiguousarray(predictions.probs[task.name][:, i]))
    table = pa.Table.from_pandas(predictions.photos, preserve_index=False)
    for name, values in columns.items():
        table = table.append_column(name, values)
    about = {
        "format": FORMAT,
        "version": __version__,
        "labels": predictions.space.to_plain(),
        "sources": [asdict(source) for source in predictions.sources],
    }
    buffer = BytesIO()
    pq.write_table(table.replace_schema_metadata({_KEY: json.dumps(about)}), buffer)
    write_atomically(path, buffer.getvalue())


def write_csv(path: Path, predictions: Predictions) -> None:
    """Write a CSV for people: photo, then the pred of each task and its probability; atomically."""
    columns: dict[str, Any] = {"photo": predictions.photos["photo"]}
    for task in predictions.space.tasks:
        probs = predictions.probs[task.name]
        columns[task.name] = np.array(task.classes)[probs.argmax(axis=1)]
        columns[f"{task.name}_probability"] = probs.max(axis=1).round(4)
    write_atomically(path, pd.DataFrame(columns).to_csv(index=False, lineterminator="\n").encode())


def read_predictions(path: Path, space: LabelSpace | None = None) -> Predictions:
    """Read a file written by `write_predictions`.

    Args:
        path: the file, or the folder that holds predictions.parquet.
        space: expected label space; None accepts any.

    Raises:
        PredictionsError: the file is missing or damaged, or has another format or label space.
    """
    path = path / FILE_NAME if path.is_dir() else path
    if not path.is_file():
        raise PredictionsError(f"expected predictions at {path}, found none; make them with mask_lightning.predict")
    try:
        predictions = _from_table(pq.read_table(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException, LabelError) as error:
        raise PredictionsError(
            f"{path} is not a whole file of predictions by mask_lightning ({type(error).__name__}); predict again"
        ) from error
    if space is not None and predictions.space != space:
        raise PredictionsError(
            f"expected predictions of {describe_space(space)} in {path}, found {describe_space(predictions.space)}; "
            "name predictions of that label space"
        )
    return predictions


def describe_space(space: LabelSpace) -> str:
    """Format tasks and classes for a message: `mask (wear, incorrect, normal), age (<30, 30-59, >=60)`."""
    return ", ".join(f"{task.name} ({', '.join(task.classes)})" for task in space.tasks)


def _from_table(stored: pa.Table) -> Predictions:
    about = json.loads((stored.schema.metadata or {})[_KEY])
    if about["format"] != FORMAT:
        raise PredictionsError(
            f"expected predictions of format {FORMAT}, found {about['format']}; predict again with this version"
        )
    table, space = stored.to_pandas(), LabelSpace.from_plain(about["labels"])
    names = {
        task.name: [f"target/{task.name}", f"loss/{task.name}", *(f"probs/{task.name}/{c}" for c in task.classes)]
        for task in space.tasks
    }
    own = [column for columns in names.values() for column in columns]
    return Predictions(
        space=space,
        photos=table.drop(columns=own),
        probs={task: table[columns[2:]].to_numpy(np.float32) for task, columns in names.items()},
        targets={task: table[columns[0]].fillna(UNLABELLED).to_numpy(np.int64) for task, columns in names.items()},
        losses={task: table[columns[1]].to_numpy(np.float32) for task, columns in names.items()},
        sources=tuple(Source(**{**source, "tasks": tuple(source["tasks"])}) for source in about["sources"]),
    )
