"""One training run from settings to RunResult."""

from __future__ import annotations

import logging
import platform
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import timm
import torch
import torchvision
from pytorch_lightning.utilities.exceptions import SIGTERMException

from mask_lightning import __version__
from mask_lightning.callbacks.checkpoints import keep_weights
from mask_lightning.data.loading import worker_errors_in_one_line
from mask_lightning.engine import trainer as trainers
from mask_lightning.engine.modules import MultiTaskModule
from mask_lightning.errors import ConfigError, RunFolderError, Terminated
from mask_lightning.pipelines import find_lr as range_test_runs
from mask_lightning.pipelines import prepare as assembly
from mask_lightning.pipelines.run_photos import check_photos, record_split
from mask_lightning.pipelines.run_trainer import build_run_trainer, fit
from mask_lightning.pipelines.usable_photos import usable_photos
from mask_lightning.reports import inspection, run_report
from mask_lightning.runs.folder import RunFolder, RunResult
from mask_lightning.runs.photos import fingerprint
from mask_lightning.settings.base import check
from mask_lightning.settings.identity import config_hash
from mask_lightning.settings.train import TrainSettings

log = logging.getLogger(__name__)


def train_run(settings: TrainSettings, path: Path, overrides: Sequence[str] = ()) -> RunResult:
    """Train a network as `settings` say and leave everything about it in the folder `path`.

    Raises:
        MaskLightningError: what the user can mend; before anything is trained, where that is possible.
        KeyboardInterrupt: after Ctrl-C, with the last checkpoint named.
    """
    spec = assembly.transform_spec(settings)  # first, as it knows the backbone before any portrait is drawn
    photos = assembly.find_photos(settings)
    usable = usable_photos(settings, photos)
    module = assembly.build_pretrained_module(settings, usable, spec)
    return fit_module(
        settings, path, photos, module, usable=usable, overrides=overrides, config_hash=config_hash(settings)
    )


def fit_module(
    settings: TrainSettings,
    path: Path,
    photos: assembly.Photos,
    module: MultiTaskModule,
    *,
    usable: assembly.Photos | None = None,
    overrides: Sequence[str] = (),
    config_hash: str = "",
) -> RunResult:
    """Train a module that stands already, planned as `settings` say, and leave everything about it in `path`.

    `usable` are those of the photos that can be decoded, where that is known. Without a `config_hash` no sweep takes
    this run for one of its own: that is for weights whose past `settings` do not tell.

    Raises:
        MaskLightningError, KeyboardInterrupt: as `train_run`.
    """
    folder, usable = RunFolder(path), usable or usable_photos(settings, photos)
    started = RunResult(
        status="running",
        monitor=settings.monitor,
        overrides=list(overrides),
        weights=" -> ".join(module.lineage),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        data={**usable.describe(), "fingerprint": fingerprint(photos.everyone)},
        versions=_versions(),
        config_hash=config_hash,
    )
    folder.claim(settings.model_dump(mode="json"), started)
    module.lineage.append(str(path))
    with folder.held(), folder.written():
        record_split(folder, photos)
        if settings.optim.lr == "auto":
            _set_found_lr(settings, folder, usable, module)
        return _fit(settings, folder, usable, module, resume=False)


def resume_run(path: Path, overrides: Sequence[str] = (), settings: TrainSettings | None = None) -> RunResult:
    """Go on with the run in `path` from its last checkpoint, with its own config.

    `settings`, where given, take the place of that config: equal but for paths, device and workers.

    Raises:
        ConfigError: options beside `resume`.
        RunFolderError: no run there, nothing to resume, or other photos than it was trained on.
    """
    others = [override for override in overrides if not override.lstrip("+~").startswith(("resume=", "hydra."))]
    if others:
        raise ConfigError(f"resume takes the run's own config, found {others[0]} beside it; leave that out")
    folder = RunFolder(path)
    settings, earlier = settings or check(TrainSettings, folder.read_config()), folder.read_result()
    if earlier.status == "finished":
        raise RunFolderError(f"{path} is finished (score {earlier.score}); start a new run instead")
    if not folder.last.is_file():
        raise RunFolderError(f"expected a checkpoint at {folder.last}, found none; start the run anew")
    photos = assembly.find_photos(settings)
    check_photos(folder, photos)
    photos = usable_photos(settings, photos)
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    module = assembly.build_module(settings, photos, assembly.transform_spec(settings), found_lr=earlier.lr)
    with folder.held(), folder.written():
        folder.update_result(status="running", error=None)
        return _fit(settings, folder, photos, module, resume=True)


def inspect_run(settings: TrainSettings) -> None:
    """Print what a run would be; train nothing."""
    photos = assembly.find_photos(settings)
    spec = assembly.transform_spec(settings)
    data = assembly.build_data(settings, photos, spec)
    module = assembly.build_module(settings, photos, spec)
    inspection.print_inspection(module, data.split, spec, len(data.train_dataloader()))


def _set_found_lr(settings: TrainSettings, folder: RunFolder, photos: assembly.Photos, module: MultiTaskModule) -> None:
    """`optim.lr=auto`: the lr that a range test suggests becomes the schedule's top."""
    with _recorded(folder, dict):
        lr = range_test_runs.choose_lr(settings, folder.path, photos, module)
    folder.update_result(lr=lr)
    log.info("optim.lr=auto found %.3g (%s)", lr, settings.range_test.suggestion)
    plain = settings.model_dump(mode="json")
    module.plan(
        optim={**plain["optim"], "lr": lr},
        schedule=plain["schedule"],
        phases=plain["finetune"]["phases"],
        config=plain,
    )


def _fit(
    settings: TrainSettings,
    folder: RunFolder,
    photos: assembly.Photos,
    module: MultiTaskModule,
    *,
    resume: bool,
) -> RunResult:
    if photos.drawn:
        run_report.print_portraits_banner(photos.root)
    spec = assembly.transform_spec(settings)
    with _recorded(folder, dict):
        cache = assembly.open_cache(settings, photos, spec, tell=False)  # `usable_photos` has
        data = assembly.build_data(settings, photos, spec, cache)
        run = build_run_trainer(settings, folder, data, module)
    earlier = folder.read_result()
    started = perf_counter()

    def so_far() -> dict[str, Any]:
        return {
            "best": run.best.scores,
            "best_epoch": None if run.best.epoch is None else run.best.epoch + 1,
            "last": run.best.latest,
            "seconds": round(earlier.seconds + perf_counter() - started, 1),
            "photos_per_second": round(run.throughput.photos_per_second, 2),
        }

    with _recorded(folder, so_far):
        run_report.save_augmented(folder.path, data, module.space)
        fit(run, settings, folder, module, data, resume=resume, found_lr=earlier.lr)
    result = _finish(settings, folder, so_far())
    history = pd.read_csv(folder.metrics)
    run_report.save_figures(folder.path, history, module, run.best.evidence)
    run_report.print_result(folder, result, module.space)
    return result


@contextmanager
def _recorded(folder: RunFolder, so_far: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """Whatever ends the fit early is written to result.json; Ctrl-C comes out as KeyboardInterrupt.

    So does SIGTERM, which Lightning makes an exit, as Terminated. An exit that someone else asks for, as a cluster's
    preemption through submitit does, stays one: its code says that the job was queued again.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        with trainers.without_advice(), worker_errors_in_one_line():
            yield
    except (KeyboardInterrupt, SystemExit) as stop:
        signal.signal(signal.SIGINT, handler)  # Lightning ignores a second Ctrl-C
        _note(folder, status="interrupted", **so_far())
        run_report.print_interrupted(folder)
        if type(stop) is SystemExit and not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        raise (Terminated if isinstance(stop, SIGTERMException) else KeyboardInterrupt) from stop
    except BaseException as error:
        _note(folder, status="failed", error=f"{type(error).__name__}: {error}", **so_far())
        run_report.print_interrupted(folder)
        raise


def _note(folder: RunFolder, **changes: Any) -> None:
    """Update the record of a run that ends early; where that cannot be written, what ended the run is what matters."""
    try:
        folder.update_result(**changes)
    except (OSError, RunFolderError) as error:
        log.warning("result.json cannot tell that the run is %s: %s", changes["status"], error)


def _finish(settings: TrainSettings, folder: RunFolder, scores: Mapping[str, Any]) -> RunResult:
    """Keep what is to be kept, in an order in which a crash costs no training: until it is done it can be resumed."""
    keep_best_alone = settings.checkpoint.keep == "best"
    if keep_best_alone:
        keep_weights(folder.best, half=settings.checkpoint.half)
    result = folder.update_result(status="finished", error=None, **scores)
    if keep_best_alone:
        folder.last.unlink()
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
