"""Predictions on disk: a parquet file that also stores its format, labels, checkpoints and preprocessing.

Columns: those of the photos, then for each task `target/<task>` and `loss/<task>` (null where the truth is not known)
and `probs/<task>/<class>`. If a decision rule has chosen the classes, format 2 has also `decision/<task>`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
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
from mask_lightning.utils.files import writing_atomically

FORMAT = 1  # increase it when an older reader would misread the file
FORMAT_DECIDED = 2  # with decisions, which readers of format 1 would take for columns of the photos
FILE_NAME = "predictions.parquet"

ROW_GROUP = 2**16  # rows
DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException, LabelError)

WriteRows = Callable[[Predictions], None]

KEY = b"mask_lightning"


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions as parquet, atomically."""
    with writing_predictions(path) as write:
        write(predictions)


@contextmanager
def writing_predictions(path: Path, more: Mapping[bytes, bytes] | None = None) -> Iterator[WriteRows]:
    """Write predictions part by part; the file appears at the end of the block, atomically.

    Rows are stored in groups of ROW_GROUP, so that the file depends neither on the sizes of the parts nor needs all of
    them in memory.

    Args:
        path: the parquet file.
        more: further metadata, for readers other than `read_predictions`.

    Yields:
        Function that appends predictions; all of the same label space and checkpoints.
    """
    waiting: list[pa.Table] = []
    with writing_atomically(path) as file, ExitStack() as stack:
        writer: pq.ParquetWriter | None = None

        def flush(least: int) -> None:
            table = pa.concat_tables(waiting).combine_chunks()
            full = len(table) if least == 1 else len(table) // least * least
            assert writer is not None
            if full:
                writer.write_table(table.slice(0, full), row_group_size=ROW_GROUP)
            waiting[:] = [table.slice(full)]

        def write(predictions: Predictions) -> None:
            nonlocal writer
            table = _to_table(predictions)
            if writer is None:
                decided = predictions.decisions is not None
                about = describe(predictions.space, predictions.sources, decided=decided)
                metadata = {KEY: about, **(more or {})}
                writer = stack.enter_context(pq.ParquetWriter(file, table.schema.with_metadata(metadata)))
            waiting.append(table.cast(writer.schema))
            if sum(map(len, waiting)) >= ROW_GROUP:
                flush(ROW_GROUP)

        yield write
        if waiting:
            flush(1)


def describe(space: LabelSpace, sources: Sequence[Source], *, decided: bool = False) -> bytes:
    """Return what a file of predictions tells about itself, as JSON: format, version, labels and checkpoints."""
    about = {
        "format": FORMAT_DECIDED if decided else FORMAT,
        "version": __version__,
        "labels": space.to_plain(),
        "sources": [asdict(source) for source in sources],
    }
    return json.dumps(about).encode()


def _to_table(predictions: Predictions) -> pa.Table:
    columns: dict[str, Any] = {}
    for task in predictions.space.tasks:
        targets = predictions.targets[task.name]
        columns[f"target/{task.name}"] = pa.array(targets, mask=targets == UNLABELLED)
        losses = predictions.losses[task.name]
        columns[f"loss/{task.name}"] = pa.array(losses, mask=np.isnan(losses))
        for i, name in enumerate(task.classes):
            columns[f"probs/{task.name}/{name}"] = pa.array(np.ascontiguousarray(predictions.probs[task.name][:, i]))
        if predictions.decisions is not None:
            columns[f"decision/{task.name}"] = pa.array(predictions.decisions[task.name])
    table = pa.Table.from_pandas(predictions.photos, preserve_index=False)
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table.replace_schema_metadata(None)


def write_csv(path: Path, predictions: Predictions) -> None:
    """Write a CSV for people: photo, then the pred of each task and its probability; atomically."""
    with writing_csv(path) as write:
        write(predictions)


@contextmanager
def writing_csv(path: Path, columns: Sequence[str] = ("photo",)) -> Iterator[WriteRows]:
    """Write the CSV of `write_csv` part by part; it appears at the end of the block, atomically.

    Args:
        path: the CSV.
        columns: those of the photos that are written, before the preds.
    """
    with writing_atomically(path) as file:

        def write(predictions: Predictions) -> None:
            values: dict[str, Any] = {name: predictions.photos[name] for name in columns}
            for task in predictions.space.tasks:
                preds = predictions.preds[task.name]
                values[task.name] = np.array(task.classes)[preds]
                values[f"{task.name}_probability"] = predictions.prob_of_preds(task.name).round(4)
            frame = pd.DataFrame(values)
            file.write(frame.to_csv(index=False, header=not file.tell(), lineterminator="\n").encode())

        yield write


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
    except DAMAGED as error:
        raise _damaged(path, error) from error
    if space is not None and predictions.space != space:
        raise PredictionsError(
            f"expected predictions of {describe_space(space)} in {path}, found {describe_space(predictions.space)}; "
            "name predictions of that label space"
        )
    return predictions


def read_chunks(path: Path) -> Iterator[Predictions]:
    """Yield the predictions of a file in parts of at most ROW_GROUP photos.

    Raises:
        PredictionsError: the file is damaged, or has another format.
    """
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROW_GROUP):
                yield _from_table(pa.Table.from_batches([batch]).replace_schema_metadata(file.schema_arrow.metadata))
    except DAMAGED as error:
        raise _damaged(path, error) from error


def read_metadata(path: Path) -> dict[bytes, bytes]:
    """Read the metadata of a parquet file. Raises PredictionsError if it is damaged."""
    try:
        return dict(pq.read_schema(path).metadata or {})
    except DAMAGED as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> PredictionsError:
    return PredictionsError(
        f"{path} is not a whole file of predictions by mask_lightning ({type(error).__name__}); predict again"
    )


def describe_space(space: LabelSpace) -> str:
    """Format tasks and classes for a message: `mask (wear, incorrect, normal), age (<30, 30-59, >=60)`."""
    return ", ".join(f"{task.name} ({', '.join(task.classes)})" for task in space.tasks)


def _from_table(stored: pa.Table) -> Predictions:
    about = json.loads((stored.schema.metadata or {})[KEY])
    if about["format"] not in (FORMAT, FORMAT_DECIDED):
        raise PredictionsError(
            f"expected predictions of format {FORMAT} or {FORMAT_DECIDED}, found {about['format']}; predict again with "
            "this version"
        )
    table, space = stored.to_pandas(), LabelSpace.from_plain(about["labels"])
    names = {
        task.name: [f"target/{task.name}", f"loss/{task.name}", *(f"probs/{task.name}/{c}" for c in task.classes)]
        for task in space.tasks
    }
    decided = {task: f"decision/{task}" for task in space.names} if about["format"] == FORMAT_DECIDED else {}
    own = [*(column for columns in names.values() for column in columns), *decided.values()]
    return Predictions(
        space=space,
        photos=table.drop(columns=own),
        probs={task: table[columns[2:]].to_numpy(np.float32) for task, columns in names.items()},
        targets={task: table[columns[0]].fillna(UNLABELLED).to_numpy(np.int64) for task, columns in names.items()},
        losses={task: table[columns[1]].to_numpy(np.float32) for task, columns in names.items()},
        sources=tuple(Source(**{**source, "tasks": tuple(source["tasks"])}) for source in about["sources"]),
        decisions={task: table[column].to_numpy(np.int64) for task, column in decided.items()} or None,
    )
