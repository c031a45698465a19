"""Write the HTML report of a trained network."""

from __future__ import annotations

import logging
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.errors import ConfigError
from mask_lightning.inference.heat_maps import heat_maps
from mask_lightning.inference.trained import Trained, choose_device, load_trained
from mask_lightning.metrics.evaluation import Evaluation, evaluate
from mask_lightning.metrics.mistakes import find_mistakes
from mask_lightning.metrics.predictions import Predictions
from mask_lightning.pipelines.evaluate import notes, temperatures_for
from mask_lightning.pipelines.labelled import (
    LabelledPredictions,
    predict_labelled,
    run_folder_of,
    settings_of_run,
)
from mask_lightning.pipelines.output import refuse_existing, writable
from mask_lightning.reports import report_page
from mask_lightning.reports.html_page import Picture, figure_picture
from mask_lightning.reports.photo_grids import plot_cards
from mask_lightning.reports.report_images import Album, Chart, draw_charts, make_album, rows_to_explain
from mask_lightning.reports.report_page import Report
from mask_lightning.reports.training_curves import plot_curves
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.augment import AugmentSettings
from mask_lightning.settings.evaluation import ReportSettings
from mask_lightning.utils.files import write_atomically

log = logging.getLogger(__name__)


def report_run(settings: ReportSettings, folder: Path) -> Report:
    """Evaluate a trained network on labelled photos, and write report.html and its figures into `folder`.

    Raises:
        MaskLightningError: the user can correct the cause; raised before anything is written.
    """
    refuse_existing(folder, [report_page.FILE_NAME])
    _refuse_packed(settings)
    labelled = predict_labelled([settings.ckpt], settings, data=settings.photos)[0]
    trained = load_trained(settings.ckpt, choose_device(settings.accelerator))
    report = make_report(labelled, trained, seed=settings.seed)
    with writable(folder):
        _save(report, folder)
    report_page.print_report(report, folder)
    return report


def _refuse_packed(settings: ReportSettings) -> None:
    """Raise ConfigError for the held-out people of a run on packed photos, whose files the page would show."""
    folder = run_folder_of(settings.ckpt)
    if settings.photos is None and folder is not None and settings_of_run(folder).data.name == "packed":
        raise ConfigError(
            f"report shows photo files, found that {folder.path} was trained on packed photos; name the original "
            "photos with data.root, or use python -m mask_lightning.evaluate"
        )


def make_report(labelled: LabelledPredictions, trained: Trained, *, seed: int = 0) -> Report:
    """Compute all numbers from the stored predictions, draw them, and compute the heat maps of the photos shown."""
    predictions = labelled.predictions
    evaluation = evaluate(predictions, temperatures_for(labelled), seed=seed)
    mistakes = find_mistakes(predictions)
    maps, no_heat_maps = _explain(trained, predictions)
    charts = {**draw_charts(predictions, evaluation), **_curves(labelled.folder, trained)}
    config: dict[str, Any] = trained.module.hparams.get("config") or {}
    augment = AugmentSettings(**config["augment"]) if "augment" in config else None
    return Report(
        title=labelled.folder.path.name if labelled.folder else Path(trained.source.checkpoint).name,
        evaluated_on=_evaluated_on(labelled, evaluation),
        predictions=predictions,
        evaluation=evaluation,
        mistakes=mistakes,
        charts={name: figure_picture(*chart) for name, chart in charts.items()},
        album=make_album(predictions, mistakes, maps, trained.spec, augment),
        facts=_facts(labelled, trained, config),
        trained_on=trained.module.hparams["class_counts"],
        train_accuracy=_train_accuracy(labelled),
        notes=notes([labelled], evaluation, None),
        no_heat_maps=no_heat_maps,
    )


def _explain(trained: Trained, predictions: Predictions) -> tuple[dict[str, npt.NDArray[np.float32]], str]:
    """Return the heat maps of the photos shown with them, or none and the reason if the network cannot be explained."""
    rows = rows_to_explain(predictions)
    photos = predictions.photos.iloc[rows].reset_index(drop=True)
    try:
        return heat_maps(trained, photos, {task: preds[rows] for task, preds in predictions.preds.items()}), ""
    except ConfigError as error:
        log.warning("no heat maps: %s", error)
        return {}, str(error)


def _curves(folder: RunFolder | None, trained: Trained) -> dict[str, Chart]:
    """Return the learning curves, if the run folder has metrics.csv."""
    if folder is None or not folder.metrics.is_file():
        return {}
    figure = plot_curves(pd.read_csv(folder.metrics), trained.module.phases, trained.space.names)
    return {"curves": Chart(figure, "Loss and macro F1 per epoch, on training photos and on held-out people")}


def _evaluated_on(labelled: LabelledPredictions, evaluation: Evaluation) -> str:
    whose = "whom it held out" if labelled.held_out else f"in {labelled.root}"
    return f"{evaluation.photos:,} photos of {evaluation.people:,} people {whose}"


def _train_accuracy(labelled: LabelledPredictions) -> float | None:
    """Return the accuracy on unaugmented training photos; None if these photos are not of the run's own people."""
    if labelled.folder is None or not labelled.held_out:
        return None
    return labelled.folder.read_result().best.get("clean_train/accuracy")


def _facts(labelled: LabelledPredictions, trained: Trained, config: dict[str, Any]) -> dict[str, str]:
    """Describe the network and its training, as far as the checkpoint and its run folder tell."""
    source, module = trained.source, trained.module
    parameters = sum(parameter.numel() for parameter in module.parameters())
    written = datetime.fromtimestamp(Path(source.checkpoint).stat().st_mtime)
    facts = {
        "network": f"{source.backbone} at {trained.spec.size} pixels, {parameters / 1e6:.1f} million parameters",
        "tasks": "; ".join(f"{task.name} ({', '.join(task.classes)})" for task in trained.space.tasks),
        "phases": "; ".join(f"{phase}, {phase.epochs} epochs" for phase in module.phases),
    }
    if "augment" in config:
        facts["augmentation"] = ", ".join(f"{name} {value}" for name, value in config["augment"].items())
    if labelled.folder is not None and labelled.folder.result.is_file():
        facts |= _facts_of_run(labelled.folder)
    checkpoint = f"{source.checkpoint}, written {written:%Y-%m-%d %H:%M}, sha256 {source.sha256[:12]}"
    return {**facts, "evaluated on": str(labelled.root), "checkpoint": checkpoint}


def _facts_of_run(folder: RunFolder) -> dict[str, str]:
    result = folder.read_result()
    people, photos = (result.data.get("train", {}).get(what, 0) for what in ("people", "photos"))
    return {
        "trained on": f"{photos:,} photos of {people:,} people in {result.data.get('root', '?')}",
        "weights at the start": result.weights,
        "best epoch": f"{result.best_epoch}, by {result.monitor}",
        "time": f"{result.seconds / 60:.1f} minutes, {result.photos_per_second:.0f} photos/s",
        "versions": ", ".join(f"{name} {version}" for name, version in result.versions.items()),
    }


def _save(report: Report, folder: Path) -> None:
    """Write the figures, then the page: if the page exists, the rest is complete."""
    pictures: dict[str, Picture] = {**report.charts, **_sheets(report.album)}
    for name, picture in pictures.items():
        write_atomically(folder / f"{name}.png", picture.content)
    page = report_page.render_report(report, today=date.today())
    write_atomically(folder / report_page.FILE_NAME, page.encode())


def _sheets(album: Album) -> dict[str, Picture]:
    """Draw each group of photos as a figure."""
    return {
        name: figure_picture(plot_cards(group.cards, title=group.heading, columns=group.columns), group.heading)
        for name, group in album.sheets.items()
    }
