"""Train a run: prepare it, fit it into its folder, resume it, or inspect it."""

from __future__ import annotations

import logging
import platform
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import timm
import torch
import torchvision
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.utilities.exceptions import SIGTERMException

from mask_lightning import __version__
from mask_lightning.callbacks.pruning import Pruning
from mask_lightning.data.loading import worker_errors_in_one_line
from mask_lightning.engine.checkpoint_files import keep_weights
from mask_lightning.engine.loggers import check_logger, closing_tracker, log_figures
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.engine.trainer import build_trainer, fitting, without_advice
from mask_lightning.errors import ConfigError, RunFolderError, Terminated
from mask_lightning.pipelines.find_lr import choose_lr
from mask_lightning.pipelines.photos import find_photos, record_extra, record_split, restore_photos
from mask_lightning.pipelines.prepare import PreparedRun, choose_transform, prepare_run
from mask_lightning.pipelines.probe import Probe, fit_probe, score_probe
from mask_lightning.reports import run_report
from mask_lightning.reports.run_report import print_inspection
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.runs.photos import fingerprint
from mask_lightning.settings.base import check
from mask_lightning.settings.identity import config_hash
from mask_lightning.settings.train import TrainSettings
from mask_lightning.sweeps.studies import StudyTrial, current_trial
from mask_lightning.utils.launch import find_launch
from mask_lightning.utils.system import raise_on_sigterm

log = logging.getLogger(__name__)


def train_run(settings: TrainSettings, path: Path, overrides: Sequence[str] = ()) -> RunResult:
    """Train a network from its pretrained weights, and write the run into the folder `path`.

    Args:
        settings: all options.
        path: a folder that holds no run yet.
        overrides: options as typed, for the record.

    Raises:
        MaskLightningError: the user can correct the cause; raised before training if possible.
        KeyboardInterrupt: Ctrl-C or SIGTERM (`Terminated`); the run can be resumed.
    """
    check_logger(settings.logger, settings.outputs)
    identity = config_hash(settings)
    with _recorded_preparation(settings, path, overrides=overrides, config_hash=identity):
        run = prepare_run(settings)
        module = run.build_pretrained_module()
    return fit_run(run, claim_run(run, path, module, overrides=overrides, config_hash=identity), module)


def claim_run(
    run: PreparedRun, path: Path, module: MultiTaskModule, *, overrides: Sequence[str] = (), config_hash: str = ""
) -> RunFolder:
    """Create the folder `path` with the record of a run that is about to start.

    Args:
        run: settings, photos, transform and cache.
        path: a folder that holds no run yet.
        module: network with the weights to start from; its `lineage` is recorded.
        overrides: options as typed, for the record.
        config_hash: identity of the run, by which sweeps skip it when it is finished; empty for weights whose history
            the settings do not describe.

    Raises:
        RunFolderError: there is a run already, or the folder cannot be written.
    """
    settings, folder = run.settings, RunFolder(path)
    record = RunResult(
        status="running",
        monitor=settings.monitor,
        overrides=list(overrides),
        weights=" -> ".join(module.lineage),
        pretrained=module.pretrained,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        data={
            **run.photos.describe(),
            "fingerprint": fingerprint(run.found.everyone),
            **({"soft_targets": run.soft.record} if run.soft else {}),
        },
        versions=_versions(),
        config_hash=config_hash,
    )
    folder.claim(settings.model_dump(mode="json"), record)
    module.lineage.append(str(path))
    return folder


def fit_run(run: PreparedRun, folder: RunFolder, module: MultiTaskModule, *, resume: bool = False) -> RunResult:
    """Train a module as the run's settings say, keep result.json up to date whatever happens, and write the figures.

    A run without phases is scored with the heads that `finetune=probe` has fitted.

    Args:
        run: settings, photos, transform and cache.
        folder: folder from `claim_run`; with `resume`, of the run that is continued.
        module: network with the weights to start from.
        resume: continue from the last checkpoint.

    Raises:
        MaskLightningError, KeyboardInterrupt: as `train_run`.
    """
    settings, probe = run.settings, None
    with folder.held(), folder.written():
        if resume:
            folder.update_result(status="running", error=None)
        else:
            record_split(folder, run.found)
            if run.soft:
                record_extra(folder, run.soft.extra)
            probe = _fit_probe(run, folder, module) if settings.finetune.probe else None
            if settings.optim.lr == "auto":
                _set_found_lr(run, folder, module)
        if run.photos.drawn:
            run_report.print_portraits_banner(run.photos.root)
        with _recorded(folder, dict), raise_on_sigterm():
            data, trial = run.build_data(), current_trial(settings.monitor)
            schedule = LambdaCallback(on_train_start=partial(run_report.save_schedule, folder.path))
            pruning = Pruning(settings.monitor, trial.report if trial else None)
            callbacks = [schedule, *([pruning] if trial else [])]
            trainer = build_trainer(settings, folder, data, module, callbacks)
            if trial and resume:
                _report_earlier_epochs(trial, folder)
        earlier, started = folder.read_result(), perf_counter()

        def progress() -> dict[str, Any]:
            seconds = round(earlier.seconds + perf_counter() - started, 1)
            return {**trainer.describe(), "score_of": module.score_of or earlier.score_of, "seconds": seconds}

        with closing_tracker(trainer.trainer.logger):
            with _recorded(folder, progress):
                if probe is not None and not module.phases:
                    with raise_on_sigterm():
                        score_probe(probe, run, trainer, folder, module, data)
                else:
                    with raise_on_sigterm():
                        run_report.save_augmented(folder.path, data, module.space)
                    with fitting(trainer, settings, folder, resume=resume, found_lr=earlier.lr) as checkpoint:
                        trainer.trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
            result = _finish(settings, folder, {**progress(), "status": "pruned" if pruning.pruned else "finished"})
            if trial:
                trial.describe(run=folder.path, pruned=pruning.pruned)
            run_report.save_figures(folder.path, pd.read_csv(folder.metrics), module, trainer.best.evidence)
            log_figures(trainer.trainer.logger, folder.path, step=trainer.trainer.global_step)
        run_report.print_result(folder, result, module.space)
        return result


def resume_run(path: Path, overrides: Sequence[str] = (), settings: TrainSettings | None = None) -> RunResult:
    """Continue the run in `path` from its last checkpoint, with its own options.

    Args:
        path: folder of an interrupted or failed run.
        overrides: options as typed; anything beside `resume` is refused.
        settings: take the place of the recorded options; they may differ in paths, device and workers only.

    Raises:
        ConfigError: options beside `resume`.
        RunFolderError: no run there, nothing to resume, or other photos than it was trained on.
    """
    others = [override for override in overrides if not override.lstrip("+~").startswith(("resume=", "hydra."))]
    if others:
        raise ConfigError(f"resume takes the run's own config, found {others[0]} beside it; leave that out")
    folder = RunFolder(path)
    settings, earlier = settings or _read_settings(folder), folder.read_result()
    if earlier.status == "finished":
        raise RunFolderError(f"{path} is finished (score {earlier.score}); start a new run instead")
    if not folder.last.is_file():
        raise RunFolderError(f"expected a checkpoint at {folder.last}, found none; start the run anew")
    check_logger(settings.logger, settings.outputs)
    with raise_on_sigterm():
        run = prepare_run(settings, restore_photos(settings, folder), recorded=earlier)
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    module = run.build_module(found_lr=earlier.lr)
    return fit_run(run, folder, module, resume=True)


def _read_settings(folder: RunFolder) -> TrainSettings:
    """Read the recorded options of a run; torchrun may start it again with other processes than before."""
    settings, launch = check(TrainSettings, folder.read_config()), find_launch()
    anew = {"devices": 1, "num_nodes": 1} if launch else {}
    return settings.model_copy(update={"trainer": settings.trainer.model_copy(update=anew)}).on(launch)


def inspect_run(settings: TrainSettings) -> None:
    """Print layers, layer groups, schedule and split of a run; train nothing and write no run folder."""
    transform, photos = choose_transform(settings), find_photos(settings)
    run = PreparedRun(settings, transform, found=photos, photos=photos)
    data = run.build_data()
    print_inspection(run.build_module(), data.split, transform, len(data.train_dataloader()))


def _fit_probe(run: PreparedRun, folder: RunFolder, module: MultiTaskModule) -> Probe:
    """Fit the heads by logistic regression, and record its strengths."""
    started = perf_counter()
    with _recorded(folder, dict), raise_on_sigterm():
        probe = fit_probe(run, module)
    folder.update_result(
        probe={"strengths": probe.strengths, "scores": probe.scores}, seconds=round(perf_counter() - started, 1)
    )
    return probe


def _set_found_lr(run: PreparedRun, folder: RunFolder, module: MultiTaskModule) -> None:
    """Run the LR range test of `optim.lr=auto`, record its lr, and give it to the module."""
    with _recorded(folder, dict):
        lr = choose_lr(run, folder.path, module)
    folder.update_result(lr=lr)
    log.info("optim.lr=auto found %.3g (%s)", lr, run.settings.range_test.suggestion)
    plain = run.settings.model_dump(mode="json")
    module.plan(
        optim={**plain["optim"], "lr": lr},
        schedule=plain["schedule"],
        phases=plain["finetune"]["phases"],
        config=plain,
    )


def _report_earlier_epochs(trial: StudyTrial, folder: RunFolder) -> None:
    """Report the scores of the epochs before a resume, as the pruner compares epochs."""
    if folder.metrics.is_file():
        metrics = pd.read_csv(folder.metrics)
        for epoch, score in zip(metrics["epoch"], metrics.get(trial.monitor, ()), strict=False):
            trial.report(int(epoch) + 1, float(score))


@contextmanager
def _recorded_preparation(
    settings: TrainSettings, path: Path, *, overrides: Sequence[str], config_hash: str
) -> Iterator[None]:
    """Write a record of a run that Ctrl-C or SIGTERM ends in the block; a mistake leaves no folder."""
    try:
        with raise_on_sigterm():
            yield
    except (KeyboardInterrupt, SystemExit):
        record = RunResult(
            status="interrupted",
            monitor=settings.monitor,
            overrides=list(overrides),
            versions=_versions(),
            config_hash=config_hash,
        )
        try:
            RunFolder(path).claim(settings.model_dump(mode="json"), record)
            run_report.print_interrupted(RunFolder(path))
        except RunFolderError as error:
            log.warning("cannot record that the run is interrupted: %s", error)
        raise


@contextmanager
def _recorded(folder: RunFolder, progress: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """Write whatever ends the block early to result.json, with the fields that `progress` returns.

    Ctrl-C and SIGTERM, which Lightning turns into an exit, are raised as KeyboardInterrupt and Terminated. Another
    exit, such as that of submitit when a cluster preempts the job, stays an exit: its code says that the job was queued
    again.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        with without_advice(), worker_errors_in_one_line():
            yield
    except (KeyboardInterrupt, SystemExit) as stop:
        signal.signal(signal.SIGINT, handler)  # Lightning leaves a handler that ignores a second Ctrl-C
        _update_record(folder, status="interrupted", **progress())
        run_report.print_interrupted(folder)
        if type(stop) is SystemExit and not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        raise (Terminated if isinstance(stop, (SIGTERMException, Terminated)) else KeyboardInterrupt) from stop
    except BaseException as error:
        _update_record(folder, status="failed", error=f"{type(error).__name__}: {error}", **progress())
        run_report.print_interrupted(folder)
        raise


def _update_record(folder: RunFolder, **changes: Any) -> None:
    """Update result.json; if that fails too, log it, as the error that ended the run matters more."""
    try:
        folder.update_result(**changes)
    except (OSError, RunFolderError) as error:
        log.warning("cannot record in result.json that the run is %s: %s", changes["status"], error)


def _finish(settings: TrainSettings, folder: RunFolder, scores: Mapping[str, Any]) -> RunResult:
    """Record that the run has ended with these scores and status, and remove what `checkpoint.keep` does not keep.

    The order matters: after a crash between two steps the run can still be resumed.
    """
    keep_best_only = settings.checkpoint.keep == "best"
    if keep_best_only:
        keep_weights(folder.best, half=settings.checkpoint.half)
    result = folder.update_result(error=None, **scores)
    if keep_best_only:
        folder.last.unlink(missing_ok=True)  # a probe has none
    return result


def _versions() -> dict[str, str]:
    return {
        "mask_lightning": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "pytorch_lightning": version("pytorch-lightning"),
        "timm": timm.__version__,
    }
