"""One of the other processes of a run on several devices; `engine.ddp` or torchrun starts it.

It repeats what the process of rank 0 does, writes no files, and receives the first weights from there by DDP.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from mask_lightning.callbacks.pruning import Pruning
from mask_lightning.engine import torchrun
from mask_lightning.engine.trainer import build_trainer, fitting, without_advice
from mask_lightning.pipelines.find_lr import run_range_test
from mask_lightning.pipelines.photos import restore_photos
from mask_lightning.pipelines.prepare import prepare_run
from mask_lightning.runs.folder import RunFolder
from mask_lightning.settings.base import check
from mask_lightning.settings.train import TrainSettings
from mask_lightning.utils.system import ignore_signals


def main(task: Mapping[str, Any]) -> None:
    """Fit the run, or run its LR range test if `task` names no folder.

    Args:
        task: `settings` (plain values), `folder` (None for a range test), `lr` (found by a range test or None),
            `resume` and `prunes`, as given to `engine.ddp.other_ranks`.
    """
    settings = check(TrainSettings, task["settings"])
    folder = None if task["folder"] is None else RunFolder(Path(task["folder"]))
    # Without skipping, rank 0 has found that all photos can be decoded.
    run = prepare_run(
        settings,
        None if folder is None else restore_photos(settings, folder),
        look_for_broken=settings.data.on_bad_photo == "skip",
        recorded=None if folder is None else folder.read_result(),
    )
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    module = run.build_module(found_lr=task["lr"])
    if folder is None:
        run_range_test(run, module)
        return
    data = run.build_data()
    with without_advice():
        trainer = build_trainer(settings, folder, data, module, [Pruning(settings.monitor)] if task["prunes"] else [])
        with fitting(trainer, settings, folder, resume=task["resume"]) as checkpoint:
            trainer.trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)


def follow() -> int:
    """Take part in the fits of the process of rank 0 until its command ends; torchrun has started both.

    Returns:
        Exit code of the command.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):  # rank 0 prints, in the format of the command
        logging.getLogger(name).setLevel(logging.WARNING)
    return torchrun.follow(main)


def _exit_with_rank_zero() -> None:
    """Exit as soon as rank 0 closes its end of the pipe, however it ends."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    ignore_signals("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")  # rank 0 decides
    line = sys.stdin.readline()
    threading.Thread(target=_exit_with_rank_zero, daemon=True).start()
    main(json.loads(line))
