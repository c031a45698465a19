"""One report from settings to what it leaves in its folder."""

from __future__ import annotations

import logging
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mask_lightning.data.transforms import AugmentSpec
from mask_lightning.errors import ConfigError, RunFolderError
from mask_lightning.inference.heat_maps import heat_maps
from mask_lightning.inference.predictions import Predictions
from mask_lightning.inference.trained import Trained, choose_device, load_trained
from mask_lightning.metrics.evaluation import Evaluation, evaluate
from mask_lightning.metrics.mistakes import find_mistakes
from mask_lightning.pipelines.evaluate import notes, temperatures_for
from mask_lightning.pipelines.labelled import Labelled, predict_labelled
from mask_lightning.pipelines.predict import writable
from mask_lightning.reports import report_figures, report_page
from mask_lightning.reports.curves import plot_curves
from mask_lightning.reports.faces import plot_faces
from mask_lightning.reports.page import Picture, figure_picture
from mask_lightning.reports.report_figures import Chart
from mask_lightning.reports.report_page import Report
from mask_lightning.reports.report_pictures import Album, make_album, rows_to_explain
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.evaluation import ReportSettings
from mask_lightning.utils.files import write_atomically

log = logging.getLogger(__name__)


def report_run(settings: ReportSettings, folder: Path) -> Report:
    """Judge a trained network on labelled photos, and leave report.html and its pictures in `folder`.

    Raises:
        MaskLightningError: whatever can be mended; before anything is written.
    """
    if (folder / report_page.FILE_NAME).exists():
        raise RunFolderError(f"{folder} already holds a report; name another folder, or none to get a new one")
    labelled = predict_labelled(
        settings.ckpt,
        data=settings.photos,
        batch_size=settings.batch_size,
        num_workers=settings.num_workers,
        accelerator=settings.accelerator,
        progress=settings.progress,
    )
    trained = load_trained(settings.ckpt, choose_device(settings.accelerator))
    report = make_report(labelled, trained, seed=settings.seed)
    with writable(folder):
        _save(report, folder)
    report_page.print_report(report, folder)
    return report


def make_report(labelled: Labelled, trained: Trained, *, seed: int = 0) -> Report:
    """Compute the numbers, then draw from them: the pass over the photos is over, but for those of the heat maps."""
    predictions = labelled.predictions
    evaluation = evaluate(predictions, temperatures_for(labelled), seed=seed)
    mistakes = find_mistakes(predictions)
    maps, unexplained = _explain(trained, predictions)
    charts = {**report_figures.draw_charts(predictions, evaluation), **_curves(labelled.folder, trained)}
    config: dict[str, Any] = trained.module.hparams.get("config") or {}
    augment = AugmentSpec(**config["augment"]) if "augment" in config else None
    return Report(
        title=labelled.folder.path.name if labelled.folder else Path(trained.source.checkpoint).name,
        judged_on=_judged_on(labelled, evaluation),
        predictions=predictions,
        evaluation=evaluation,
        mistakes=mistakes,
        charts={name: figure_picture(*chart) for name, chart in charts.items()},
        album=make_album(predictions, mistakes, maps, trained.spec, augment),
        facts=_facts(labelled, trained, config),
        trained_on=trained.module.hparams["class_counts"],
        known=_share_known(labelled),
        notes=notes([labelled], evaluation, None),
        unexplained=unexplained,
    )


def _explain(trained: Trained, predictions: Predictions) -> tuple[dict[str, npt.NDArray[np.float32]], str]:
    """Heat maps of the photos that are shown with them; where the network cannot be explained, none and why."""
    rows = rows_to_explain(predictions)
    photos = predictions.photos.iloc[rows].reset_index(drop=True)
    try:
        return heat_maps(trained, photos, {task: said[rows] for task, said in predictions.preds.items()}), ""
    except ConfigError as error:
        log.warning("no heat maps: %s", error)
        return {}, str(error)


def _curves(folder: RunFolder | None, trained: Trained) -> dict[str, Chart]:
    """The learning curves, where the run's folder has them."""
    if folder is None or not folder.metrics.is_file():
        return {}
    figure = plot_curves(pd.read_csv(folder.metrics), trained.module.phases, trained.space.names)
    return {"curves": Chart(figure, "Loss and macro F1 per epoch, on training photos and on held-out people")}


def _judged_on(labelled: Labelled, evaluation: Evaluation) -> str:
    whose = "whom it held out" if labelled.held_out else f"in {labelled.root}"
    return f"{evaluation.photos:,} photos of {evaluation.people:,} people {whose}"


def _share_known(labelled: Labelled) -> float | None:
    """Share of the training photos, unaugmented, that the run got right; None where these photos are not like them."""
    if labelled.folder is None or not labelled.held_out:
        return None
    return labelled.folder.read_result().best.get("clean_train/accuracy")


def _facts(labelled: Labelled, trained: Trained, config: dict[str, Any]) -> dict[str, str]:
    """What was trained, on what and when, as far as the checkpoint and its run's folder tell."""
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
    return {**facts, "judged on": str(labelled.root), "checkpoint": checkpoint}


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
    """The pictures, then the page: where it lies, the rest lies too."""
    pictures: dict[str, Picture] = {**report.charts, **_sheets(report.album)}
    for name, picture in pictures.items():
        write_atomically(folder / f"{name}.png", picture.content)
    page = report_page.render_report(report, today=date.today())
    write_atomically(folder / report_page.FILE_NAME, page.encode())


def _sheets(album: Album) -> dict[str, Picture]:
    """The groups of photos, one figure each."""
    return {
        name: figure_picture(plot_faces(group.faces, title=group.heading, columns=group.columns), group.heading)
        for name, group in album.sheets.items()
    }
