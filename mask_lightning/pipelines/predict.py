"""Predict photos with trained networks, whole or in shards, and merge the shards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from mask_lightning.data.videos import camera_index, is_video
from mask_lightning.errors import ConfigError, RunFolderError
from mask_lightning.inference import prediction_file, submission
from mask_lightning.inference.exported import Model, load_model, with_engine
from mask_lightning.inference.photo_list import PhotoList, list_photos
from mask_lightning.inference.predict import predict_chunks, with_options
from mask_lightning.inference.shards import Shard, find_shards
from mask_lightning.inference.temperatures import require_corrections
from mask_lightning.inference.trained import choose_device
from mask_lightning.labels import LabelSpace
from mask_lightning.metrics.calibration import Correction
from mask_lightning.metrics.decisions import decide
from mask_lightning.metrics.predictions import ClassTally, Predictions, combine, combine_spaces, join_rows
from mask_lightning.pipelines.many_faces import CSV_NAME, predict_all_faces
from mask_lightning.pipelines.output import engine_cache, refuse_existing, writable
from mask_lightning.reports import predictions as reports
from mask_lightning.settings.inference import MergeSettings, PredictSettings

OUTPUT_NAMES = (prediction_file.FILE_NAME, CSV_NAME, submission.FILE_NAME)


def predict_photos(settings: PredictSettings, folder: Path) -> None:
    """Predict every photo with every network, and write the predictions into `folder`; faces=all: `many_faces`.

    Memory holds the list of photos, and the predictions of `prediction_file.ROW_GROUP` photos; with decision=macro_f1,
    which decides all photos together, all predictions.

    Raises:
        MaskLightningError: the user can correct the cause; raised before anything is written.
    """
    root = settings.data.root
    assert root is not None
    if settings.faces == "all":
        predict_all_faces(settings, folder, _load_networks)
        return
    if is_video(root) or camera_index(root) is not None:
        raise ConfigError(f"videos and cameras need faces=all, found data.root={root} beside faces=one; set faces=all")
    refuse_existing(folder, OUTPUT_NAMES)
    photos = list_photos(settings.data, settings.outputs)
    networks = _load_networks(settings, len(photos.table))
    submit = _must_submit(networks, photos, settings)
    if settings.shard is not None:
        _predict_shard(settings, Shard.parse(settings.shard), photos, networks, folder)
        return
    corrections = (
        require_corrections([network.source for network in networks], networks[0].source.tta)
        if settings.decision == "macro_f1"
        else None
    )
    last: Predictions | None = None
    tally = ClassTally(_space(networks))
    with writing_output(folder, submit=submit) as write:
        predicted = (combine(parts) for parts in _chunks(settings, networks, photos))
        for last in predicted if corrections is None else _decided(predicted, corrections):
            write(last)
            tally.add(last)
    assert last is not None
    if photos.kind == "photo":
        reports.print_photo(last)
    else:
        reports.print_summary(tally)
    reports.print_probabilities(last.sources)
    if corrections is not None:
        reports.print_decisions(last)
    reports.print_files(folder, _check_command(folder, photos) if photos.kind == "info" and submit else None)


def _predict_shard(
    settings: PredictSettings, shard: Shard, photos: PhotoList, networks: list[Model], folder: Path
) -> None:
    """Predict a part of the photos into its file, unless it is there.

    Raises:
        RunFolderError: the file holds the shard of other photos, checkpoints or options.
        PredictionsError: the file is damaged.
        MaskLightningError: as `predict_photos`.
    """
    path, about = folder / shard.file_name, shard.metadata(photos.table, settings.batch_size)
    if path.exists():
        sources = [network.source for network in networks]
        expected = {**about, prediction_file.KEY: prediction_file.describe(_space(networks), sources)}
        found = prediction_file.read_metadata(path)
        if any(found.get(key) != value for key, value in expected.items()):
            raise RunFolderError(
                f"expected shard {shard.index}/{shard.count} of these photos, checkpoints and options in {path}, found "
                "another; remove that file to predict the shard again"
            )
        print(f"skipped: shard {shard.index}/{shard.count} is finished in {path}", file=sys.stderr)
        return
    part = PhotoList(
        photos.table.iloc[shard.rows(len(photos.table), settings.batch_size)].reset_index(drop=True),
        photos.kind,
        photos.root,
        photos.packed,
    )
    with writable(folder), prediction_file.writing_predictions(path, about) as write:
        for parts in _chunks(settings, networks, part):
            write(combine(parts))
    print(f"shard {shard.index}/{shard.count}: {len(part.table)} photos in {path}", file=sys.stderr)
    print(f"next, after all shards: python -m mask_lightning.merge shards={folder}", file=sys.stderr)


def merge_shards(settings: MergeSettings, folder: Path) -> None:
    """Join the shards of a prediction: the files in `folder` equal those of a single run, byte for byte.

    Raises:
        PredictionsError: shards are missing, damaged, or do not belong together.
        SubmissionError: `submission=true` for shards that cannot make one.
    """
    refuse_existing(folder, OUTPUT_NAMES)
    paths = find_shards(settings.shards)
    first = next(prediction_file.read_chunks(paths[0]))
    if settings.submission is True:
        submission.require_face(first.space)
    tally = ClassTally(first.space)
    with writing_output(
        folder, submit=settings.submission is not False and submission.can_submit(first.space)
    ) as write:
        for path in paths:
            for part in prediction_file.read_chunks(path):
                write(part)
                tally.add(part)
    reports.print_summary(tally)
    reports.print_probabilities(first.sources)
    reports.print_files(folder, None)


def _load_networks(settings: PredictSettings, photos: int) -> list[Model]:
    device = choose_device(settings.accelerator)
    loaded = [load_model(path, device, engine=settings.engine) for path in settings.ckpt]
    _space(loaded)
    cache = engine_cache(settings.outputs)
    networks = [with_engine(each, settings.engine, cache=cache, photos=photos) for each in loaded]
    return [with_options(each, settings.tta, calibrated=settings.calibrated == "auto") for each in networks]


def _chunks(settings: PredictSettings, networks: list[Model], photos: PhotoList) -> Iterator[list[Predictions]]:
    return predict_chunks(
        networks,
        photos.table,
        tta=settings.tta,
        batch_size=settings.batch_size,
        num_workers=settings.num_workers,
        progress=settings.progress,
        cache=photos.packed,
    )


def _decided(parts: Iterator[Predictions], corrections: Mapping[str, Correction]) -> Iterator[Predictions]:
    """Collect all parts and decide them together: one part."""
    yield decide(join_rows(list(parts)), corrections)


def _space(networks: list[Model]) -> LabelSpace:
    """Merge the label spaces. Raises PredictionsError if two networks predict the same task."""
    return combine_spaces([(network.source.checkpoint, network.space) for network in networks])


def _must_submit(networks: list[Model], photos: PhotoList, settings: PredictSettings) -> bool:
    """Return True if a submission will be written. Raise if the networks do not fit together or cannot make one."""
    space = _space(networks)
    if settings.submission is True or (settings.submission == "auto" and photos.kind == "info"):
        submission.require_face(space)
    return settings.submission is not False and submission.can_submit(space)


def write_output(folder: Path, predictions: Predictions, *, submit: bool) -> None:
    """Write all predictions at once, as `writing_output`."""
    with writing_output(folder, submit=submit) as write:
        write(predictions)


@contextmanager
def writing_output(folder: Path, *, submit: bool) -> Iterator[Callable[[Predictions], None]]:
    """Write predictions part by part, for parts without common photos.

    At the end of the block predictions.parquet, predictions.csv and submission.csv appear, in this order: with the
    last, all are complete. After an error there is none.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    try:
        with writable(folder), ExitStack() as stack:  # left in reverse order
            submissions = [
                stack.enter_context(submission.writing_submission(folder / submission.FILE_NAME)) for _ in range(submit)
            ]
            write_rows = stack.enter_context(prediction_file.writing_csv(folder / CSV_NAME))
            write_table = stack.enter_context(prediction_file.writing_predictions(folder / prediction_file.FILE_NAME))

            def write(predictions: Predictions) -> None:
                write_table(predictions)
                write_rows(predictions)
                for write_answers in submissions:
                    write_answers(submission.submission_of(predictions))

            yield write
    except BaseException:
        with suppress(OSError):
            folder.rmdir()
        raise


def _check_command(folder: Path, photos: PhotoList) -> str:
    return f"python -m mask_lightning.check_submission file={folder} data.root={photos.root}"
