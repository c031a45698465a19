"""Run the LR range test of a run: from settings to the curve, its files and the chosen learning rate."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mask_lightning.callbacks.lr_range_test import RangeTestResult, Suggestions, is_past_lowest, range_test, suggest
from mask_lightning.data.loading import worker_errors_in_one_line
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.engine.trainer import build_range_test_trainer, on_all_devices, without_advice
from mask_lightning.errors import ConfigError, NoSuggestionError, RunFolderError
from mask_lightning.pipelines.prepare import PreparedRun, prepare_run
from mask_lightning.reports import training_curves
from mask_lightning.reports.figures import save_figure
from mask_lightning.reports.run_report import print_portraits_banner
from mask_lightning.settings.train import TrainSettings
from mask_lightning.utils.files import write_atomically, write_json

STEM = "lr_range_test"


def find_lr(settings: TrainSettings, folder: Path, overrides: Sequence[str] = ()) -> float:
    """Run the LR range test of a run, write the curve into `folder`, and print the next command.

    Args:
        settings: options of the run.
        folder: of lr_range_test.png, .csv and .json.
        overrides: options as typed, repeated in the printed command.

    Returns:
        The suggested `optim.lr`.

    Raises:
        NoSuggestionError: the curve suggests no learning rate; it is written all the same.
        MaskLightningError: the user can correct the cause.
        KeyboardInterrupt: Ctrl-C.
    """
    for option, value in (("resume", settings.resume), ("inspect", settings.inspect)):
        if value:
            raise ConfigError(f"find_lr tests a run that is not started yet, found {option}={value}; leave it out")
    if not settings.finetune.phases:
        raise ConfigError("find_lr tests a phase of gradient steps, found finetune=probe, which has none; take another")
    run = prepare_run(settings)
    module = run.build_pretrained_module()
    if run.photos.drawn:
        print_portraits_banner(run.photos.root)
    lr = choose_lr(run, folder, module)
    training_curves.print_next(folder, _train_command(overrides, lr))
    return lr


def choose_lr(run: PreparedRun, folder: Path, module: MultiTaskModule) -> float:
    """Return the `optim.lr` that a range test of the module suggests, and write its curve into `folder`.

    Raises:
        NoSuggestionError: the curve suggests no learning rate; it is written all the same.
    """
    options = run.settings.range_test
    scale = run.settings.finetune.phases[options.phase - 1].lr_scale
    result = run_range_test(run, module)
    try:
        suggestions = suggest(result)
    except NoSuggestionError as error:
        _write(folder, result, None, {"reason": str(error), "phase": options.phase})
        raise
    found: float = getattr(suggestions, options.suggestion)
    chosen = {"lr": found / scale, "suggestion": options.suggestion, "phase": options.phase, "lr_scale": scale}
    _write(folder, result, suggestions, chosen)
    training_curves.print_suggestions(result, suggestions, options.suggestion)
    if is_past_lowest(result, found):
        raise NoSuggestionError(
            "past the lowest loss",
            f"at the {found:.2e} of {options.suggestion} the loss rises again; set range_test.suggestion to another",
        )
    return found / scale


def run_range_test(run: PreparedRun, module: MultiTaskModule) -> RangeTestResult:
    """Run the range test in the phase `range_test.phase`; the module keeps its weights.

    Raises:
        RangeTestError: there is nothing to train on.
        KeyboardInterrupt: Ctrl-C.
    """
    options, settings = run.settings.range_test, _one_phase(run.settings)
    own = {name: module.hparams[name] for name in ("optim", "schedule", "phases", "config")}
    data = replace(run, settings=settings).build_data()
    try:
        phases = settings.model_dump(mode="json")["finetune"]["phases"]
        # Any lr above 0: the range test keeps only the ratios between the param groups.
        module.plan(**{**own, "optim": {**own["optim"], "lr": 1.0}, "phases": phases})
        trainer = build_range_test_trainer(settings, data, module)
        task = {"settings": run.settings.model_dump(mode="json"), "folder": None, "lr": None}
        with without_advice(), worker_errors_in_one_line(), on_all_devices(trainer, settings.trainer, task):
            return range_test(
                trainer,
                module,
                data,
                start_lr=options.start_lr,
                end_lr=options.end_lr,
                num_steps=options.num_steps,
                progress=run.settings.trainer.progress,
            )
    finally:
        module.plan(**own)


def _one_phase(settings: TrainSettings) -> TrainSettings:
    """Return the settings of a run over the tested phase alone, without logger and progress bar."""
    phase = settings.finetune.phases[settings.range_test.phase - 1]
    quiet = {
        "finetune": settings.finetune.model_copy(update={"phases": [phase]}),
        "logger": settings.logger.model_copy(update={"name": "none"}),
        "trainer": settings.trainer.model_copy(update={"progress": False, "validate_every": "end"}),
    }
    return settings.model_copy(update=quiet)


def _write(folder: Path, result: RangeTestResult, suggestions: Suggestions | None, chosen: Mapping[str, Any]) -> None:
    """Write lr_range_test.png, .csv (a row per step) and .json (the suggestions, or why there are none)."""
    curve = {"lr": result.lrs, "loss": result.losses, "raw_loss": result.raw_losses}
    description = {name: value for name, value in asdict(result).items() if not isinstance(value, tuple)}
    description |= {"suggestions": asdict(suggestions) if suggestions else None, **chosen}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figure = training_curves.plot_lr_range(result, suggestions, chosen.get("suggestion"))
        save_figure(figure, folder / f"{STEM}.png")
        write_atomically(folder / f"{STEM}.csv", pd.DataFrame(curve).to_csv(index=False).encode())
        write_json(folder / f"{STEM}.json", description)
    except OSError as error:
        raise RunFolderError(f"cannot write to {folder} ({error.strerror}); set outputs to another folder") from error


def _train_command(overrides: Sequence[str], lr: float) -> str:
    typed = [override for override in overrides if not override.startswith(("optim.lr=", "range_test.", "hydra."))]
    return shlex.join(["python", "-m", "mask_lightning.train", *typed, f"optim.lr={lr:.2e}"])
