"""One evaluation from settings to what it leaves in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from mask_lightning.errors import RunFolderError
from mask_lightning.inference.prediction_file import FILE_NAME, write_predictions
from mask_lightning.inference.temperatures import Calibration, fitting_temperatures, write_calibration
from mask_lightning.metrics.bootstrap import Difference, Metric, compare
from mask_lightning.metrics.evaluation import Evaluation, evaluate, to_plain
from mask_lightning.pipelines.labelled import Labelled, predict_labelled_many, run_folder_of
from mask_lightning.pipelines.predict import writable
from mask_lightning.reports import evaluation_report
from mask_lightning.settings.evaluation import EvaluateSettings

Differences = Mapping[str, Mapping[Metric, Difference]]


def evaluate_run(settings: EvaluateSettings, folder: Path) -> Evaluation:
    """Evaluate a trained network, and leave evaluation.json, predictions.parquet and pictures in `folder`.

    Raises:
        MaskLightningError: whatever can be mended; before anything is predicted, where that is possible.
    """
    if (folder / evaluation_report.FILE_NAME).exists():
        raise RunFolderError(f"{folder} already holds an evaluation; name another folder, or none to get a new one")
    ckpts = [settings.ckpt, *([settings.against] if settings.against else [])]
    if settings.calibrate:
        _check_calibrates(settings.ckpt)
    started = perf_counter()
    ours, *others = predict_labelled_many(
        ckpts,
        data=settings.photos,
        tta=settings.tta,
        batch_size=settings.batch_size,
        num_workers=settings.num_workers,
        accelerator=settings.accelerator,
        progress=settings.progress,
    )
    predicted = perf_counter()
    evaluation = evaluate(ours.predictions, temperatures_for(ours), seed=settings.seed)
    differences = [compare(ours.predictions, other.predictions, seed=settings.seed) for other in others]
    with writable(folder):
        write_predictions(folder / FILE_NAME, ours.predictions)
        evaluation_report.save(folder, evaluation, _about(ours, others, differences))
    kept = _keep_temperatures(ours, evaluation) if settings.calibrate else None
    evaluation_report.print_evaluation(evaluation, _title(ours, evaluation))
    for other, difference in zip(others, differences, strict=True):
        evaluation_report.print_differences(_name(ours), _name(other), difference)
    evaluation_report.print_notes(notes([ours, *others], evaluation, kept))
    seconds = predicted - started, perf_counter() - predicted
    evaluation_report.print_files(folder, seconds, _next_command(settings))
    return evaluation


def _check_calibrates(ckpt: Path) -> None:
    """Temperatures are kept for what `predict ckpt=RUN` uses. Raises RunFolderError for any other checkpoint."""
    if run_folder_of(ckpt) is None:
        raise RunFolderError(f"calibrate=true needs the run that held people out, found only {ckpt}; name its folder")


def temperatures_for(labelled: Labelled) -> dict[str, float] | None:
    """Those kept with the checkpoint, on photos other than they were fitted on; None where there are none."""
    if labelled.held_out:
        return None
    (source,) = labelled.predictions.sources
    return fitting_temperatures(source, source.tta) or None


def _keep_temperatures(labelled: Labelled, evaluation: Evaluation) -> Path:
    (source,) = labelled.predictions.sources
    temperatures = {task: calibration.temperature for task, calibration in evaluation.calibration.items()}
    kept = Calibration(temperatures, source.sha256, source.tta, evaluation.people, evaluation.photos)
    return write_calibration(source.checkpoint, kept)


def _about(ours: Labelled, others: Sequence[Labelled], differences: Sequence[Differences]) -> dict[str, Any]:
    """Of what the numbers in evaluation.json are."""
    told = [
        {
            "run": str(each.folder.path) if each.folder else None,
            "seen": each.seen,
            **asdict(each.predictions.sources[0]),
        }
        for each in (ours, *others)
    ]
    compared = [{**about, "differences": to_plain(each)} for about, each in zip(told[1:], differences, strict=True)]
    return {"data": {"root": str(ours.root), "held_out": ours.held_out}, "network": told[0], "against": compared}


def _name(labelled: Labelled) -> str:
    return str(labelled.folder.path) if labelled.folder else labelled.predictions.sources[0].checkpoint


def _title(labelled: Labelled, evaluation: Evaluation) -> str:
    whose = "people whom it held out" if labelled.held_out else f"people in {labelled.root}"
    tta = labelled.predictions.sources[0].tta
    views = "" if tta == "none" else f", tta={tta}"
    return f"{_name(labelled)} on {evaluation.photos:,} photos of {evaluation.people:,} {whose}{views}"


def notes(everyone: Sequence[Labelled], evaluation: Evaluation, kept: Path | None) -> list[str]:
    """What a reader must know to trust the numbers."""
    told = [f"{_name(each)} {_seen(each)}" for each in everyone if each.seen != 0]
    for name, scores in evaluation.scores.items():
        if scores.absent and name in everyone[0].predictions.space.names:
            told.append(f"no photo truly is {name} {', '.join(scores.absent)}: such a class counts 0 in the macro F1")
    if evaluation.people == 1:
        told.append("a single person says nothing about others: no intervals")
    if kept is not None:
        told.append(
            f"{kept} holds the temperatures now, and predict applies them (calibrated=auto); they were fitted on all "
            "of these people, so the ECE after is from halves that did not fit it"
        )
    return told


def _seen(labelled: Labelled) -> str:
    if labelled.seen is None:
        return "does not tell whether it was trained on these photos: if so, its scores are too good"
    return f"was trained on {labelled.seen:,} of these photos: its scores are too good"


def _next_command(settings: EvaluateSettings) -> str:
    """With the photos that were named, if they were."""
    data = settings.data
    named = {"data": data.name if data.name != "auto" else None, "data.root": data.root, "data.table": data.table}
    told = [f"{option}={value}" for option, value in named.items() if settings.photos and value is not None]
    return " ".join([f"python -m mask_lightning.report ckpt={settings.ckpt}", *told])
