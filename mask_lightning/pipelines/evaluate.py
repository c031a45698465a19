"""Evaluate trained networks on labelled photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from mask_lightning.ensemble.cross_fit import FOLDS, cross_fitted_decision, person_folds
from mask_lightning.errors import PredictionsError, RunFolderError
from mask_lightning.inference.prediction_file import FILE_NAME, write_predictions
from mask_lightning.inference.temperatures import (
    Calibration,
    fitting_temperatures,
    require_corrections,
    write_calibration,
)
from mask_lightning.metrics.bootstrap import Difference, compare
from mask_lightning.metrics.calibration import fit_corrections
from mask_lightning.metrics.decisions import decide, decided_together
from mask_lightning.metrics.evaluation import Evaluation, evaluate, to_plain
from mask_lightning.metrics.scores import explain_mean
from mask_lightning.pipelines.labelled import LabelledPredictions, predict_labelled, run_folder_of
from mask_lightning.pipelines.output import refuse_existing, writable
from mask_lightning.reports import evaluation_report
from mask_lightning.settings.evaluation import EvaluateSettings

Differences = Mapping[str, Mapping[str, Difference]]


def evaluate_run(settings: EvaluateSettings, folder: Path) -> Evaluation:
    """Evaluate a trained network; write evaluation.json, predictions.parquet and figures into `folder`.

    Raises:
        MaskLightningError: the user can correct the cause; raised before anything is predicted if possible.
    """
    refuse_existing(folder, [evaluation_report.FILE_NAME])
    ckpts = [settings.ckpt, *([settings.against] if settings.against else [])]
    if settings.calibrate:
        _check_calibrates(settings.ckpt)
    started = perf_counter()
    found = predict_labelled(ckpts, settings, data=settings.photos, tta=settings.tta, engine=settings.engine)
    predicted = perf_counter()
    gain = None
    if settings.decision == "macro_f1":
        by_argmax, found = found[0].predictions, [decide_labelled(each) for each in found]
        gain = compare(found[0].predictions, by_argmax, seed=settings.seed)
    ours, *others = found
    evaluation = evaluate(ours.predictions, temperatures_for(ours), seed=settings.seed)
    differences = [compare(ours.predictions, other.predictions, seed=settings.seed) for other in others]
    with writable(folder):
        write_predictions(folder / FILE_NAME, ours.predictions)
        evaluation_report.save(folder, evaluation, _describe(ours, others, differences, gain))
    written = _write_temperatures(ours, evaluation) if settings.calibrate else None
    evaluation_report.print_evaluation(evaluation, _title(ours, evaluation))
    for other, difference in zip(others, differences, strict=True):
        evaluation_report.print_differences(_name(ours), _name(other), difference)
    if gain is not None:
        evaluation_report.print_differences("decision=macro_f1", "argmax", gain)
        evaluation_report.print_notes([_explain_decision(ours)])
    evaluation_report.print_notes(notes([ours, *others], evaluation, written))
    seconds = predicted - started, perf_counter() - predicted
    evaluation_report.print_files(folder, seconds, _next_command(settings))
    return evaluation


def _check_calibrates(ckpt: Path) -> None:
    """Raise RunFolderError unless the checkpoint is in a run folder, where predict looks for temperatures."""
    if run_folder_of(ckpt) is None:
        raise RunFolderError(f"calibrate=true needs the run that held people out, found only {ckpt}; name its folder")


def decide_labelled(labelled: LabelledPredictions) -> LabelledPredictions:
    """Decide by the largest expected macro F1, with probabilities that are calibrated on other people.

    Photos of held-out people are calibrated by cross-fitting, other photos as `evaluate calibrate=true` has stored.

    Raises:
        CheckpointError: nothing is stored.
        PredictionsError: a single person was held out.
    """
    predictions = labelled.predictions
    if not labelled.held_out:
        (source,) = predictions.sources
        return replace(labelled, predictions=decide(predictions, require_corrections([source], source.tta)))
    fold = person_folds(predictions)
    if fold is None:
        raise PredictionsError(
            "decision=macro_f1 calibrates on other held-out people, found a single person; hold out more, or set "
            "decision=argmax"
        )
    return replace(labelled, predictions=cross_fitted_decision(predictions, fold))


def _explain_decision(labelled: LabelledPredictions) -> str:
    groups = ", ".join(" x ".join(group.names) for group in decided_together(labelled.predictions.space))
    fitted = (
        f"cross-fitted over {FOLDS} folds of the people: each is calibrated on the others, decided without its labels"
        if labelled.held_out
        else "with the stored calibration, without their labels"
    )
    return f"decision=macro_f1 maximises the expected macro F1 of {groups}, {fitted}"


def temperatures_for(labelled: LabelledPredictions) -> dict[str, float] | None:
    """Return the stored temperatures per task; None if there are none, or if they were fitted on these photos."""
    if labelled.held_out:
        return None
    (source,) = labelled.predictions.sources
    return fitting_temperatures(source, source.tta) or None


def _write_temperatures(labelled: LabelledPredictions, evaluation: Evaluation) -> Path:
    (source,) = labelled.predictions.sources
    temperatures = {task: calibration.temperature for task, calibration in evaluation.calibration.items()}
    corrections = fit_corrections(labelled.predictions)
    fitted = Calibration(temperatures, source.sha256, source.tta, evaluation.people, evaluation.photos, corrections)
    return write_calibration(source.checkpoint, fitted)


def _describe(
    ours: LabelledPredictions,
    others: Sequence[LabelledPredictions],
    differences: Sequence[Differences],
    gain: Differences | None,
) -> dict[str, Any]:
    """Describe networks and photos for evaluation.json."""
    networks = [
        {
            "run": str(each.folder.path) if each.folder else None,
            "seen": each.seen,
            **asdict(each.predictions.sources[0]),
        }
        for each in (ours, *others)
    ]
    compared = [
        {**network, "differences": to_plain(each)} for network, each in zip(networks[1:], differences, strict=True)
    ]
    return {
        "data": {"root": str(ours.root), "held_out": ours.held_out},
        "decision": None if gain is None else {"rule": "macro_f1", "over_argmax": to_plain(gain)},
        "network": networks[0],
        "against": compared,
    }


def _name(labelled: LabelledPredictions) -> str:
    return str(labelled.folder.path) if labelled.folder else labelled.predictions.sources[0].checkpoint


def _title(labelled: LabelledPredictions, evaluation: Evaluation) -> str:
    whose = "people whom it held out" if labelled.held_out else f"people in {labelled.root}"
    tta = labelled.predictions.sources[0].tta
    augmented = "" if tta == "none" else f", tta={tta}"
    return f"{_name(labelled)} on {evaluation.photos:,} photos of {evaluation.people:,} {whose}{augmented}"


def notes(everyone: Sequence[LabelledPredictions], evaluation: Evaluation, calibration: Path | None) -> list[str]:
    """Return what a reader must know before trusting the numbers."""
    found = [f"{_name(each)} {_seen(each)}" for each in everyone if each.seen != 0]
    for name, scores in evaluation.scores.items():
        if scores.absent and name in everyone[0].predictions.space.names:
            found.append(
                f"no photo is labelled {name} {', '.join(scores.absent)}: such a class counts 0 in the macro F1"
            )
    if evaluation.why_mean is not None:
        found.append(explain_mean(evaluation.why_mean))
    if evaluation.people == 1:
        found.append("a single person says nothing about others: no intervals")
    if calibration is not None:
        found.append(
            f"{calibration} holds the temperatures that predict applies (calibrated=auto), fitted on all of these "
            "people; the ECE after calibration is of halves, each with the temperature of the other half"
        )
    return found


def _seen(labelled: LabelledPredictions) -> str:
    if labelled.seen is None:
        return "may have been trained on these photos: if so, its scores are too good"
    return f"was trained on {labelled.seen:,} of these photos: its scores are too good"


def _next_command(settings: EvaluateSettings) -> str:
    """Return the report command for the same photos."""
    data = settings.data
    named = {"data": data.name if data.name != "auto" else None, "data.root": data.root, "data.table": data.table}
    typed = [f"{option}={value}" for option, value in named.items() if settings.photos and value is not None]
    return " ".join([f"python -m mask_lightning.report ckpt={settings.ckpt}", *typed])
