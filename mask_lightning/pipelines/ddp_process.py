"""`python -m mask_lightning.pipelines.ddp_process`: one of the other processes of a run on several devices; `parallel` starts it."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from mask_lightning.engine import trainer as trainers
from mask_lightning.pipelines import find_lr as range_test_runs
from mask_lightning.pipelines import prepare as assembly
from mask_lightning.pipelines.run_trainer import build_run_trainer, fit
from mask_lightning.pipelines.usable_photos import usable_photos
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.base import check
from mask_lightning.settings.train import TrainSettings
from mask_lightning.utils.system import ignore_signals


def main(task: Mapping[str, Any]) -> None:
    """The same fit as rank 0's, of `parallel.other_ranks`. The weights to begin with come from there, by DDP."""
    settings = check(TrainSettings, task["settings"])
    photos, spec = assembly.find_photos(settings), assembly.transform_spec(settings)
    if settings.data.on_bad_photo == "skip":
        photos = usable_photos(settings, photos)
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    module = assembly.build_module(settings, photos, spec, found_lr=task["lr"])
    if task["folder"] is None:
        range_test_runs.sweep(settings, photos, module)
        return
    folder = RunFolder(Path(task["folder"]))
    data = assembly.build_data(settings, photos, spec, assembly.open_cache(settings, photos, spec))
    with trainers.without_advice():
        fit(build_run_trainer(settings, folder, data, module), settings, folder, module, data, resume=task["resume"])


def _end_with_rank_zero() -> None:
    """Its end of the pipe closes however it ends."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    ignore_signals("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")  # rank 0 decides
    line = sys.stdin.readline()
    threading.Thread(target=_end_with_rank_zero, daemon=True).start()
    main(json.loads(line))
