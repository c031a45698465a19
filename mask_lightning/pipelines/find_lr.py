"""The learning rate range test of a run: from settings to a curve, its files, and the lr that is taken."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from mask_lightning.callbacks.lr_range_test import RangeTestResult, Suggestions, range_test, suggest
from mask_lightning.callbacks.lr_suggestions import is_past_lowest
from mask_lightning.data.loading import worker_errors_in_one_line
from mask_lightning.engine import trainer as trainers
from mask_lightning.engine.ddp import other_ranks
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.errors import ConfigError, NoSuggestionError, RunFolderError
from mask_lightning.pipelines import prepare as assembly
from mask_lightning.pipelines.usable_photos import usable_photos
from mask_lightning.reports import lr_range, run_report
from mask_lightning.reports.figures import save_figure
from mask_lightning.settings.train import TrainSettings
from mask_lightning.utils.files import write_atomically, write_json

STEM = "lr_range_test"


def find_lr(settings: TrainSettings, folder: Path, overrides: Sequence[str] = ()) -> float:
    """Test the learning rates of a run, leave the curve in `folder`, and print what to type next.

    Raises:
        NoSuggestionError: the curve carries none; it is written all the same.
        MaskLightningError: whatever else the user can mend.
        KeyboardInterrupt: after Ctrl-C.
    """
    for option, value in (("resume", settings.resume), ("inspect", settings.inspect)):
        if value:
            raise ConfigError(f"find_lr tests a run that is still to begin, found {option}={value}; leave it out")
    spec = assembly.transform_spec(settings)
    photos = usable_photos(settings, assembly.find_photos(settings))
    module = assembly.build_pretrained_module(settings, photos, spec)
    if photos.drawn:
        run_report.print_portraits_banner(photos.root)
    lr = choose_lr(settings, folder, photos, module)
    lr_range.print_next(folder, _train_command(overrides, lr))
    return lr


def choose_lr(settings: TrainSettings, folder: Path, photos: assembly.Photos, module: MultiTaskModule) -> float:
    """The `optim.lr` that a range test of this module suggests; lr_range_test.png, .csv and .json tell why.

    Raises:
        NoSuggestionError: the curve carries none; it is written all the same.
    """
    options = settings.range_test
    scale = settings.finetune.phases[options.phase - 1].lr_scale
    result = sweep(settings, photos, module)
    try:
        suggestions = suggest(result)
    except NoSuggestionError as error:
        _write(folder, result, None, {"reason": str(error), "phase": options.phase})
        raise
    found: float = getattr(suggestions, options.suggestion)
    chosen = {"lr": found / scale, "suggestion": options.suggestion, "phase": options.phase, "lr_scale": scale}
    _write(folder, result, suggestions, chosen)
    lr_range.print_suggestions(result, suggestions, options.suggestion)
    if is_past_lowest(result, found):
        raise NoSuggestionError(
            "past the lowest loss",
            f"at the {found:.2e} of {options.suggestion} the loss rises again; set range_test.suggestion to another",
        )
    return found / scale


def sweep(settings: TrainSettings, photos: assembly.Photos, module: MultiTaskModule) -> RangeTestResult:
    """The range test of the phase `range_test.phase` on usable photos, with the weights that the module has and keeps.

    Raises:
        RangeTestError: nothing to train on.
        KeyboardInterrupt: after Ctrl-C.
    """
    options = settings.range_test
    alone = _one_phase(settings)
    plain = alone.model_dump(mode="json")
    own = {name: module.hparams[name] for name in ("optim", "schedule", "phases", "config")}
    spec = assembly.transform_spec(alone)
    cache = assembly.open_cache(settings, photos, spec, tell=False)  # `usable_photos` has
    data = assembly.build_data(alone, photos, spec, cache)
    try:
        # any lr above 0: the sweep keeps the groups' ratios alone
        module.plan(**{**own, "optim": {**own["optim"], "lr": 1.0}, "phases": plain["finetune"]["phases"]})
        trainer = trainers.build_trainer(alone, Path(), trainers.learning_callbacks(data, module))
        task = {"settings": settings.model_dump(mode="json"), "folder": None, "lr": None}
        computing, others = trainers.computing(trainer, alone.trainer), other_ranks(trainer.world_size, task)
        with trainers.without_advice(), worker_errors_in_one_line(), others, computing:
            return range_test(
                trainer,
                module,
                data,
                start_lr=options.start_lr,
                end_lr=options.end_lr,
                num_steps=options.num_steps,
                progress=settings.trainer.progress,
            )
    finally:
        module.plan(**own)


def _one_phase(settings: TrainSettings) -> TrainSettings:
    """The settings of a run over the tested phase alone, which logs and shows nothing."""
    phase = settings.finetune.phases[settings.range_test.phase - 1]
    quiet = {
        "finetune": settings.finetune.model_copy(update={"phases": [phase]}),
        "logger": settings.logger.model_copy(update={"name": "none"}),
        "trainer": settings.trainer.model_copy(update={"progress": False, "validate_every": "end"}),
    }
    return settings.model_copy(update=quiet)


def _write(folder: Path, result: RangeTestResult, suggestions: Suggestions | None, chosen: Mapping[str, Any]) -> None:
    """lr_range_test.png, .csv (a row per step) and .json (what is suggested and taken, or why nothing is)."""
    curve = {"lr": result.lrs, "loss": result.losses, "raw_loss": result.raw_losses}
    about = {name: value for name, value in asdict(result).items() if not isinstance(value, tuple)}
    about |= {"suggestions": asdict(suggestions) if suggestions else None, **chosen}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figure = lr_range.plot_lr_range(result, suggestions, chosen.get("suggestion"))
        save_figure(figure, folder / f"{STEM}.png")
        write_atomically(folder / f"{STEM}.csv", pd.DataFrame(curve).to_csv(index=False).encode())
        write_json(folder / f"{STEM}.json", about)
    except OSError as error:
        raise RunFolderError(f"cannot write to {folder} ({error.strerror}); set outputs to another folder") from error


def _train_command(overrides: Sequence[str], lr: float) -> str:
    typed = [override for override in overrides if not override.startswith(("optim.lr=", "range_test.", "hydra."))]
    return shlex.join(["python", "-m", "mask_lightning.train", *typed, f"optim.lr={lr:.2e}"])
